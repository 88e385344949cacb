"""Request fields that chat completions and completions share, and what becomes of them.

OpenAI's fields: developers.openai.com/api/reference, and the official client's
`types/chat/completion_create_params.py`; further sampling fields are vLLM's
(docs/serving/openai_compatible_server.md). Read 2026-11-21. Fields that nobody knows are ignored.
A known field that cannot be honoured is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.outline import FAULTS
from trunkline.core.types import SamplingParams
from trunkline.wire.openai.errors import malformed

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
PositiveShare = Annotated[float, Meta(gt=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TopCount = Annotated[int, Meta(ge=0, le=20)]

MAX_STOPS = 16
# Levels of values within values, where what was sent goes on to a template.
MAX_DEPTH = 64
_MAX_BIASES = 4096
# Raw values that ask for nothing.
_NEUTRAL = (b"", b"null", b"false", b"[]", b"{}", b'""')
NOTHING = Raw(b"")


class StreamOptions(msgspec.Struct):
    """`stream_options`.

    vLLM's `continuous_usage_stats` is a hint that is not taken; `include_obfuscation` see `notes`.
    """

    include_usage: bool | None = None


class CommonFields(msgspec.Struct, kw_only=True):
    """What both routes accept. None = not given."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: PositiveShare | None = None
    stop: str | Annotated[list[str], Meta(max_length=MAX_STOPS)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    response_format: Raw = NOTHING
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    # vLLM's.
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Share | None = None
    typical_p: PositiveShare | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=1024)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    # Only so many of the prompt's last tokens are used.
    truncate_prompt_tokens: Count | None = None
    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    cache_salt: Annotated[str, Meta(max_length=1024)] | None = None
    # Constraints on the answer: vLLM's, now and before; SGLang's; llama.cpp's. See `formats`.
    structured_outputs: Raw = NOTHING
    guided_json: Raw = NOTHING
    guided_regex: Raw = NOTHING
    guided_choice: Raw = NOTHING
    guided_grammar: Raw = NOTHING
    json_schema: Raw = NOTHING
    regex: Raw = NOTHING
    ebnf: Raw = NOTHING
    grammar: Raw = NOTHING
    # Known, and refused when they ask for something.
    use_beam_search: Raw = NOTHING
    allowed_token_ids: Raw = NOTHING
    bad_words: Raw = NOTHING
    logits_processors: Raw = NOTHING
    return_tokens_as_token_ids: Raw = NOTHING


COMMON_REFUSED = (
    "use_beam_search",
    "allowed_token_ids",
    "bad_words",
    "logits_processors",
    "return_tokens_as_token_ids",
)

T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], body: bytes | bytearray | Raw, where: str = "") -> T:
    """Decode a body, or its part at `where`; or raise `InvalidRequest` that names what is wrong."""
    try:
        return decoder.decode(body)
    except FAULTS as error:
        raise malformed(error, where) from error


class Refusal:
    """Finds which of the raw fields `names` ask for something (see `Request.beyond`).

    Those of `even_empty` do as soon as they are an object. What a request without those of
    `essential` would answer is another question: they are refused at once.
    """

    def __init__(
        self,
        names: Sequence[str],
        even_empty: Collection[str] = (),
        essential: Collection[str] = (),
    ) -> None:
        names = (*essential, *names)
        self._names = names
        self._even_empty = frozenset(even_empty)
        self._essential = frozenset(essential)
        # All at once: nearly every request has none of them.
        self._get = operator.attrgetter(*names)
        self._none = (NOTHING,) * len(names)

    def of(self, fields: msgspec.Struct) -> Mapping[str, str]:
        """What asks, each with the words that refuse it. Raises `Unsupported`."""
        values = self._get(fields)
        if values == self._none:
            return {}
        found = {}
        for name, raw in zip(self._names, values, strict=True):
            if asks(raw) or (name in self._even_empty and bytes(raw) == b"{}"):
                found[name] = f"'{name}' is not supported."
                if name in self._essential:
                    raise Unsupported(found[name], param=name)
        return found


def asks(raw: Raw) -> bool:
    """Whether a raw field asks for anything."""
    return raw is not NOTHING and bytes(raw) not in _NEUTRAL


def modest(value: object, depth: int = MAX_DEPTH) -> bool:
    """Whether `value` can be sent on to another process; JSON allows more than MessagePack."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(modest(one, depth - 1) for one in inner)
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def stops(fields: CommonFields) -> tuple[str, ...]:
    """Stop strings. Raises `InvalidRequest` for an empty one."""
    if not fields.stop:
        if fields.stop == "":
            raise InvalidRequest("Invalid value for 'stop': a stop string is empty.", param="stop")
        return ()
    found = (fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop)
    if "" in found:
        raise InvalidRequest("Invalid value for 'stop': a stop string is empty.", param="stop")
    return found


def include_usage(fields: CommonFields) -> bool:
    """Whether the stream ends with a chunk of usage. Raises `InvalidRequest`."""
    if fields.stream_options is None:
        return False
    if not fields.stream:
        problem = "'stream_options' is only allowed when 'stream' is true."
        raise InvalidRequest(problem, param="stream_options")
    return bool(fields.stream_options.include_usage)


def sampling(
    fields: CommonFields, *, max_tokens: int | None, logprobs: int | None
) -> SamplingParams:
    """Sampling parameters; what was not given is left at its neutral default."""
    if max_tokens is not None and fields.min_tokens is not None and fields.min_tokens > max_tokens:
        problem = f"'min_tokens' ({fields.min_tokens}) is more than max_tokens ({max_tokens})."
        raise InvalidRequest(problem, param="min_tokens")
    given: dict[str, Any] = {
        "temperature": fields.temperature,
        # -1 is as good as 0, which says nothing.
        "top_k": max(fields.top_k or 0, 0),
        "top_p": fields.top_p,
        "min_p": fields.min_p,
        "typical_p": fields.typical_p,
        "repetition_penalty": fields.repetition_penalty,
        "presence_penalty": fields.presence_penalty,
        "frequency_penalty": fields.frequency_penalty,
        "seed": fields.seed,
        "max_tokens": max_tokens,
        "min_tokens": fields.min_tokens,
        "ignore_eos": fields.ignore_eos,
        "logprobs": logprobs,
    }
    if fields.logit_bias:
        given["logit_bias"] = biases(fields.logit_bias)
    if fields.stop_token_ids:
        given["stop_token_ids"] = tuple(fields.stop_token_ids)
    return SamplingParams(**{name: value for name, value in given.items() if value is not None})


def biases(given: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    """`logit_bias`. Raises `InvalidRequest`."""
    if len(given) > _MAX_BIASES:
        problem = f"Invalid value for 'logit_bias': more than {_MAX_BIASES} entries."
        raise InvalidRequest(problem, param="logit_bias")
    found: list[tuple[int, float]] = []
    for key, bias in given.items():
        # isdecimal alone also accepts other scripts' digits.
        if not (key.isascii() and key.isdecimal() and len(key) <= 10 and int(key) < 2**31):
            problem = f"Invalid value for 'logit_bias': {key[:40]!r} is no token id."
            raise InvalidRequest(problem, param="logit_bias")
        found.append((int(key), bias))
    return tuple(found)
