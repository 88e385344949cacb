"""What a dialect offers for talking to a server that speaks it: requests to bytes, bytes to events.

The mirror image of `wire.codec`. As pure: no sockets, no clocks, no credentials. A `Speaker` is one
operation of one dialect; `wire.speakers` has them all by name.

Two ways lead through a speaker. Translating: `encode` turns a core request into a body, and a
`Reader` turns the response into core events. Relaying: the client spoke the same dialect, so the
body passes as it is but for the model's name and what `Relay` must know of usage.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import msgspec

from trunkline.core.errors import TrunklineError
from trunkline.core.types import Event, RawRequest, Request, Usage

# Fields of OpenAI's API that say nothing about the answer's tokens (`Request.notes`).
Note = Literal[
    "user",
    "metadata",
    "store",
    "safety_identifier",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "prediction",
    "verbosity",
]
NOTES: tuple[Note, ...] = get_args(Note)
# What a server may be able to do, and a request may ask for.
Feature = Literal[
    "stream",
    "stream_usage",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "json_object",
    "json_schema",
    "grammar",
    "logprobs",
    "n",
    "seed",
    "logit_bias",
    "penalties",
    "top_k",
    "min_p",
    "repetition_penalty",
    # `repeat_penalty` is what it calls that in OpenAI's dialect.
    "repeat_penalty",
    "reasoning",
    # It thinks unless `thinking` tells it not to, and turns that call tools go back with their
    # reasoning (api-docs.deepseek.com/guides/thinking_mode).
    "past_reasoning",
    "continue_final_message",
    "min_tokens",
    "ignore_eos",
    # Prompts of token ids.
    "token_ids",
    # `max_completion_tokens` is the name that it wants, and refuses `max_tokens`.
    "max_completion_tokens",
    # Variables for the chat template (`chat_template_kwargs`), and the reasoning of earlier turns.
    "template_kwargs",
    # Tokens that end the output.
    "stop_token_ids",
    # The stop string that matched stays in the text.
    "include_stop",
    # Whether special tokens are added to a prompt, and shown in the text.
    "special_tokens",
    # Only the last so many tokens of a prompt are used.
    "truncate_prompt",
    "cache_salt",
    "priority",
    "typical_p",
    # Grammars by the older `guided_regex` and so on (vLLM), or by `regex` and `ebnf` (SGLang);
    # where neither is there, "grammar" means `structured_outputs` (vLLM).
    "guided_fields",
    "ebnf_fields",
    # Ids of tool calls are nine letters and digits, and others are refused.
    "short_call_ids",
    # Reasoning of earlier turns (`reasoning_content`) is refused.
    "bare_turns",
    # Any word for an effort, for any model: what does not suit the model is translated there.
    "any_effort",
    Note,
]


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What one model of one backend takes, and what to do about the rest."""

    # As the server names it.
    model: str
    features: frozenset[Feature]
    # Longest prompt plus output, in tokens; 0 = not known.
    context_length: int = 0
    # What to do with a field that the server cannot honour.
    unsupported: Literal["refuse", "drop"] = "refuse"
    # Top-level fields that each body gets which does not have them.
    default_body: Mapping[str, Any] = {}
    # Top-level fields added to each body; they win over what the request says.
    extra_body: Mapping[str, Any] = {}
    # True: a provider's API, whose models have defaults of their own. What a client's dialect
    # implies without being asked (Ollama's temperature of 0.8) is not sent there.
    hosted: bool = False


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP request less what the connection adds: host, credentials, length."""

    # Below the backend's base URL; begins with "/". Percent-encoded.
    path: str
    body: bytes
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    # Fields of the request that were left out: where the terms say "drop", and what is no reason
    # to refuse.
    dropped: tuple[str, ...] = ()


class Head(msgspec.Struct, frozen=True):
    """The beginning of a response."""

    status: int
    # Names in lower case; the first of each, without `content-length`.
    headers: Mapping[str, str]


@functools.lru_cache(maxsize=256)
def media_type(field: str) -> str:
    """A content type without its parameters, in lower case."""
    return field.partition(";")[0].strip().lower()


class Reader(Protocol):
    """Turns one response body into the events of one request.

    Raises `UpstreamFailed` where the body is no answer, and the error that the server reports
    within a stream that has begun (`RateLimited`, `ContextOverflow`, ...).
    """

    def feed(self, data: bytes) -> Sequence[Event]:
        """Events that `data` completes; `data` may end anywhere."""

    def end(self) -> Sequence[Event]:
        """The body is over. The last event is `Completed`; raises where the answer is cut off."""


class Relay(Protocol):
    """Passes one response body on. Raises as `Reader`."""

    def feed(self, data: bytes) -> Sequence[Event]:
        """`Relayed` with what may be sent on now."""

    def end(self) -> Sequence[Event]:
        """As of `Reader`."""


class Speaker(Protocol):
    """One operation of one dialect, spoken to a server."""

    # As `Codec.operation` of the same operation: "openai.chat".
    operation: str

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """Always asks for a stream where the terms have "stream", whatever the client wants.

        Raises `Unsupported`, naming the field, for what neither dialect nor terms can express.
        """

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """What reads the response whose head has status 2xx."""

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """The same request for this server: its name of the model, and usage asked for."""

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """What passes on the response to `patch`."""

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """What a response with another status says. Honours Retry-After."""


@runtime_checkable
class PlainSpeaker(Speaker, Protocol):
    """One whose whole answers pass as they are, but for the model's name, once looked at."""

    # Of all requests, as of `Outgoing`.
    path: str

    def passes(self, terms: Terms) -> bool:
        """Whether nothing but the model's name in a body that asks for no stream is changed."""

    def counts(self, body: bytes) -> tuple[int, int] | None:
        """Tokens of prompt and answer, as `look` would find them; None: it has to."""

    def look(self, body: bytes) -> Usage:
        """What a whole answer tells of usage.

        Raises the error that it reports, and `UpstreamFailed` where it is no answer.
        """


@runtime_checkable
class UnmarkedSpeaker(Speaker, Protocol):
    """One whose streams do not say where they end: they end where the transfer does."""

    unmarked: Literal[True]


def uncounted(body: bytes) -> None:
    """As of `PlainSpeaker.counts`, where only `look` can tell."""
