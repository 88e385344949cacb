"""Parts of the responses that chat completions and completions share."""

from __future__ import annotations

import math

import msgspec
from msgspec import UNSET, UnsetType

from trunkline.core.errors import TrunklineError
from trunkline.core.types import Usage
from trunkline.wire.codec import Answer
from trunkline.wire.one_line import Encoder
from trunkline.wire.openai.errors import render_error

DONE = b"data: [DONE]\n\n"
# What OpenAI uses where a log probability cannot be said; JSON has no infinity.
UNLIKELY = -9999.0

encoder = Encoder()


class PromptDetails(msgspec.Struct):
    """`usage.prompt_tokens_details`."""

    cached_tokens: int
    # Where that is billed by itself.
    cache_write_tokens: int | UnsetType = UNSET


class CompletionDetails(msgspec.Struct):
    """`usage.completion_tokens_details`."""

    reasoning_tokens: int


class UsageBody(msgspec.Struct):
    """`usage`."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


def usage_body(usage: Usage) -> UsageBody:
    """`usage` in OpenAI's shape."""
    return UsageBody(
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.prompt_tokens + usage.completion_tokens,
        PromptDetails(usage.cached_tokens, usage.cache_write_tokens or UNSET),
        CompletionDetails(usage.reasoning_tokens),
    )


def finite(logprob: float) -> float:
    """`logprob`, or `UNLIKELY` for one that JSON cannot say."""
    return logprob if math.isfinite(logprob) else UNLIKELY


class _Common(msgspec.Struct):
    """What the chunks of a stream have in common."""

    id: str = ""
    created: int = 0
    model: str = ""
    system_fingerprint: str | None = None


_common = msgspec.json.Decoder(_Common)


def chunk_head(kind: str, answer: Answer, relayed: bytes = b"") -> bytes:
    """The beginning of each chunk, up to its choices.

    As of the chunks in `relayed`, where there is one that has an id: Azure's first has none.
    """
    common = _Common(answer.id, answer.created, answer.model, answer.fingerprint)
    for line in relayed.splitlines():
        if line.startswith(b"data:"):
            try:
                found = _common.decode(line[5:])
            except msgspec.DecodeError:
                continue
            if found.id:
                common = found
                break
    return (
        b'data: {"id":%b,"object":%b,"created":%d,"model":%b,"system_fingerprint":%b,"choices":['
    ) % (
        encoder.encode(common.id),
        encoder.encode(kind),
        common.created,
        encoder.encode(common.model),
        encoder.encode(common.system_fingerprint),
    )


def stream_error(error: TrunklineError) -> bytes:
    """The last event of a stream that failed. No [DONE] follows: the answer is not whole."""
    return b"data: %b\n\n" % render_error(error)
