"""How much memory a model will take, and how much of it goes to the KV cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from trunkline.core.errors import InvalidRequest
from trunkline.engine.config import EngineConfig
from trunkline.formats.gguf_facts import KV_ELEMENT, ModelFacts
from trunkline.libllama.structs import MAX_SEQUENCES

# libllama rounds contexts up to this many cells.
GRAIN = 256
# Tokens that either executor computes together.
MICRO_BATCH = 512
# Most that the KV cache takes unasked: of what is available, and at all.
DEFAULT_SHARE = 4
DEFAULT_KV = 4 * 1024**3
# Cells that the pool has at most unasked, or one context: libllama scans all of them at each copy
# and trim of a sequence, 4 us per 1,024.
DEFAULT_CELLS = 65_536
# Bytes of one element of the attention mask (f16; llama.cpp keeps it so for flash attention).
MASK_BYTES = 2
# Most prompt tokens that a step scores, and how many of their logits at most: with a vocabulary of
# 151,936 tokens it scores 110, which takes 0.04 CPU s, or 0.06 with 20 alternatives of each.
MAX_SCORES = 128
SCORED_LOGITS = 1 << 24
# Left to the rest of the process: Python, the graph's nodes, buffers.
OVERHEAD = 150 * 1024**2


class Cost(NamedTuple):
    """What an executor needs, besides the weights."""

    # Tokens that it computes together.
    micro_batch: int
    # Bytes of keys and values of a token, and of whatever else a cell takes.
    kv: int
    mask: int


def ggml_cost(facts: ModelFacts, config: EngineConfig) -> Cost:
    """A cell also widens the attention mask of a micro-batch."""
    # Q8_0: 34 bytes for 32 elements.
    parts = (17, 32) if config.kv_cache_dtype == "int8" else (1, 1)
    kv = facts.kv_bytes_per_token * parts[0] // parts[1]
    return Cost(MICRO_BATCH, kv, MASK_BYTES * MICRO_BATCH)


def native_cost(facts: ModelFacts, config: EngineConfig) -> Cost:
    """In an int8 cache each head's key and value has a scale of 4 bytes."""
    kv = facts.kv_bytes_per_token
    if config.kv_cache_dtype == "int8":
        kv = kv // KV_ELEMENT + 8 * facts.kv_heads
    return Cost(MICRO_BATCH, kv, 0)


class Layout(msgspec.Struct, frozen=True):
    """What is allocated."""

    # KV cells of the pool, a multiple of 256.
    cells: int
    # Longest prompt plus output.
    context: int
    # Sequence ids.
    sequences: int
    # Tokens of a step whose logits are kept: of rows that sample, and of prompts that are scored.
    outputs: int
    scores: int
    # Bytes expected of everything together.
    need: int


def plan_layout(facts: ModelFacts, config: EngineConfig, available: int, cost: Cost) -> Layout:
    """Divide `available` bytes. Raises `InvalidRequest` where model and wishes do not fit."""
    recurrent = facts.state_bytes > 0
    # Recurrent state is allocated for every sequence id: no more ids than rows then.
    sequences = min(config.max_num_seqs, MAX_SEQUENCES) if recurrent else MAX_SEQUENCES
    fixed = facts.weight_bytes + sequences * facts.state_bytes + OVERHEAD
    # By default no more outputs than sequences: rows are fewer than these.
    scores = max(16, min(MAX_SCORES, SCORED_LOGITS // facts.vocab_size))
    outputs = max(sequences, min(config.max_num_seqs, sequences) + scores)
    fixed += compute_bytes(facts, cost.micro_batch, outputs)
    # Recurrent models have neither.
    each = max(1, cost.kv + cost.mask)
    room = available - fixed
    if room < GRAIN * each:
        raise InvalidRequest(
            f"{config.model} does not fit into memory: it needs {_gib(fixed + GRAIN * each)} "
            f"(weights {_gib(facts.weight_bytes)}), {_gib(available)} are available. "
            "Use a smaller or more strongly quantized model."
        )
    wanted = config.ctx_size or facts.context
    cells = _cells(config, wanted, available, room, each)
    if config.ctx_size > cells:
        raise InvalidRequest(
            f"A context of {config.ctx_size} tokens needs {_gib(config.ctx_size * each)} of KV "
            f"cache; {'kv_memory' if config.kv_memory else 'memory'} leaves room for "
            f"{cells} tokens ({_gib(cells * each)}).",
            param="ctx_size",
        )
    context, need = min(wanted, cells), fixed + cells * each
    return Layout(cells, context, sequences, outputs, scores, need)


def _cells(config: EngineConfig, wanted: int, available: int, room: int, each: int) -> int:
    if config.kv_memory > room:
        raise InvalidRequest(
            f"kv_memory is {_gib(config.kv_memory)}; beside the model there is room for "
            f"{_gib(room)}.",
            param="kv_memory",
        )
    if config.kv_memory:
        size = config.kv_memory
    else:
        most = min(config.max_num_seqs * wanted, max(wanted, DEFAULT_CELLS))
        size = min(available // DEFAULT_SHARE, DEFAULT_KV, most * each)
        # An explicit context comes before the default bounds.
        size = min(room, max(size, _round_up(config.ctx_size) * each))
    return max(GRAIN, size // each // GRAIN * GRAIN)


def _round_up(tokens: int) -> int:
    return -(-tokens // GRAIN) * GRAIN


def compute_bytes(facts: ModelFacts, ubatch: int, outputs: int) -> int:
    """Bytes of intermediate results and of the logits that are kept; the mask comes on top.

    Qwen3-0.6B, 256 outputs, micro-batches of 512: libllama reports 148 MiB of outputs and, without
    the mask, 158 MiB of compute buffers; this gives 148 and 182.
    """
    logits = min(ubatch, outputs) * facts.vocab_size * 4
    widest = ubatch * 4 * (3 * facts.feed_forward + 8 * facts.embedding)
    return outputs * facts.vocab_size * 4 + logits + widest


def _gib(size: int) -> str:
    if size < 1024**3:
        return f"{size / 1024**2:.0f} MiB"
    return f"{size / 1024**3:.1f} GiB"


def available_memory() -> int:
    """Bytes that this process may still take: of the machine, and of its control groups."""
    meminfo = _read(Path("/proc/meminfo"))
    lines = [line for line in meminfo.splitlines() if line.startswith("MemAvailable:")]
    if not lines:
        # macOS: nobody says what is free, only what there is.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min([int(lines[0].split()[1]) * 1024, *_group_limits()])


def _group_limits() -> Iterator[int]:
    """What is left in each control group (version 2, else 1) that this process is in."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup/memory" if controllers else "/sys/fs/cgroup")
        limit, used = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if controllers
            else ("memory.max", "memory.current")
        )
        group = root / path.lstrip("/")
        # Inside a container the path may be that of the host: the root is then our group.
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            if (most := _read(folder / limit)).strip().isdigit():
                yield int(most) - int(_read(folder / used) or 0) + _file_cache(folder)


def _file_cache(group: Path) -> int:
    """Bytes of page cache in a group, which the kernel gives up before it kills."""
    for line in _read(group / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
