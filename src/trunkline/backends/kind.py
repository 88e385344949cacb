"""What a kind of server is, as data. The rows are in `engine_kinds` and `hosted_kinds`; of hosts
that take what such servers usually take in `compatible_kinds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from trunkline.backends.auth.schemes import Scheme
from trunkline.wire.client import Feature

# In what shape a list of models comes.
ListShape = Literal["openai", "ollama", "tgi", "gemini", "cohere", "kserve"]
# Whose questions about tokens a server answers.
TokenDialect = Literal["", "vllm", "llamacpp", "tgi", "anthropic", "gemini"]
# How a base URL is read: `address`.
Reading = Literal["server", "api", "azure", "foundry"]


class HealthCheck(msgspec.Struct, frozen=True):
    """A request that tells whether the server is well, and never one that bills tokens."""

    path: str
    # Statuses that are good.
    good: frozenset[int] = frozenset((200,))
    # Statuses that mean that it is still loading.
    starting: frozenset[int] = frozenset((503,))


class MetricNames(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server tells its load, and what it calls the parts of `BackendStats`.

    Of several names the first that is there counts. Counters may or may not end with ``_total``;
    samples of one name are summed over their labels, shares are averaged.
    """

    path: str = "/metrics"
    # Another port of the same host; 0 = the server's own.
    port: int = 0
    # prometheus: the text format; trtllm: TensorRT-LLM's list of iterations; ollama: /api/ps.
    shape: Literal["prometheus", "trtllm", "ollama"] = "prometheus"
    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    # Share of the KV memory in use, from 0 to 1.
    kv_usage: tuple[str, ...] = ()
    # Tokens of KV: in use, capacity.
    kv_in_use: tuple[str, ...] = ()
    kv_total: tuple[str, ...] = ()
    # A gauge whose labels `num_gpu_blocks` and `block_size` tell the capacity.
    cache_info: str = ""
    prompt_tokens: tuple[str, ...] = ()
    output_tokens: tuple[str, ...] = ()
    # Output tokens per second, as a gauge.
    throughput: tuple[str, ...] = ()
    # A histogram of seconds to the first token.
    ttft: tuple[str, ...] = ()
    prefix_queries: tuple[str, ...] = ()
    prefix_hits: tuple[str, ...] = ()
    preemptions: tuple[str, ...] = ()


class ModelList(msgspec.Struct, frozen=True):
    """Where the models are listed."""

    path: str = "/v1/models"
    shape: ListShape = "openai"
    method: str = "GET"


class Value(msgspec.Struct, frozen=True):
    """Something that a provider needs besides a key: a part of the URL, or of a path."""

    # As in `BackendConfig.provider`, and in braces in URL and paths.
    name: str
    # Environment variables that may hold it, in order.
    variables: tuple[str, ...] = ()
    default: str = ""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of server."""

    name: str
    title: str
    # True: it bills. It is probed only when asked, and its health is not checked.
    hosted: bool = False
    # Base URL, without the version that `paths` have; "" = must be given or launched.
    url: str = ""
    # server: where the server stands; api: as OpenAI's clients take it, with operations right below
    # its path; azure, foundry: as Microsoft's clients and LiteLLM take them.
    reading: Reading = "server"
    # Environment variables that may hold the base URL, in order.
    url_variables: tuple[str, ...] = ()
    # Port that it listens on where nothing is said.
    port: int = 0
    # Operation -> path below the base URL: the dialects that it speaks. "" = the dialect's own
    # path. May hold {model}, {tail} (the dialect's path less its version) and names of `values`.
    paths: Mapping[str, str]
    # Operation -> the platform whose way of speaking it this is (`wire.speakers`).
    platforms: Mapping[str, str] = {}
    # Operations to translate to, best first. Which one fits depends on the request's input too.
    preferred: tuple[str, ...]
    # Operation -> what is in the names of the models that speak it, and no other; lower case.
    only: Mapping[str, str] = {}
    # Environment variables that may hold the key, in order.
    key_variables: tuple[str, ...] = ()
    auth: Scheme = "bearer"
    # Header fields of each request, unless something else sets them.
    headers: Mapping[str, str] = {}
    values: tuple[Value, ...] = ()
    health: HealthCheck | None = None
    metrics: MetricNames | None = None
    models: ModelList | None = None
    tokens: TokenDialect = ""
    # True: nobody says whose server it is, so that it may bill unless it is near.
    anybodys: bool = False
    # False: a probe would cost more than a few tokens, such as loading a model.
    probe: bool = True
    # Path that tells the version, whose change means that the server is another one.
    version_path: str = ""
    features: frozenset[Feature] = frozenset()
    # Operation -> features that it does not take, although others of this server do.
    without: Mapping[str, frozenset[Feature]] = {}
