"""What a backend says of itself: its models, its state, its load."""

from __future__ import annotations

from typing import Literal

import msgspec


class ModelCard(msgspec.Struct, frozen=True):
    """What a client may want to know of a model."""

    name: str
    # Longest prompt plus output, in tokens.
    context_length: int
    # Unix seconds.
    created: int = 0
    owned_by: str = "trunkline"
    aliases: tuple[str, ...] = ()
    # Where it comes from: a bundled name or a path.
    source: str = ""
    # What the model is, as far as its file tells; empty or 0 where it does not.
    architecture: str = ""
    parameters: int = 0
    # Of most weights, as GGUF spells it: "Q8_0".
    quantization: str = ""
    # Bytes of the weights.
    size: int = 0
    vocab_size: int = 0
    embedding_length: int = 0
    # Jinja; "" = it cannot chat.
    chat_template: str = ""
    # Of "completion", "chat", "tools", "thinking", "insert".
    capabilities: tuple[str, ...] = ()
    # Most rows that run together.
    max_rows: int = 0


class Health(msgspec.Struct, frozen=True):
    """Whether a backend can answer."""

    # "starting", "ready", "stalled" (work but no progress), "restarting", "draining", "failed"
    state: Literal["starting", "ready", "stalled", "restarting", "draining", "failed"]
    # Why, where the state is not "ready".
    detail: str = ""
    # Seconds that a request would wait until the model is loaded; 0 = it is, or nobody knows.
    load_seconds: float = 0.0


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a server does: by its kind, by what a probe found, by what the configuration says."""

    # Operations whose bodies pass as they are ("openai.chat"); others are translated to one.
    passes: tuple[str, ...]
    # What it takes of a translated request; the rest is refused by name, or left out and told.
    features: tuple[str, ...]
    # What a probe saw, one sentence for each thing tried; empty = it was not probed.
    probed: tuple[str, ...] = ()


class BackendStats(msgspec.Struct, frozen=True, kw_only=True):
    """Load and counters of a backend. Counters run from the start of its engine process."""

    # Rows in the batch, and groups that wait for a place in it.
    running: int = 0
    waiting: int = 0
    # Output tokens a second of all requests together, measured lately; 0 = not known.
    tokens_per_second: float = 0.0
    # Share of the KV memory that is taken, where only that is told: from 0 to 1.
    kv_usage: float = 0.0
    # Mean seconds to the first token, measured lately; 0 = not known.
    ttft: float = 0.0
    # Names of the models that are loaded, where a backend loads them as they are asked for.
    resident_models: tuple[str, ...] = ()
    # Tokens of KV: held by rows, held by the prefix cache alone, capacity (0 = unknown).
    kv_in_use: int = 0
    kv_cached: int = 0
    kv_total: int = 0
    # Prompt tokens asked for, and those found in the prefix cache.
    prefix_queries: int = 0
    prefix_hits: int = 0
    # Rows that lost their place and were computed again.
    preemptions: int = 0
    # Times that the engine was started again after it died; never goes back.
    restarts: int = 0
    # Steps computed, the seconds in them, and the part of these spent sampling.
    steps: int = 0
    step_seconds: float = 0.0
    sampling_seconds: float = 0.0
    # Resident memory of the engine process.
    resident_bytes: int = 0

    def kv_share(self) -> float:
        """The part of the KV memory that rows hold, from 0 to 1; 0 where it is not known."""
        return self.kv_in_use / self.kv_total if self.kv_total else self.kv_usage
