"""Request fields of the generate extension and what becomes of them.

Triton's docs/protocol/extension_generate.md (e1db8a6, 2026-08-19) leaves parameters to the model.
These are those of its vLLM backend (docs/README and samples, 2026-01), whose defaults hold, and the
names that its TensorRT-LLM ensemble has for the same. They come at the top level, in `parameters`,
or as JSON text in `sampling_parameters`; the later counts. Numbers may come as strings. What nobody
knows is ignored.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import SamplingParams
from trunkline.wire.openai.fields import (
    MAX_STOPS,
    NOTHING,
    Count,
    Penalty,
    PositiveShare,
    Refusal,
    Share,
    TokenId,
    decode,
)

# vLLM's own, unlike that of its server.
DEFAULT_MAX_TOKENS = 16

_Stops = str | Annotated[list[str], Meta(max_length=MAX_STOPS)]


class Parameters(msgspec.Struct, kw_only=True):
    """All that counts. None = not given."""

    text_input: str | Annotated[list[str], Meta(min_length=1, max_length=1)]
    id: str | None = None
    stream: bool | None = None
    exclude_input_in_output: bool | None = None
    return_finish_reason: bool | None = None
    return_num_input_tokens: bool | None = None
    return_num_output_tokens: bool | None = None
    max_tokens: Count | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    top_p: PositiveShare | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Share | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: _Stops | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=1024)] | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    # TensorRT-LLM's names.
    stop_words: _Stops | None = None
    random_seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    min_length: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    beam_width: int | None = None
    # Known, and refused when they ask for something.
    n: int | None = None
    best_of: int | None = None
    bad_words: Raw = NOTHING
    image: Raw = NOTHING
    return_logprobs: Raw = NOTHING
    return_cumulative_logprob: Raw = NOTHING
    return_log_probs: Raw = NOTHING
    return_context_logits: Raw = NOTHING
    return_generation_logits: Raw = NOTHING
    lora: Raw = NOTHING
    use_beam_search: Raw = NOTHING


refusal = Refusal(
    (
        "bad_words",
        "return_logprobs",
        "return_cumulative_logprob",
        "return_log_probs",
        "return_context_logits",
        "return_generation_logits",
        "lora",
        "use_beam_search",
    ),
    essential=("image",),
)

_members = msgspec.json.Decoder(dict[str, Raw])
_text = msgspec.json.Decoder(str)
# Not strict: "0.5" is a number and 1 is true, as in Triton's conversion to tensors.
_parameters = msgspec.json.Decoder(Parameters, strict=False)


def decode_parameters(body: bytes | bytearray) -> Parameters:
    """All fields of a body, wherever they stand. Raises `InvalidRequest` and `Unsupported`."""
    found = decode(_members, body)
    for nested in ("parameters", "sampling_parameters"):
        raw = found.pop(nested, NOTHING)
        value = bytes(raw).strip()
        if value in (b"", b"null"):
            continue
        if value.startswith(b'"'):
            value = decode(_text, value, nested).encode()
        more = decode(_members, value, nested)
        found.update(more)
    parameters = decode(_parameters, msgspec.json.encode(found))
    for name in ("n", "best_of", "beam_width"):
        if getattr(parameters, name) not in (None, 1):
            problem = f"'{name}' other than 1 is not supported: there is one text_output."
            raise Unsupported(problem, param=name)
    return parameters


def prompt(parameters: Parameters) -> str:
    """The text, which may stand in a list of one, as a tensor does."""
    given = parameters.text_input
    return given if isinstance(given, str) else given[0]


def stops(parameters: Parameters) -> tuple[str, ...]:
    """Stop strings of either name; TensorRT-LLM's clients send an empty one for none."""
    found: list[str] = []
    for given in (parameters.stop, parameters.stop_words):
        if given is not None:
            found += [given] if isinstance(given, str) else given
    return tuple(one for one in found if one)


def sampling(parameters: Parameters) -> SamplingParams:
    """Sampling parameters; what was not given is left at its neutral default."""
    most = parameters.max_tokens or DEFAULT_MAX_TOKENS
    least = parameters.min_length if parameters.min_tokens is None else parameters.min_tokens
    if least is not None and least > most:
        problem = f"'min_tokens' ({least}) is more than max_tokens ({most})."
        raise InvalidRequest(problem, param="min_tokens")
    given: dict[str, Any] = {
        "temperature": parameters.temperature,
        "top_k": parameters.top_k,
        "top_p": parameters.top_p,
        "min_p": parameters.min_p,
        "repetition_penalty": parameters.repetition_penalty,
        "presence_penalty": parameters.presence_penalty,
        "frequency_penalty": parameters.frequency_penalty,
        "seed": parameters.random_seed if parameters.seed is None else parameters.seed,
        "max_tokens": most,
        "min_tokens": least,
        "ignore_eos": parameters.ignore_eos,
    }
    if parameters.stop_token_ids:
        given["stop_token_ids"] = tuple(parameters.stop_token_ids)
    return SamplingParams(**{name: value for name, value in given.items() if value is not None})
