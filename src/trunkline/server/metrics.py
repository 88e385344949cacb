"""What `/metrics` shows. Names under `vllm:` are for dashboards and autoscalers made for vLLM."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable

import msgspec

from trunkline.core.metrics import Counter, Family, Histogram, Kind, Registry, Sample
from trunkline.core.types import BackendStats
from trunkline.gateway.gateway import Gateway
from trunkline.wire.llamacpp import server_info as llamacpp

# vLLM's buckets (docs/usage/metrics.md), with smaller ones where a tiny model needs them. Seconds.
_TTFT = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(20, 40, 80, 160, 640, 2560),
)
_ITL = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1),
    *(2.5, 5, 7.5, 10, 20, 40, 80),
)
_E2E = (
    *(0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240),
    *(480, 960, 1920, 7680),
)


class ModelMetrics(msgspec.Struct, frozen=True):
    """The metrics of one model, ready to be observed."""

    # Seconds from the complete request to its first output.
    ttft: Histogram
    # Seconds between two outputs of one row.
    itl: Histogram
    # Seconds from the complete request to the end of its answer.
    e2e: Histogram
    prompt_tokens: Counter
    generation_tokens: Counter
    # By finish reason; asked for once per row.
    success: Callable[[str], Counter]


class ServerMetrics:
    """Everything that this process counts, and what it reads off the backends at each scrape."""

    def __init__(self, gateway: Gateway, connections: Callable[[], int]) -> None:
        self._gateway = gateway
        self._connections = connections
        self._started = time.time()
        self._models: dict[str, ModelMetrics] = {}
        # (route, status, model) -> their counter in `_requests`.
        self._answers: dict[tuple[str, int, str], Counter] = {}
        self.registry = registry = Registry()
        self._requests = registry.counter(
            "trunkline_requests_total",
            "Requests answered; 499 = the client left first.",
            ("route", "status", "model"),
        )
        self._ttft = registry.histogram(
            "trunkline_time_to_first_token_seconds", "Time to first token.", ("model",), _TTFT
        )
        self._itl = registry.histogram(
            "trunkline_inter_token_latency_seconds", "Time between tokens.", ("model",), _ITL
        )
        self._e2e = registry.histogram(
            "trunkline_e2e_request_latency_seconds", "Time to the end.", ("model",), _E2E
        )
        self._prompt_tokens = registry.counter(
            "trunkline_prompt_tokens_total", "Prompt tokens of requests that ended.", ("model",)
        )
        self._generation_tokens = registry.counter(
            "trunkline_generation_tokens_total",
            "Tokens generated, also for lost clients.",
            ("model",),
        )
        self._success = registry.counter(
            "trunkline_request_success_total", "Answers completed.", ("model", "finished_reason")
        )
        self._add_aliases()
        registry.source(self._engine)
        registry.source(self._process)

    def model(self, name: str) -> ModelMetrics:
        """The metrics of the model that calls itself `name`."""
        found = self._models.get(name)
        if found is None:
            found = self._models[name] = ModelMetrics(
                self._ttft.labels(name),
                self._itl.labels(name),
                self._e2e.labels(name),
                self._prompt_tokens.labels(name),
                self._generation_tokens.labels(name),
                lambda reason: self._success.labels(name, reason),
            )
        return found

    def answers(self, route: str, status: int, model: str) -> Counter:
        """The counter of such answers."""
        counter = self._answers.get((route, status, model))
        if counter is None:
            counter = self._requests.labels(route, str(status), model)
            self._answers[route, status, model] = counter
        return counter

    def _add_aliases(self) -> None:
        alias = self.registry.alias
        one = ("model_name",)
        alias(self._ttft, "vllm:time_to_first_token_seconds", one)
        alias(self._itl, "vllm:inter_token_latency_seconds", one)
        alias(self._itl, "vllm:time_per_output_token_seconds", one)
        alias(self._e2e, "vllm:e2e_request_latency_seconds", one)
        alias(self._prompt_tokens, "vllm:prompt_tokens_total", one)
        alias(self._generation_tokens, "vllm:generation_tokens_total", one)
        alias(self._success, "vllm:request_success_total", ("model_name", "finished_reason"))

    def _engine(self) -> Iterable[Family]:
        stats = {model.name: model.backend.stats() for model in self._gateway.models}
        for row in _ENGINE:
            for name, label in (
                (row.name, "model"),
                *((alias, "model_name") for alias in row.aliases),
            ):
                samples = tuple(
                    Sample(row.read(one), ((label, model),)) for model, one in stats.items()
                )
                yield Family(name, row.kind, row.help, samples)
        ready = tuple(
            Sample(float(health.state == "ready"), (("model", model),))
            for model, health in self._gateway.health().items()
        )
        yield Family("trunkline_model_ready", "gauge", "1 = the model can answer.", ready)

    def _process(self) -> Iterable[Family]:
        times = os.times()
        memory, connections = resident_bytes(), self._connections()
        yield _single("process_cpu_seconds_total", "counter", "CPU.", times.user + times.system)
        yield _single("process_resident_memory_bytes", "gauge", "Memory.", memory)
        yield _single("process_start_time_seconds", "gauge", "Unix time.", self._started)
        yield _single("trunkline_open_connections", "gauge", "Client connections.", connections)


def _single(name: str, kind: Kind, text: str, value: float) -> Family:
    return Family(name, kind, text, (Sample(value),))


class _EngineRow(msgspec.Struct, frozen=True):
    name: str
    kind: Kind
    help: str
    read: Callable[[BackendStats], float]
    aliases: tuple[str, ...] = ()


_ENGINE = (
    _EngineRow(
        "trunkline_requests_running",
        "gauge",
        "Rows in the batch.",
        lambda stats: stats.running,
        ("vllm:num_requests_running",),
    ),
    _EngineRow(
        "trunkline_requests_waiting",
        "gauge",
        "Requests that wait for a place in the batch.",
        lambda stats: stats.waiting,
        ("vllm:num_requests_waiting",),
    ),
    _EngineRow(
        "trunkline_kv_usage_ratio",
        "gauge",
        "Part of the KV memory that rows hold; 1 = all.",
        BackendStats.kv_share,
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    ),
    _EngineRow(
        "trunkline_kv_in_use_tokens",
        "gauge",
        "Tokens of KV that rows hold.",
        lambda stats: stats.kv_in_use,
    ),
    _EngineRow(
        "trunkline_kv_cached_tokens",
        "gauge",
        "Tokens that the prefix cache alone holds.",
        lambda stats: stats.kv_cached,
    ),
    _EngineRow(
        "trunkline_kv_tokens",
        "gauge",
        "Tokens that the KV memory can hold.",
        lambda stats: stats.kv_total,
    ),
    _EngineRow(
        "trunkline_prefix_queries_total",
        "counter",
        "Prompt tokens looked up in the prefix cache.",
        lambda stats: stats.prefix_queries,
        ("vllm:prefix_cache_queries_total",),
    ),
    _EngineRow(
        "trunkline_prefix_hits_total",
        "counter",
        "Prompt tokens found in the prefix cache.",
        lambda stats: stats.prefix_hits,
        ("vllm:prefix_cache_hits_total",),
    ),
    _EngineRow(
        "trunkline_preemptions_total",
        "counter",
        "Rows that lost their place and were computed again.",
        lambda stats: stats.preemptions,
        ("vllm:num_preemptions_total",),
    ),
    _EngineRow(
        "trunkline_engine_restarts_total",
        "counter",
        "Times that the engine was started again after it died.",
        lambda stats: stats.restarts,
    ),
    _EngineRow(
        "trunkline_engine_steps_total",
        "counter",
        "Steps computed.",
        lambda stats: stats.steps,
    ),
    _EngineRow(
        "trunkline_engine_step_seconds_total",
        "counter",
        "Time in steps.",
        lambda stats: stats.step_seconds,
    ),
    _EngineRow(
        "trunkline_engine_sampling_seconds_total",
        "counter",
        "Part of the time in steps that was sampling.",
        lambda stats: stats.sampling_seconds,
    ),
    _EngineRow(
        "trunkline_engine_resident_memory_bytes",
        "gauge",
        "Memory of the engine process.",
        lambda stats: stats.resident_bytes,
    ),
    *(
        _EngineRow(metric.name, metric.kind, metric.help, metric.value)
        for metric in llamacpp.METRICS
    ),
)


def resident_bytes() -> int:
    """Resident memory of this process; where there is no /proc, the most it ever was."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
