"""The memory plan: what fits is used, what does not is refused with both numbers."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from tests.support.tiny_gguf import write_tiny_gguf
from trunkline.core.errors import InvalidRequest
from trunkline.engine.config import EngineConfig
from trunkline.engine.executors import memory
from trunkline.engine.executors.cpus import physical_cores
from trunkline.engine.executors.memory import (
    Layout,
    available_memory,
    compute_bytes,
    ggml_cost,
    native_cost,
    plan_layout,
)
from trunkline.formats.gguf_facts import ModelFacts, read_facts

GIB = 1024**3
UBATCH = 512


@pytest.fixture
def facts(tmp_path: Path) -> ModelFacts:
    """The shape of Qwen3-0.6B."""
    tiny = read_facts(write_tiny_gguf(tmp_path / "tiny.gguf"))
    return msgspec.structs.replace(
        tiny,
        context=40_960,
        embedding=1024,
        feed_forward=3072,
        vocab_size=151_936,
        weight_bytes=640 * 1024**2,
        kv_bytes_per_token=114_688,
    )


def plan(facts: ModelFacts, available: int, ctx: int = 0, kv: int = 0, rows: int = 64) -> Layout:
    config = EngineConfig(name="m", model="m.gguf", ctx_size=ctx, kv_memory=kv, max_num_seqs=rows)
    return plan_layout(facts, config, available, ggml_cost(facts, config))


def test_defaults_take_a_quarter_at_most_four_gib(facts: ModelFacts) -> None:
    each = facts.kv_bytes_per_token + 2 * UBATCH
    large = plan(facts, 64 * GIB)
    assert 4 * GIB - 256 * each < large.cells * each <= 4 * GIB
    assert large.context == large.cells < 40_960
    small = plan(facts, 8 * GIB)
    assert 2 * GIB - 256 * each < small.cells * each <= 2 * GIB
    assert small.cells % 256 == 0
    assert small.need <= 8 * GIB


def test_outputs(facts: ModelFacts) -> None:
    layout = plan(facts, 64 * GIB)
    # Room for scores is there without more memory, unless all sequences may be rows.
    assert (layout.sequences, layout.outputs, layout.scores) == (256, 256, 110)
    crowded = plan(facts, 64 * GIB, rows=256)
    assert crowded.outputs == 256 + 110
    assert crowded.need - crowded.cells * (facts.kv_bytes_per_token + 2 * UBATCH) > (
        layout.need - layout.cells * (facts.kv_bytes_per_token + 2 * UBATCH)
    )
    assert plan(msgspec.structs.replace(facts, vocab_size=265), 64 * GIB).scores == 128
    assert plan(msgspec.structs.replace(facts, vocab_size=1 << 24), 64 * GIB).scores == 16


def test_no_more_cells_than_the_rows_can_fill(facts: ModelFacts) -> None:
    layout = plan(msgspec.structs.replace(facts, context=1024), 64 * GIB, rows=2)
    assert (layout.cells, layout.context) == (2048, 1024)


def test_small_models_get_no_huge_pool(facts: ModelFacts) -> None:
    small = msgspec.structs.replace(facts, kv_bytes_per_token=1280)
    assert plan(small, 64 * GIB).cells == 65_536
    long = msgspec.structs.replace(small, context=131_072)
    assert plan(long, 64 * GIB).cells == 131_072


def test_an_explicit_context_outgrows_the_default_pool(facts: ModelFacts) -> None:
    layout = plan(facts, 8 * GIB, ctx=30_000)
    assert layout.context == 30_000
    assert layout.cells == 30_208


def test_a_context_that_does_not_fit_is_refused(facts: ModelFacts) -> None:
    with pytest.raises(InvalidRequest, match=r"context of 200000 tokens .* room for \d+ tokens"):
        plan(facts, 8 * GIB, ctx=200_000)
    with pytest.raises(InvalidRequest, match=r"kv_memory leaves room for \d+ tokens"):
        plan(facts, 8 * GIB, ctx=40_000, kv=GIB)


def test_kv_memory_is_kept_or_refused(facts: ModelFacts) -> None:
    layout = plan(facts, 8 * GIB, kv=GIB)
    assert GIB - 256 * 120_000 < layout.cells * facts.kv_bytes_per_token <= GIB
    with pytest.raises(InvalidRequest, match=r"kv_memory is 20.0 GiB.* room for"):
        plan(facts, 8 * GIB, kv=20 * GIB)


def test_a_model_that_does_not_fit_is_refused(facts: ModelFacts) -> None:
    big = msgspec.structs.replace(facts, weight_bytes=40 * GIB)
    with pytest.raises(InvalidRequest, match=r"needs 4\d\.\d GiB .* 8\.0 GiB are available"):
        plan(big, 8 * GIB)


def test_recurrent_state_is_counted_per_row(facts: ModelFacts) -> None:
    recurrent = msgspec.structs.replace(facts, state_bytes=GIB // 16)
    layout = plan(recurrent, 16 * GIB, rows=64)
    assert layout.sequences == 64
    assert layout.need > 4 * GIB + facts.weight_bytes


def test_compute_buffers_of_qwen3_are_not_underestimated(facts: ModelFacts) -> None:
    # Reported by libllama at load: 148.4 MiB of outputs, 158.4 MiB of compute without the mask.
    assert 306 * 1024**2 <= compute_bytes(facts, UBATCH, 256) <= 360 * 1024**2


def test_this_machine() -> None:
    assert available_memory() > 16 * 1024**2
    assert physical_cores() >= 1


def test_where_the_system_says_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """As macOS does: no /proc, and no choice of CPUs."""
    monkeypatch.setattr(memory, "_read", lambda _: "")
    monkeypatch.delattr(os, "sched_getaffinity")
    there_is = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 16 * 1024**2 < available_memory() < there_is
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)


def test_a_cache_of_bytes_holds_nearly_twice_as_much(facts: ModelFacts) -> None:
    config = EngineConfig(name="m", model="m.gguf", kv_memory=GIB)
    small = msgspec.structs.replace(config, kv_cache_dtype="int8")
    # 28 layers of 8 heads of 128: 2 x 128 bytes and two scales of 4 instead of 2 x 128 x 2.
    assert facts.kv_heads > 0
    facts = msgspec.structs.replace(facts, kv_heads=28 * 8)
    assert native_cost(facts, config).kv == facts.kv_bytes_per_token
    assert native_cost(facts, small).kv == 28 * 8 * (2 * 128 + 8)
    assert ggml_cost(facts, small).kv == facts.kv_bytes_per_token * 34 // 64
    assert native_cost(facts, small).mask == 0 < ggml_cost(facts, small).mask
    layout = plan_layout(facts, small, 8 * GIB, native_cost(facts, small))
    assert layout.cells * 28 * 8 * (2 * 128 + 8) <= GIB
    assert (
        layout.cells > 1.8 * plan_layout(facts, config, 8 * GIB, native_cost(facts, config)).cells
    )
