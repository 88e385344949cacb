"""Parts of the responses that chat completions and completions share."""

from __future__ import annotations

import math

import msgspec

from trunkline.core.errors import TrunklineError
from trunkline.core.types import Usage
from trunkline.wire.one_line import Encoder
from trunkline.wire.openai.errors import render_error

DONE = b"data: [DONE]\n\n"
# What OpenAI uses where a log probability cannot be said; JSON has no infinity.
UNLIKELY = -9999.0

encoder = Encoder()


class PromptDetails(msgspec.Struct):
    """`usage.prompt_tokens_details`."""

    cached_tokens: int


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
        PromptDetails(usage.cached_tokens),
        CompletionDetails(usage.reasoning_tokens),
    )


def finite(logprob: float) -> float:
    """`logprob`, or `UNLIKELY` for one that JSON cannot say."""
    return logprob if math.isfinite(logprob) else UNLIKELY


def stream_error(error: TrunklineError) -> bytes:
    """The last event of a stream that failed. No [DONE] follows: the answer is not whole."""
    return b"data: %b\n\n" % render_error(error)
