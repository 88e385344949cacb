"""Request fields of SGLang's `/generate`, their checks and what becomes of them.

`GenerateReqInput` in `managers/io_struct.py` (sgl-project/sglang 001067f) and `SamplingParams` in
`sampling/sampling_params.py` (00c17ca), both of 2026; docs/basic_usage/sampling_params.md. Fields
that nobody knows are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Grammar, Input, SamplingParams, TextInput, TokensInput
from trunkline.wire.openai.completions import MAX_CHOICES, MAX_PROMPTS, TokenIds
from trunkline.wire.openai.fields import (
    MAX_STOPS,
    NOTHING,
    Penalty,
    Refusal,
    Share,
    TokenId,
    asks,
    biases,
    decode,
)
from trunkline.wire.openai.formats import json_schema

DEFAULT_MAX_NEW_TOKENS = 128
# Any JSON at all, as SGLang spells it (constrained/base_grammar_backend.py).
_ANY_JSON = "$$ANY$$"
_GREEDY = 1e-6
_MAX_TOP = 1000


class GenerateFields(msgspec.Struct, kw_only=True):
    """The body. What is `Raw` may be one value, or a list with one for each prompt."""

    text: Raw = NOTHING
    input_ids: Raw = NOTHING
    sampling_params: Raw = NOTHING
    rid: str | Annotated[list[str], Meta(max_length=MAX_PROMPTS)] | None = None
    return_logprob: Raw = NOTHING
    top_logprobs_num: Raw = NOTHING
    logprob_start_len: Raw = NOTHING
    return_text_in_logprobs: bool | None = None
    stream: bool | None = None
    # Higher runs earlier.
    priority: Annotated[int, Meta(ge=-(2**31) + 1, le=2**31 - 1)] | None = None
    cache_salt: Annotated[str, Meta(max_length=1024)] | None = None
    # Ours; SGLang serves one model.
    model: str | None = None
    # Known, and refused when they ask for something.
    input_embeds: Raw = NOTHING
    image_data: Raw = NOTHING
    video_data: Raw = NOTHING
    audio_data: Raw = NOTHING
    token_ids_logprob: Raw = NOTHING
    return_hidden_states: Raw = NOTHING
    session_params: Raw = NOTHING
    lora_path: Raw = NOTHING
    custom_logit_processor: Raw = NOTHING


class Sampling(msgspec.Struct, kw_only=True):
    """`sampling_params`. None = not given, as SGLang takes null."""

    # null: whatever the context leaves; 0: the prompt alone is looked at.
    max_new_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = DEFAULT_MAX_NEW_TOKENS
    min_new_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=MAX_STOPS)] | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=1024)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Share | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    json_schema: Raw = NOTHING
    regex: str | None = None
    ebnf: str | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    no_stop_trim: bool | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    sampling_seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    # Known, and refused when they ask for something.
    stop_regex: Raw = NOTHING
    structural_tag: Raw = NOTHING
    custom_params: Raw = NOTHING


class _Text(msgspec.Struct):
    text: str


class _Texts(msgspec.Struct):
    text: Annotated[list[str], Meta(min_length=1, max_length=MAX_PROMPTS)]


class _Ids(msgspec.Struct):
    input_ids: TokenIds


class _IdLists(msgspec.Struct):
    input_ids: Annotated[list[TokenIds], Meta(min_length=1, max_length=MAX_PROMPTS)]


refusal = Refusal(
    ("token_ids_logprob", "return_hidden_states", "lora_path", "custom_logit_processor"),
    essential=("input_embeds", "image_data", "video_data", "audio_data", "session_params"),
)
sampling_refusal = Refusal(("stop_regex", "structural_tag", "custom_params"))

_text = msgspec.json.Decoder(_Text)
_texts = msgspec.json.Decoder(_Texts)
_ids = msgspec.json.Decoder(_Ids)
_id_lists = msgspec.json.Decoder(_IdLists)
_raws = msgspec.json.Decoder(Annotated[list[Raw], Meta(max_length=MAX_PROMPTS)])
_sampling = msgspec.json.Decoder(Sampling)
_flag = msgspec.json.Decoder(bool)
_top = msgspec.json.Decoder(Annotated[int, Meta(ge=0, le=_MAX_TOP)])
_integer = msgspec.json.Decoder(Annotated[int, Meta(ge=-1, le=2**31 - 1)])
_string = msgspec.json.Decoder(str)

T = TypeVar("T")


class Prompts(msgspec.Struct, frozen=True):
    """The prompts of a call."""

    inputs: tuple[Input, ...]
    # True: they came as a list, and so do the answers.
    batch: bool


def prompts(fields: GenerateFields) -> Prompts:
    """`text` or `input_ids`, one or many. Raises `InvalidRequest`."""
    text, ids = _given(fields.text), _given(fields.input_ids)
    if (text is None) == (ids is None):
        problem = "Either text, input_ids or input_embeds should be provided."
        raise InvalidRequest(problem, param="text")
    if text is not None:
        body = b'{"text":%b}' % text
        if not text.startswith(b"["):
            return Prompts((TextInput(decode(_text, body).text),), batch=False)
        return Prompts(tuple(map(TextInput, decode(_texts, body).text)), batch=True)
    assert ids is not None
    body = b'{"input_ids":%b}' % ids
    if not ids[1:].lstrip(b" \t\r\n").startswith(b"["):
        return Prompts((TokensInput(tuple(decode(_ids, body).input_ids)),), batch=False)
    lists = decode(_id_lists, body).input_ids
    return Prompts(tuple(TokensInput(tuple(one)) for one in lists), batch=True)


def samplings(fields: GenerateFields, count: int) -> list[Sampling]:
    """`sampling_params` of each prompt. Raises `InvalidRequest` and `Unsupported`."""
    found = _each(_sampling, fields.sampling_params, count, "sampling_params", Sampling())
    rows = found[0].n or 1
    if any((one.n or 1) != rows for one in found):
        problem = "The parallel_sample_num should be the same for all samples in sample params."
        raise InvalidRequest(problem, param="sampling_params")
    if count * rows > MAX_CHOICES:
        problem = f"{count} prompts times n = {rows} is over {MAX_CHOICES}."
        raise InvalidRequest(problem, param="sampling_params")
    return found


class Logprobs(msgspec.Struct, frozen=True):
    """What of the log probabilities of one prompt and its answers is wanted."""

    # Alternatives of each token.
    top: int = 0
    # Position of the first prompt token that is told; -1 = those of the answers alone.
    start: int = -1


def logprobs(fields: GenerateFields, count: int) -> list[Logprobs | None]:
    """For each prompt; None: no log probabilities. Raises `InvalidRequest`."""
    wanted = _each(_flag, fields.return_logprob, count, "return_logprob", False)
    top = _each(_top, fields.top_logprobs_num, count, "top_logprobs_num", 0)
    starts = _each(_integer, fields.logprob_start_len, count, "logprob_start_len", -1)
    return [
        Logprobs(number, start) if flag else None
        for flag, number, start in zip(wanted, top, starts, strict=True)
    ]


def grammar(sampling: Sampling) -> Grammar | None:
    """The one constraint. Raises `InvalidRequest`."""
    found: list[Grammar] = []
    if asks(sampling.json_schema):
        text = bytes(sampling.json_schema).strip().decode()
        if text.startswith('"'):
            text = decode(_string, sampling.json_schema, "sampling_params.json_schema")
        free = text == _ANY_JSON
        schema = json_schema(Raw(text.encode()), strict=False)
        found.append(Grammar("json_object") if free else schema)
    if sampling.regex is not None:
        found.append(Grammar("regex", sampling.regex))
    if sampling.ebnf is not None:
        found.append(Grammar("gbnf", sampling.ebnf))
    if len(found) > 1:
        problem = "Only one of regex, json_schema, or ebnf can be set."
        raise InvalidRequest(problem, param="sampling_params")
    return found[0] if found else None


def stops(sampling: Sampling) -> tuple[str, ...]:
    """Stop strings. Raises `InvalidRequest` for an empty one."""
    found = (sampling.stop,) if isinstance(sampling.stop, str) else tuple(sampling.stop or ())
    if "" in found:
        raise InvalidRequest("Invalid value for 'stop': a stop string is empty.", param="stop")
    return found


def sampling_params(sampling: Sampling, logprobs: int | None) -> SamplingParams:
    """Sampling parameters; what was not given is left at its neutral default."""
    most, least = sampling.max_new_tokens, sampling.min_new_tokens
    if most is not None and least is not None and least > most:
        problem = f"min_new_tokens must be in [0, max_new_tokens({most})], got {least}."
        raise InvalidRequest(problem, param="min_new_tokens")
    temperature = sampling.temperature
    if temperature is not None and temperature < _GREEDY:
        temperature = 0.0
    if sampling.top_k == 0:
        problem = "top_k must be -1 (disable) or at least 1, got 0."
        raise InvalidRequest(problem, param="top_k")
    given: dict[str, Any] = {
        "temperature": temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": sampling.sampling_seed,
        "max_tokens": most,
        "min_tokens": least,
        "ignore_eos": sampling.ignore_eos,
        "logprobs": logprobs,
    }
    if sampling.logit_bias:
        given["logit_bias"] = biases(sampling.logit_bias)
    if sampling.stop_token_ids:
        given["stop_token_ids"] = tuple(sampling.stop_token_ids)
    return SamplingParams(**{name: value for name, value in given.items() if value is not None})


def _given(raw: Raw) -> bytes | None:
    value = bytes(raw).strip()
    return None if value in (b"", b"null") else value


def _each(decoder: msgspec.json.Decoder[T], raw: Raw, count: int, name: str, default: T) -> list[T]:
    """One value for each of `count` prompts, out of a value for all or a list of them."""
    value = _given(raw)
    if value is None:
        return [default] * count
    if not value.startswith(b"["):
        return [decode(decoder, value, name)] * count
    items = decode(_raws, value, name)
    if len(items) != count:
        problem = f"'{name}' has {len(items)} entries for {count} prompts."
        raise InvalidRequest(problem, param=name)
    return [
        default if _given(item) is None else decode(decoder, item, f"{name}[{index}]")
        for index, item in enumerate(items)
    ]
