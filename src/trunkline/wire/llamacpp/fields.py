"""The body of `/completion` and `/infill`.

Source: tools/server/server-schema.cpp of llama.cpp b11549. Unknown fields are ignored there and
here, and null is as good as absent. Values outside a soft limit are clamped, outside a hard one
refused, as there.

Accepted without effect: `id_slot`, `n_keep`, `n_discard`, `n_cache_reuse` (nothing is ever cut out
of a context), `timings_per_token`, `return_progress`, `sse_ping_interval`, `backend_sampling`,
`preserved_tokens`, `verbose`; `t_max_prompt_ms`, which that server does not heed either.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw

from trunkline.core.errors import InvalidRequest
from trunkline.core.outline import FAULTS
from trunkline.wire.llamacpp.errors import malformed

NOTHING = Raw(b"")

_Rows = Annotated[int, Meta(ge=1, le=128)]

T = TypeVar("T")


class CompletionFields(msgspec.Struct, kw_only=True):
    """What we look at."""

    model: str | None = None
    prompt: Raw = NOTHING
    stream: bool | None = None
    cache_prompt: bool | None = None
    return_tokens: bool | None = None
    n_predict: int | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    n_cmpl: _Rows | None = None
    n: _Rows | None = None
    n_indent: int | None = None
    t_max_predict_ms: float | None = None
    response_fields: list[str] | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None
    logit_bias: Any = None
    grammar: str | None = None
    json_schema: Raw = NOTHING
    # Sampling.
    samplers: str | list[str] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_last_n: Annotated[int, Meta(ge=0)] | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    n_probs: int | None = None
    logprobs: int | None = None
    # Refused, unless they change nothing; see sampling.py.
    post_sampling_probs: bool | None = None
    dynatemp_range: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dry_multiplier: float | None = None
    mirostat: int | None = None
    adaptive_target: float | None = None
    min_keep: int | None = None
    reasoning_budget_tokens: int | None = None
    lora: list[Any] | None = None
    grammar_lazy: bool | None = None
    grammar_triggers: list[Any] | None = None


def decode(decoder: msgspec.json.Decoder[T], body: bytes | bytearray | Raw) -> T:
    """Decode, or raise `InvalidRequest` that says what is wrong."""
    try:
        return decoder.decode(body)
    except FAULTS as error:
        raise malformed(error) from error


def limit(fields: CompletionFields) -> int:
    """`n_predict` by any of its names; -1 = until the context is full. Raises `InvalidRequest`."""
    names = ("n_predict", "max_completion_tokens", "max_tokens")
    for name in names:
        value: int | None = getattr(fields, name)
        if value is not None:
            if not -1 <= value < 2**31:
                raise InvalidRequest(
                    f"Field '{name}': Value must be between -1 <= value <= {2**31 - 1}, but got "
                    f"{value}",
                    param=name,
                )
            return value
    return -1
