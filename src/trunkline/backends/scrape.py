"""What engines tell of their load, in one vocabulary: `BackendStats`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from trunkline.backends.kind import MetricNames
from trunkline.core.errors import UpstreamFailed
from trunkline.core.types import BackendStats

# A sample of Prometheus' text format: name, labels, value.
_SAMPLE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(\{.*\})?[ \t]+(\S+)", re.MULTILINE)
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
# Most seconds between two readings of which a rate is made.
_WINDOW = 120.0


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a server's counters and gauges."""

    stats: BackendStats
    # Output tokens since the server began, or None.
    output_tokens: float | None = None
    # Seconds to the first token, summed, and how many there were.
    ttft_sum: float = 0.0
    ttft_count: float = 0.0


class Rates:
    """Turns readings one after the other into rates."""

    def __init__(self) -> None:
        self._before: Reading | None = None
        self._at = 0.0

    def take(self, reading: Reading, now: float) -> BackendStats:
        """`reading`'s stats with rates since the last one; `now` is in seconds."""
        before, at = self._before, self._at
        self._before, self._at = reading, now
        stats = reading.stats
        elapsed = now - at
        if before is None or not 0 < elapsed < _WINDOW:
            return stats
        speed, first = stats.tokens_per_second, stats.ttft
        if not speed and reading.output_tokens is not None and before.output_tokens is not None:
            # A server that was started again counts from nothing.
            speed = max(0.0, reading.output_tokens - before.output_tokens) / elapsed
        count = reading.ttft_count - before.ttft_count
        if count > 0:
            first = max(0.0, reading.ttft_sum - before.ttft_sum) / count
        return msgspec.structs.replace(stats, tokens_per_second=speed, ttft=first)


def read(names: MetricNames, body: bytes) -> Reading | None:
    """What a page tells; None = nothing new. Raises `UpstreamFailed` where it cannot be read."""
    try:
        if names.shape == "prometheus":
            return _prometheus(names, body.decode("utf-8", "replace"))
        told = msgspec.json.decode(body)
        return _trtllm(told) if names.shape == "trtllm" else _ollama(told)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UpstreamFailed("the metrics cannot be read") from None


class _Samples:
    """The samples of a page that are of interest."""

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[float]] = {}
        self._labels: dict[str, str] = {}
        for match in _SAMPLE.finditer(text):
            name, labels, value = match.groups()
            if name.endswith("_bucket"):
                continue
            self._values.setdefault(name, []).append(float(value))
            self._labels.setdefault(name, labels or "")

    def values(self, names: Iterable[str]) -> list[float]:
        """The samples of the first of `names` that is there; NaN and infinities are left out."""
        for name in names:
            found = self._values.get(name) or self._values.get(f"{name}_total")
            if found is not None:
                return [value for value in found if value - value == 0]
        return []

    def total(self, names: Iterable[str]) -> float | None:
        found = self.values(names)
        return sum(found) if found else None

    def count(self, names: Iterable[str]) -> int:
        return int(self.total(names) or 0)

    def labels(self, name: str) -> dict[str, str]:
        """Labels of the first sample of `name`."""
        return dict(_LABEL.findall(self._labels.get(name, "")))


def _prometheus(names: MetricNames, text: str) -> Reading:
    samples = _Samples(text)
    shares = samples.values(names.kv_usage)
    usage = sum(shares) / len(shares) if shares else 0.0
    total = samples.count(names.kv_total) or _capacity(samples.labels(names.cache_info))
    in_use = samples.count(names.kv_in_use) or round(usage * total)
    stats = BackendStats(
        running=samples.count(names.running),
        waiting=samples.count(names.waiting),
        kv_in_use=in_use,
        kv_total=total,
        kv_usage=usage or (in_use / total if total else 0.0),
        prefix_queries=samples.count(names.prefix_queries),
        prefix_hits=samples.count(names.prefix_hits),
        preemptions=samples.count(names.preemptions),
        tokens_per_second=samples.total(names.throughput) or 0.0,
    )
    return Reading(
        stats=stats,
        output_tokens=samples.total(names.output_tokens),
        ttft_sum=samples.total([f"{name}_sum" for name in names.ttft]) or 0.0,
        ttft_count=samples.total([f"{name}_count" for name in names.ttft]) or 0.0,
    )


def _capacity(labels: dict[str, str]) -> int:
    """Tokens of KV, of the labels of vLLM's `cache_config_info`."""
    blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
    return int(blocks) * int(size) if blocks.isdecimal() and size.isdecimal() else 0


def _trtllm(told: Any) -> Reading | None:
    """TensorRT-LLM's iterations since the last time that somebody asked; the last one counts."""
    if not told:
        return None
    last = told[-1]
    cache = last.get("kvCacheStats") or {}
    block = int(cache.get("tokensPerBlock") or 0)
    total = int(cache.get("maxNumBlocks") or 0)
    used = int(cache.get("usedNumBlocks") or 0)
    hits, missed = int(cache.get("reusedBlocks") or 0), int(cache.get("missedBlocks") or 0)
    stats = BackendStats(
        running=int(last["numActiveRequests"]),
        waiting=int(last.get("numQueuedRequests") or 0),
        kv_in_use=used * block,
        kv_total=total * block,
        kv_usage=used / total if total else 0.0,
        prefix_queries=(hits + missed) * block,
        prefix_hits=hits * block,
        tokens_per_second=_trtllm_speed(told),
    )
    return Reading(stats=stats)


def _trtllm_speed(told: Any) -> float:
    """Output tokens a second: each generating request gets its tokens in each iteration."""
    tokens = seconds = 0.0
    for step in told:
        batch = step.get("inflightBatchingStats") or {}
        each = float(batch.get("avgNumDecodedTokensPerIter") or 1.0)
        tokens += int(batch.get("numGenRequests") or 0) * each
        seconds += float(step.get("iterLatencyMS") or 0.0) / 1000
    return tokens / seconds if seconds else 0.0


def _ollama(told: Any) -> Reading:
    loaded = told["models"]
    stats = BackendStats(
        resident_bytes=sum(int(entry.get("size") or 0) for entry in loaded),
        resident_models=tuple(str(entry.get("model") or entry["name"]) for entry in loaded),
    )
    return Reading(stats=stats)
