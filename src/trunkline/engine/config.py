"""What one engine needs to know. Typed and frozen; `server` fills it from flags and files."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one built-in engine: one front process and one core process."""

    # Name under which clients know the model.
    name: str
    # Path of the GGUF file; for the scripted executor, of its rules (YAML or JSON).
    model: str
    # What computes.
    executor: Literal["auto", "ggml", "scripted"] = "auto"
    # Longest prompt plus output, in tokens; 0 = what the model was trained for, if it fits.
    ctx_size: Annotated[int, Meta(ge=0)] = 0
    # Bytes for the KV cache; 0 = chosen from the memory at hand.
    kv_memory: Annotated[int, Meta(ge=0)] = 0
    # Computing threads; 0 = the physical cores that this process may use.
    threads: Annotated[int, Meta(ge=0)] = 0
    # Rows that decode together.
    max_num_seqs: Annotated[int, Meta(ge=1, le=512)] = 64
    # Groups that may wait; the next one is refused with 429.
    max_queue: Annotated[int, Meta(ge=0)] = 512
    # Time budget of one step, milliseconds.
    max_step_ms: Annotated[int, Meta(ge=1)] = 250
    # False: no prompt ever uses another one's KV.
    prefix_cache: bool = True
    # Path of a Jinja chat template that replaces the model's own.
    chat_template: str | None = None
    # Seconds without a finished step, with work to do, after which the core counts as stuck.
    step_timeout: Annotated[float, Meta(gt=0)] = 120.0
    # Bytes of text that may wait for one slow reader before its request is cancelled.
    max_stream_buffer: Annotated[int, Meta(ge=4096)] = 4 * 1024 * 1024
