"""What vLLM's API tells besides of prompts and tokens: `prompt_logprobs`, `return_token_ids`.

Shapes: `CompletionResponseChoice` and `serving.py` in entrypoints/openai/completion,
`ChatCompletionResponse` in entrypoints/openai/chat_completion, and `Logprob` in logprobs.py
(vllm-project/vllm 030ea52, 2026). The whole vocabulary (-1) cannot be asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Event, PromptToken, PromptTokens
from trunkline.wire.openai.answers import finite
from trunkline.wire.openai.fields import NOTHING, CommonFields, TopCount

# Bytes of all prompts of a call times the log probabilities of each token: each of these takes
# 0.2 KB until the answer is written. What one prompt may have, the engine decides.
_MOST = 16 * 1024 * 1024


class PromptFields(CommonFields, kw_only=True):
    """What completions and chat completions accept besides."""

    # A note; see `notes`.
    user: Raw = NOTHING
    prompt_logprobs: TopCount | None = None
    return_token_ids: bool | None = None


class PromptLogprob(msgspec.Struct):
    """One alternative of a prompt token."""

    logprob: float
    rank: int
    decoded_token: str


# By token id: the prompt's own token, and the best at its position. null: nothing precedes it.
PromptLogprobs = list[dict[int, PromptLogprob] | None]


def check_prompt_logprobs(fields: PromptFields) -> None:
    """Raise `InvalidRequest` where vLLM has no place for them."""
    if fields.prompt_logprobs is not None and fields.stream:
        problem = "'prompt_logprobs' are not available when 'stream' is true."
        raise InvalidRequest(problem, param="prompt_logprobs")


def check_amount(size: int, top: int | None, param: str) -> None:
    """Raise `InvalidRequest` where `top` alternatives of each token in prompts of `size` bytes are
    more than can be kept.
    """
    if top is not None and size * (1 + top) > _MOST:
        problem = f"Prompts of {size} bytes are too long for {top} alternatives of each token."
        raise InvalidRequest(problem, param=param)


def prompt_logprobs(tokens: Sequence[PromptToken], top: int) -> PromptLogprobs:
    """In vLLM's shape, with `top` alternatives of each."""
    return [None if one.logprob is None else _of(one, one.logprob, top) for one in tokens]


def _of(one: PromptToken, logprob: float, top: int) -> dict[int, PromptLogprob]:
    found = {one.token_id: PromptLogprob(finite(logprob), one.rank, one.token)}
    for rank, (text, _, token, value) in enumerate(one.top[:top], 1):
        found[token] = PromptLogprob(finite(value), rank, text)
    return found


class Prompts:
    """The prompts of a call, as their events tell them."""

    def __init__(self) -> None:
        self._tokens: dict[int, list[PromptToken]] = {}

    def take(self, prompt: int, events: Sequence[Event]) -> None:
        """Keep what `events` tell of prompt number `prompt`."""
        for event in events:
            if isinstance(event, PromptTokens):
                self._tokens.setdefault(prompt, []).extend(event.tokens)

    def tokens(self, prompt: int) -> list[PromptToken]:
        """All of its tokens, once its answer has begun."""
        return self._tokens.get(prompt, [])

    def ids(self, prompt: int) -> list[int]:
        """Their ids."""
        return [one.token_id for one in self.tokens(prompt)]

    def text(self, prompt: int) -> str:
        """What they say together, special tokens included."""
        return b"".join(one.data for one in self.tokens(prompt)).decode(errors="replace")
