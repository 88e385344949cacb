"""What one engine needs to know. Typed and frozen; `server` fills it from flags and files.

The description of a field is its only help text: flags, environment variables and reference pages
are derived from it. `extra={"unit": "bytes"}` marks sizes; people may write those 512M or 2G.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from trunkline.core.errors import InvalidRequest


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one built-in engine: one front process and one core process."""

    name: Annotated[str, Meta(description="Name under which clients know the model.")]
    model: Annotated[
        str,
        Meta(description="Path of the GGUF file; for the scripted executor, of its rules (JSON)."),
    ]
    quantize: Annotated[
        Literal["keep", "q8_0", "q4_k"],
        Meta(
            description="Type to which the matrices of a folder of safetensors are converted when "
            "it is first loaded; `keep` leaves them as they are."
        ),
    ] = "keep"
    executor: Annotated[
        Literal["auto", "native", "ggml", "scripted"],
        Meta(
            description="What computes: `native`, our own kernels, or `ggml`, llama.cpp's; `auto` "
            "takes native wherever it knows model and machine, else ggml, and says so; `scripted` "
            "answers by rule and is for tests."
        ),
    ] = "auto"
    ctx_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Longest prompt plus output, in tokens; "
            "0 = what the model was trained for, if it fits.",
        ),
    ] = 0
    kv_memory: Annotated[
        int,
        Meta(
            ge=0,
            extra={"unit": "bytes"},
            description="Memory for the KV cache; 0 = chosen from the memory at hand.",
        ),
    ] = 0
    kv_cache_dtype: Annotated[
        Literal["auto", "f16", "bf16", "int8"],
        Meta(
            description="Type of the KV cache's entries: `int8` takes half the room and is a "
            "little less exact; `auto` is f16."
        ),
    ] = "auto"
    threads: Annotated[
        int,
        Meta(
            ge=0,
            description="Computing threads; 0 = the physical cores that this process may use.",
        ),
    ] = 0
    max_num_seqs: Annotated[int, Meta(ge=1, le=512, description="Rows that decode together.")] = 64
    max_queue: Annotated[
        int,
        Meta(ge=0, description="Requests that may wait; the next one is refused with 429."),
    ] = 512
    max_step_ms: Annotated[
        int, Meta(ge=1, description="Time budget of one step, in milliseconds.")
    ] = 190
    prefix_cache: Annotated[
        bool, Meta(description="Prompts that begin alike share the work already done.")
    ] = True
    chat_template: Annotated[
        str | None,
        Meta(description="Path of a Jinja chat template that replaces the model's own."),
    ] = None
    tool_call_parser: Annotated[
        str,
        Meta(
            description="How the model writes tool calls (hermes, mistral, llama3_json, ... or "
            "none); empty = as its chat template tells."
        ),
    ] = ""
    reasoning_parser: Annotated[
        str,
        Meta(
            description="How the model marks its thinking (think, mistral, granite, ... or none); "
            "empty = as its chat template tells."
        ),
    ] = ""
    step_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds without a finished step, with work to do, after which the engine "
            "counts as stuck.",
        ),
    ] = 120.0
    max_stream_buffer: Annotated[
        int,
        Meta(
            ge=4096,
            extra={"unit": "bytes"},
            description="Text that may wait for one slow reader before its request is cancelled.",
        ),
    ] = 4 * 1024 * 1024


def decode_config(text: str) -> EngineConfig:
    """The configuration out of its JSON. Raises `InvalidRequest` with what is wrong."""
    try:
        return msgspec.json.decode(text, type=EngineConfig)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"engine configuration: {error}") from error
