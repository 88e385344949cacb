"""Request fields of TGI's routes, their checks and what becomes of them.

`router/src/lib.rs` and `router/src/validation.rs` (TGI db931fc, 2026-01-08), whose words the errors
have. Allowed here and not there: more stop sequences, more alternatives, schemas without
`properties`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from trunkline.core.errors import Unprocessable
from trunkline.core.types import Grammar, SamplingParams
from trunkline.wire.openai.fields import NOTHING, asks, decode
from trunkline.wire.openai.formats import json_schema

# TGI's --max-stop-sequences is 4, its --max-top-n-tokens 5 and its --max-best-of 2.
MAX_STOPS = 16
MAX_TOP = 20
MAX_BEST_OF = 128

_COUNT = Meta(ge=0, le=2**31 - 1)


class Parameters(msgspec.Struct, kw_only=True):
    """`parameters`. None = not given."""

    best_of: Annotated[int, _COUNT] | None = None
    temperature: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    top_p: float | None = None
    typical_p: float | None = None
    do_sample: bool | None = None
    max_new_tokens: Annotated[int, _COUNT] | None = None
    return_full_text: bool | None = None
    stop: list[str] | None = None
    truncate: Annotated[int, _COUNT] | None = None
    watermark: bool | None = None
    details: bool | None = None
    decoder_input_details: bool | None = None
    seed: Annotated[int, Meta(ge=0)] | None = None
    top_n_tokens: Annotated[int, _COUNT] | None = None
    grammar: Raw = NOTHING
    adapter_id: str | None = None


# Without `parameters` TGI samples, with them it does not unless they say so.
NO_PARAMETERS = Parameters(do_sample=True)


class GenerateFields(msgspec.Struct, kw_only=True):
    """The body. `stream` counts on `POST /` alone; TGI knows no `model`."""

    inputs: str
    parameters: Parameters | None = None
    stream: bool | None = None
    model: str | None = None


class _Grammar(msgspec.Struct):
    type: str
    value: Raw = NOTHING


class _Named(msgspec.Struct):
    schema: Raw


_grammar = msgspec.json.Decoder(_Grammar)
_named = msgspec.json.Decoder(_Named)
_string = msgspec.json.Decoder(str)


def check(inputs: str, parameters: Parameters, *, stream: bool) -> None:
    """Raise `Unprocessable` for what makes no sense."""
    if not inputs:
        raise _wrong("`inputs` cannot be empty", "inputs")
    _check_numbers(parameters)
    _check_best_of(parameters, stream=stream)
    stops = parameters.stop or []
    if len(stops) > MAX_STOPS:
        problem = f"`stop` supports up to {MAX_STOPS} stop sequences. Given: {len(stops)}"
        raise _wrong(problem, "stop")
    if "" in stops:
        raise _wrong("`stop` must not hold an empty sequence", "stop")
    if parameters.decoder_input_details and stream:
        problem = "`decoder_input_details` == true is not supported when streaming tokens"
        raise _wrong(problem, "decoder_input_details")


def beyond(parameters: Parameters) -> Mapping[str, str]:
    """See `Request.beyond`."""
    asked = [name for name in ("watermark", "adapter_id") if getattr(parameters, name)]
    return {name: f"`{name}` is not supported" for name in asked}


def _check_numbers(parameters: Parameters) -> None:
    for name in ("temperature", "repetition_penalty", "top_k"):
        value = getattr(parameters, name)
        if value is not None and not value > 0:
            raise _wrong(f"`{name}` must be strictly positive", name)
    penalty = parameters.frequency_penalty
    if penalty is not None and not -2.0 <= penalty <= 2.0:
        raise _wrong("`frequency_penalty` must be >= -2.0 and <= 2.0", "frequency_penalty")
    for name in ("top_p", "typical_p"):
        value = getattr(parameters, name)
        if value is not None and not 0.0 < value < 1.0:
            raise _wrong(f"`{name}` must be > 0.0 and < 1.0", name)
    if parameters.max_new_tokens == 0:
        raise _wrong("`max_new_tokens` must be strictly positive", "max_new_tokens")
    if parameters.truncate == 0:
        raise _wrong("`truncate` must be strictly positive", "truncate")
    if (parameters.top_n_tokens or 0) > MAX_TOP:
        given = parameters.top_n_tokens
        problem = f"`top_n_tokens` must be >= 0 and <= {MAX_TOP}. Given: {given}"
        raise _wrong(problem, "top_n_tokens")
    if parameters.seed is not None and parameters.seed >= 1 << 64:
        raise _wrong("`seed` must fit 64 bits", "seed")


def _check_best_of(parameters: Parameters, *, stream: bool) -> None:
    best_of = parameters.best_of
    if best_of is None or best_of == 1:
        return
    if stream:
        raise _wrong("`best_of` != 1 is not supported when streaming tokens", "best_of")
    if not 1 <= best_of <= MAX_BEST_OF:
        raise _wrong(f"`best_of` must be > 0 and <= {MAX_BEST_OF}. Given: {best_of}", "best_of")
    given = (parameters.temperature, parameters.top_k, parameters.top_p, parameters.typical_p)
    if not parameters.do_sample and given == (None,) * 4:
        raise _wrong("you must use sampling when `best_of` is > 1", "best_of")
    if parameters.seed is not None:
        raise _wrong("`seed` must not be set when `best_of` > 1", "seed")


def samples(parameters: Parameters) -> bool:
    """Whether tokens are drawn. A temperature of 1 alone draws nothing: `utils/tokens.py`."""
    return (
        bool(parameters.do_sample)
        or parameters.temperature not in (None, 1.0)
        or parameters.top_k is not None
        or parameters.top_p is not None
        or parameters.typical_p is not None
    )


def sampling(parameters: Parameters, *, seed: int | None, logprobs: int | None) -> SamplingParams:
    """Sampling parameters of checked fields."""
    drawn = samples(parameters)
    temperature = parameters.temperature
    return SamplingParams(
        temperature=0.0 if not drawn else 1.0 if temperature is None else temperature,
        top_k=parameters.top_k or 0,
        top_p=parameters.top_p or 1.0,
        typical_p=parameters.typical_p or 1.0,
        repetition_penalty=parameters.repetition_penalty or 1.0,
        frequency_penalty=parameters.frequency_penalty or 0.0,
        seed=seed,
        max_tokens=parameters.max_new_tokens,
        logprobs=logprobs,
    )


def drawn_seed(request_id: str) -> int:
    """The seed of a request that brings none; TGI tells it in `details`.

    Ids are random, so it differs from request to request. 63 bits: safe in every JSON reader that
    has 64-bit integers.
    """
    digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def grammar(raw: Raw) -> Grammar | None:
    """The constraint that `parameters.grammar` asks for. Raises `Unprocessable`."""
    if not asks(raw):
        return None
    where = "parameters.grammar"
    wanted = decode(_grammar, raw, where)
    if wanted.value is NOTHING:
        raise _wrong(f"`{where}.value` is missing", f"{where}.value")
    match wanted.type:
        case "json" | "json_object":
            # A schema, or the text of one.
            text = bytes(wanted.value).strip()
            if text.startswith(b'"'):
                text = decode(_string, text, f"{where}.value").strip().encode()
            return json_schema(Raw(text), strict=False)
        case "json_schema":
            schema = decode(_named, wanted.value, f"{where}.value").schema
            return json_schema(schema, strict=False)
        case "regex":
            return Grammar("regex", decode(_string, wanted.value, f"{where}.value"))
    problem = f"grammar is not valid: unknown type {wanted.type[:40]!r}; there are json, "
    raise _wrong(problem + "json_object, json_schema and regex", f"{where}.type")


def _wrong(problem: str, param: str) -> Unprocessable:
    return Unprocessable(problem, param=param)
