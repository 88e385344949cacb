"""The native executor's own behaviour: what it refuses, aborts, reports and frees."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.engine.executors.real import Driver, load_real
from tests.support.tiny_gguf import write_tiny_gguf
from tests.support.tiny_models import OTHER_TYPES, write_model
from trunkline.core.errors import InvalidRequest
from trunkline.core.types import SamplingParams
from trunkline.engine.config import EngineConfig
from trunkline.engine.executors import ggml, load_executor, native
from trunkline.engine.executors.native.vocabulary import Vocabulary
from trunkline.engine.seam import Chunk, CopyBlock, ExecutorFailed, OpenRow, StepLost, TrimSeq
from trunkline.libnative import library

GREEDY = SamplingParams(temperature=0.0)
PROMPT = [int(t) for t in np.random.default_rng(3).integers(0, 256, 60)]


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    executor = load_real("native", write_tiny_gguf(tmp_path / "tiny.gguf"))
    yield Driver(executor)
    executor.close()


def row_of(driver: Driver) -> OpenRow:
    return OpenRow(driver.key(), GREEDY, 1, np.array(PROMPT, np.int32))


def config(path: Path) -> EngineConfig:
    return EngineConfig(name="tiny", model=str(path), threads=1, executor="native")


def test_capabilities(driver: Driver) -> None:
    found = driver.executor.capabilities
    assert (found.memory, found.page, found.sequences) == ("blocks", 32, 512)
    assert found.context == 512
    assert found.kv_tokens == 64 * 512
    # 2 layers x 2 heads x (16 + 16) x 2 bytes
    assert found.kv_bytes_per_token == 256
    assert found.eog == {262, 264}
    assert (found.truncate, found.fork) == (True, True)


def test_an_aborted_pass_loses_its_rows_and_no_other(driver: Driver) -> None:
    right = driver.alone(row_of(driver), 0, 80)
    row = row_of(driver)
    driver.executor.abort()
    with pytest.raises(StepLost, match="aborted") as caught:
        driver.step([driver.chunk(row.key, 1, PROMPT, 0, sample=True)], [row])
    assert caught.value.keys == (row.key,)
    assert driver.alone(row_of(driver), 1, 80) == right


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        ({"tokens": [1, 999]}, "vocabulary"),
        ({"tokens": [-1]}, "vocabulary"),
        ({"tokens": [1], "table": [99_999]}, "block"),
        ({"tokens": [1], "table": [-1]}, "block"),
        ({"tokens": [1] * 40, "table": [0]}, "too short"),
        ({"tokens": [1], "start": -5, "table": [0]}, "chunk"),
        ({"tokens": [1], "start": 1 << 30, "table": [0]}, "chunk"),
        ({"tokens": [1] * 3000, "table": list(range(100))}, "too big"),
        ({"tokens": [1], "table": None}, "no block table"),
    ],
)
def test_impossible_plans_are_errors_not_crashes(
    driver: Driver, chunk: dict[str, Any], message: str
) -> None:
    row = row_of(driver)
    table = chunk.get("table", [0])
    bad = Chunk(
        row.key,
        0,
        0,
        np.array(chunk["tokens"], np.int32),
        chunk.get("start", 0),
        (row.key,),
        None if table is None else np.array(table, np.int32),
    )
    with pytest.raises(ExecutorFailed, match=message):
        driver.step([bad], [row])
    assert driver.alone(row_of(driver), 0, 70)


def test_impossible_copies(driver: Driver) -> None:
    with pytest.raises(ExecutorFailed, match="block"):
        driver.step(memory=[CopyBlock(0, 1 << 20)])
    with pytest.raises(ExecutorFailed, match="memory operation"):
        driver.step(memory=[TrimSeq(0, 1)])


def test_logits_that_are_no_numbers_fail_the_row_alone(tmp_path: Path) -> None:
    executor = load_real("native", write_tiny_gguf(tmp_path / "nan.gguf", poison=True))
    driver = Driver(executor)
    row = row_of(driver)
    result = driver.step([driver.chunk(row.key, 0, PROMPT, 0, sample=True)], [row])
    assert result.sampled == ()
    assert "not numbers" in result.failed[0].error.message
    executor.close()


def test_progress_is_reported(tmp_path: Path) -> None:
    seen: list[float] = []
    native.load(config(write_tiny_gguf(tmp_path / "tiny.gguf")), seen.append).close()
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_close_ends_all_threads(tmp_path: Path) -> None:
    before = _threads()
    executor = load_real("native", write_tiny_gguf(tmp_path / "tiny.gguf"), threads=4)
    assert _threads() >= before + 4
    driver = Driver(executor)
    row = row_of(driver)
    driver.step([driver.chunk(row.key, 0, PROMPT, 0)], [row])
    executor.close()
    # One that was waited for is listed a moment longer.
    deadline = time.monotonic() + 30
    while _threads() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not any(thread.name == "native" for thread in threading.enumerate())


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_idle_costs_nothing(driver: Driver) -> None:
    driver.alone(row_of(driver), 0, 70)
    # What other tests have left in this process may have something to do now and then.
    assert any(_computed(0.4) < 0.02 for _ in range(10))


def _computed(seconds: float) -> float:
    """Processor time of this process meanwhile."""
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(seconds)
    return time.process_time() - before


def test_what_it_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "mamba.gguf", "mamba")
    with pytest.raises(InvalidRequest, match=r"mamba.*--executor ggml"):
        native.load(config(path), lambda _: None)
    path = write_model(tmp_path / "more.gguf", "qwen3", text={"rope.scaling.type": "dynamic"})
    assert "dynamic" in why_not(path)
    path = write_model(tmp_path / "local.gguf", "gemma3", text={"rope.scaling.type": "yarn"})
    assert "yarn" in why_not(path)


def test_unknown_tensors_are_not_ignored(tmp_path: Path) -> None:
    path = write_model(tmp_path / "more.gguf", "llama", more={"blk.0.attn_sinks.weight": (8,)})
    assert "attn_sinks" in why_not(path)
    path = write_model(tmp_path / "less.gguf", "qwen2", without="blk.1.attn_k.bias")
    assert "attn_k.bias" in why_not(path)


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    """Parts of another model, under the right names."""
    for number in (1, 2):
        part = tmp_path / f"m-{number:05}-of-00002.gguf"
        write_tiny_gguf(part, metadata={"split.count": 2, "split.no": number - 1}, seed=number)
    assert "in two of its files" in why_not(tmp_path / "m-00001-of-00002.gguf")


def test_threads_are_bound_where_each_has_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One to each, where there is one for each; else the system says where they run."""
    all_of_them = sorted(os.sched_getaffinity(0))
    if len(all_of_them) != os.cpu_count() or len(all_of_them) < 2:
        pytest.skip("not all CPUs of the machine, or no choice")
    # Where a core has two threads, only one of them is a core's.
    monkeypatch.setattr(native, "core_cpus", lambda: all_of_them)
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    for threads, bound in ((len(all_of_them), True), (1, False)):
        before = set(os.listdir("/proc/self/task"))
        executor = load_real("native", path, threads=threads)
        other = Driver(executor)
        other.alone(row_of(other), 0, 62)
        new = {int(one) for one in set(os.listdir("/proc/self/task")) - before}
        one_cpu = {cpu for one in new for cpu in _only(os.sched_getaffinity(one))}
        assert one_cpu == (set(all_of_them) if bound else set())
        executor.close()


def _only(cpus: set[int]) -> set[int]:
    return cpus if len(cpus) == 1 else set()


def why_not(path: Path) -> str:
    found = native.load_if_able(config(path), lambda _: None)
    assert isinstance(found, str)
    return found


def test_auto_takes_native_and_says_where_it_cannot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fine = write_model(tmp_path / "fine.gguf", "qwen3")
    auto = msgspec.structs.replace(config(fine), executor="auto")
    executor = load_executor(auto, lambda _: None)
    assert isinstance(executor, native.NativeExecutor)
    executor.close()
    other = write_tiny_gguf(tmp_path / "mamba.gguf", "mamba")
    executor = load_executor(msgspec.structs.replace(auto, model=str(other)), lambda _: None)
    assert isinstance(executor, ggml.GgmlExecutor)
    executor.close()
    (record,) = [one for one in caplog.records if "native" in one.getMessage()]
    assert "tiny runs on ggml" in record.getMessage()
    assert "'mamba'" in record.getMessage()


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_types_without_a_kernel_run_on_ggml(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = write_model(tmp_path / "other.gguf", "llama", kind)
    auto = msgspec.structs.replace(config(path), executor="auto")
    executor = load_executor(auto, lambda _: None)
    assert isinstance(executor, ggml.GgmlExecutor)
    executor.close()
    (record,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert f"it has no kernel for {kind} matrices" in record.getMessage()


def test_auto_wants_kernels_made_for_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library.native(), "cpu", native.SLOW_CPU)
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    assert "CPU" in why_not(path)
    native.load(config(path), lambda _: None).close()


def test_auto_refuses_a_broken_file_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(b"x" * 100)
    with pytest.raises(InvalidRequest, match="no GGUF file"):
        load_executor(msgspec.structs.replace(config(path), executor="auto"), lambda _: None)
    assert not caplog.records


def test_a_known_vocabulary_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    first = Vocabulary(path)
    with monkeypatch.context() as patch:
        patch.setattr(Vocabulary, "model", lambda self: pytest.fail("read again"))
        again = Vocabulary(path)
    assert (again.words, again.eog) == (first.words, first.eog)
    assert first.eog == {262, 264}
    first.close()
