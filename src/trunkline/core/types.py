"""The values that cross package seams: requests, events, usage.

A codec in ``wire/`` decodes bytes into a `Request`; a backend answers with `Event`s. Both are
frozen, so that any layer may keep a reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from trunkline.core.errors import ErrorInfo
from trunkline.core.facts import Abilities, BackendStats, Health, ModelCard
from trunkline.core.inputs import (
    CachePoint,
    ChatInput,
    Grammar,
    InfillInput,
    Input,
    Json,
    Message,
    MixedInput,
    SourceFile,
    TextInput,
    TextPart,
    Thought,
    TokensInput,
)

__all__ = [
    "Abilities",
    "Able",
    "Backend",
    "BackendStats",
    "CachePoint",
    "Call",
    "ChatInput",
    "Completed",
    "Delta",
    "Event",
    "EventSink",
    "Failed",
    "FinishReason",
    "Grammar",
    "Health",
    "Holder",
    "InfillInput",
    "Input",
    "Json",
    "Keeper",
    "KeptAsk",
    "LineLimits",
    "Message",
    "MixedInput",
    "ModelCard",
    "OnDemand",
    "PromptToken",
    "PromptTokens",
    "RawRequest",
    "Relayed",
    "Request",
    "Resumed",
    "Routed",
    "RowFinished",
    "SamplingParams",
    "SourceFile",
    "TextInput",
    "TextPart",
    "Thought",
    "Timing",
    "TokenLogprob",
    "Tokenization",
    "TokensInput",
    "ToolCallDelta",
    "Usage",
]

# "content_filter": a provider's policy broke the answer off; what came before it stands.
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "cancelled", "error"]


class SamplingParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """How tokens are chosen. Defaults are the neutral values: plain sampling at temperature 1."""

    # 0 = greedy. [0, inf)
    temperature: float = 1.0
    # Keep the k most probable tokens; 0 or less = all.
    top_k: int = 0
    # Nucleus: the smallest set of tokens whose mass reaches this. (0, 1]
    top_p: float = 1.0
    # Drop tokens less probable than this share of the best one's. [0, 1]
    min_p: float = 0.0
    # Locally typical sampling (arXiv:2202.00666). (0, 1]
    typical_p: float = 1.0
    # Divides (positive) or multiplies (negative) the logits of tokens seen in prompt or output.
    repetition_penalty: float = 1.0
    # Subtracted once from tokens that the output holds already. [-2, 2] for OpenAI
    presence_penalty: float = 0.0
    # Subtracted per occurrence in the output.
    frequency_penalty: float = 0.0
    # (token id, added to its logit).
    logit_bias: tuple[tuple[int, float], ...] = ()
    # Seed of the random stream; None = drawn by the front, so that each request differs.
    seed: int | None = None
    # Most output tokens; None = whatever the context leaves; 0 = the prompt alone is computed.
    max_tokens: int | None = None
    # No end of text or stop before this many output tokens.
    min_tokens: int = 0
    # Output ends after one of these (besides the model's own end-of-text tokens).
    stop_token_ids: tuple[int, ...] = ()
    # Go on past end-of-text tokens.
    ignore_eos: bool = False
    # None = none; 0 = the chosen token's; k = and the k best at each position.
    logprobs: int | None = None
    # llama.cpp's sampler for text that fills a gap.
    infill: bool = False


class LineLimits(msgspec.Struct, frozen=True):
    """Ends of an answer that depend on its lines; its finish reason is "length"."""

    # Spaces and tabs that each line after the first begins with; it ends before one with fewer.
    indent: int = 0
    # It ends with the first line that ends so many seconds after its first token; 0 = never.
    seconds: float = 0.0


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One generation request, whatever the dialect it came in."""

    # Unique within the process that accepted it; appears in logs and as the answer's id.
    id: str
    # The model's own name (aliases are resolved by the gateway).
    model: str
    input: Input
    sampling: SamplingParams = SamplingParams()
    # Answers wanted; they share one prefill.
    n: int = 1
    # The output is cut before the first of these strings.
    stop: tuple[str, ...] = ()
    # True: the matched stop string stays in the text.
    include_stop: bool = False
    # A hint: backends that know no such limits go without.
    lines: LineLimits | None = None
    # False: special tokens appear in the text.
    skip_special_tokens: bool = True
    # Constraint on the answer (after any reasoning).
    grammar: Grammar | None = None
    # "auto": the model decides; "none": no calls; "required": at least one;
    # "named": one of `tool_name`.
    tool_choice: Literal["auto", "none", "required", "named"] = "auto"
    tool_name: str = ""
    # False: at most one call per answer.
    parallel_tool_calls: bool = True
    # Only the last so many tokens of the prompt are used; None = all of them.
    truncate_prompt: int | None = None
    # max_tokens beyond what the context leaves: an error, or silently capped (by dialect).
    overflow: Literal["error", "cap"] = "error"
    # Lower runs earlier (vLLM's order). 0 is everybody's default.
    priority: int = 0
    # Who asks, for fair sharing; "" = anonymous.
    tenant: str = ""
    # Requests share cached prefixes only where this is equal.
    cache_salt: str = ""
    # What the client gave to stay with one backend: a session, user or cache key.
    affinity: str = ""
    # Fields of this request and of `sampling` that the client did not ask for but its dialect has
    # by default: a server that cannot honour them goes without.
    implied: tuple[str, ...] = ()
    # Fields of `sampling` that the client gave although their value is the neutral one: a server
    # may have other defaults.
    explicit: tuple[str, ...] = ()
    # What the client said besides, by its dialect's names (OpenAI's, where it has one). Nothing of
    # ours looks at it; a server with no place for it goes without, and the client is told.
    notes: Mapping[str, Any] = {}
    # Fields that ask for what nobody here can do or translate, each with the words that refuse it.
    # A model of ours refuses; what is translated for a server is refused, or goes without them.
    beyond: Mapping[str, str] = {}
    # True: `Completed` tells the prompt's token ids.
    return_prompt_ids: bool = False
    # True: `PromptTokens` tell the prompt before the answer begins.
    show_prompt: bool = False
    # Log probabilities of the prompt's tokens, in `PromptTokens`: None = none; 0 = each token's;
    # k = and the k best at each position.
    prompt_logprobs: int | None = None
    # Position of the first prompt token of interest; its own log probability is never told.
    prompt_logprobs_start: int = 0


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """Log probability of one token, before temperature and filters, after penalties and bias."""

    token: str
    # The token's bytes; they may be part of a UTF-8 sequence.
    data: bytes
    # -1 = not known: many servers tell the text alone.
    token_id: int
    logprob: float
    # The best alternatives in falling order: (token, bytes, id, logprob).
    top: tuple[tuple[str, bytes, int, float], ...] = ()


class PromptToken(msgspec.Struct, frozen=True, array_like=True):
    """One token of the prompt."""

    token: str
    # The token's bytes; they may be part of a UTF-8 sequence.
    data: bytes
    token_id: int
    # As the model computed it. None: nobody asked, or nothing comes before it.
    logprob: float | None = None
    # How many tokens are as probable or more, itself among them; 0 where `logprob` is None.
    rank: int = 0
    # The best at its position in falling order: (token, bytes, id, logprob).
    top: tuple[tuple[str, bytes, int, float], ...] = ()


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """What was consumed, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    # Part of the prompt that came from the prefix cache.
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    # Part of the prompt that was written to the cache, where that is billed by itself.
    cache_write_tokens: int = 0


class Timing(msgspec.Struct, frozen=True, array_like=True):
    """Where the time went, in seconds."""

    # Waiting for a place in the batch.
    queue: float = 0.0
    # From the place in the batch to the first token.
    prefill: float = 0.0
    # From the first token to the last.
    decode: float = 0.0


class ToolCallDelta(msgspec.Struct, frozen=True, array_like=True):
    """More of one tool call. The first of a call has `id` and `name`, the later ones have not."""

    # Which call of this row, from 0.
    index: int
    id: str | None
    name: str | None
    # More of the arguments' JSON text; all pieces together are one JSON object.
    arguments: str


class Delta(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """More output of one row: whole UTF-8, no part of a stop string.

    Within one delta reasoning comes before text, and text before tool calls.
    """

    request_id: str
    # Which of the n answers.
    row: int
    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    # Thinking that precedes the answer, without its tags.
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    # Ends a piece of reasoning whose provider sealed it; `text` is "", as `reasoning` said it. It
    # comes behind `reasoning`, and before text and tool calls.
    seal: Thought | None = None


class RowFinished(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """One row is complete; it sends nothing more."""

    request_id: str
    row: int
    reason: FinishReason
    # The stop string or stop token id that ended it, if one did.
    stop: str | int | None = None
    # The token that ended it and is not shown in any delta: end of text, or a stop token.
    token_id: int | None = None
    # The same token's, where log probabilities were asked for.
    logprob: TokenLogprob | None = None


class Completed(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """All rows are complete. The last event of a request that succeeds."""

    request_id: str
    usage: Usage
    timing: Timing
    # Of the prompt, where the request asks for them.
    prompt_ids: tuple[int, ...] = ()


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The request failed. The last event of a request that does not succeed."""

    request_id: str
    error: ErrorInfo


class PromptTokens(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """More of the prompt, where the request asks for it: each token once, in order.

    All of them come before the first `Delta` and `RowFinished` of the request.
    """

    request_id: str
    tokens: tuple[PromptToken, ...]


class Routed(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Which backend answers. Comes before any output, where there was a choice."""

    request_id: str
    # As the configuration calls it, and the model there.
    backend: str
    model: str
    # Tries before this one on the same backend, and on others.
    retries: int = 0
    fallbacks: int = 0
    # Fields of the request that the backend cannot honour and that were left out, by name.
    dropped: tuple[str, ...] = ()
    # The arm of an A/B split, or "".
    arm: str = ""


class Relayed(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """More of the response body in the dialect of a `RawRequest`, to be sent as it is.

    Whole events only, where the body is a stream of events.
    """

    request_id: str
    data: bytes
    # Output tokens in it, as far as can be told without decoding; an answer's exact count comes
    # with `Completed`.
    tokens: int = 0


class Resumed(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Another backend goes on with an answer that was relayed so far and broke off.

    No `Relayed` follows, but the rest as `Delta`, `RowFinished` and `Completed`; `sent` is what the
    relayed bytes said, for a renderer that takes over in their middle.
    """

    request_id: str
    sent: Delta
    # These bytes, for what else the rest must have in common with them: ids, times.
    relayed: bytes = b""


Event = Delta | RowFinished | Completed | Failed | PromptTokens | Routed | Relayed | Resumed


class RawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request in the bytes of its dialect, for a backend that speaks the same one."""

    id: str
    # The dialect's operation, as `Codec.operation` names it: "openai.chat".
    operation: str
    # The model's own name, as of `Request.model`, and the name that the client used.
    model: str
    asked_model: str
    stream: bool
    # Top-level fields of the body, each undecoded.
    fields: Mapping[str, msgspec.Raw]
    # The client's header fields that are part of the dialect (`anthropic-beta`); no credentials.
    headers: tuple[tuple[str, str], ...] = ()
    # Who asks; "" = anonymous.
    tenant: str = ""
    # What the client gave to stay with one backend or arm: a session, user or cache key.
    affinity: str = ""
    # Name of the backend that keeps what this request goes on from: nobody else can answer it.
    kept_by: str = ""
    # Decodes it, for a backend that does not speak this dialect. Raises `InvalidRequest`.
    translate: Callable[[], Request]


class Tokenization(msgspec.Struct, frozen=True, array_like=True):
    """Answer to a question about text."""

    # The prompt as the model sees it (templates rendered), or the text of given tokens.
    text: str
    token_ids: tuple[int, ...]
    # The bytes of each token.
    pieces: tuple[bytes, ...] = ()
    # The model's longest prompt plus output, in tokens; 0 = not known.
    context_length: int = 0
    # Who answered, where there was a choice.
    routed: Routed | None = None


class EventSink(Protocol):
    """Where a backend delivers the events of one request."""

    def on_events(self, events: Sequence[Event]) -> None:
        """Take events, in order, on the event loop. Must neither block nor raise."""


class Call(Protocol):
    """A request under way."""

    def cancel(self) -> None:
        """Stop the work; no event arrives after this returns. Harmless when it has ended."""


class Backend(Protocol):
    """Anything that answers requests: the built-in engine, another server, a hosted API."""

    def submit(self, request: Request, sink: EventSink) -> Call:
        """Begin `request`. Never raises: a failure arrives as `Failed`, never before returning."""

    def relays(self, operation: str) -> bool:
        """Whether `relay` takes requests of this operation."""

    def relay(self, raw: RawRequest, sink: EventSink) -> Call:
        """As `submit`, for the bytes of a dialect: `Relayed`, then `Completed` or `Failed`.

        Where this one body cannot be passed on, it is translated and core events come instead.
        """

    async def count_tokens(self, request: Request) -> int:
        """Prompt tokens of `request`, special ones included. Raises `TrunklineError`."""

    async def tokenize(self, request: Request) -> Tokenization:
        """The prompt of `request`. Raises `TrunklineError`; `Unsupported` where it cannot."""

    async def detokenize(self, token_ids: tuple[int, ...]) -> Tokenization:
        """The text of tokens, special ones included. Raises as `tokenize`."""

    def models(self) -> tuple[ModelCard, ...]:
        """The models that it serves."""

    def health(self) -> Health:
        """Its state now; no waiting, no I/O."""

    def stats(self) -> BackendStats:
        """Load and counters now; no waiting, no I/O. Zeros while nothing is known."""


class KeptAsk(msgspec.Struct, frozen=True):
    """A question about a response that a backend keeps (OpenAI's Responses API)."""

    response_id: str
    what: Literal["get", "delete", "cancel", "input_items"] = "get"
    # The query string, as the client sent it.
    query: str = ""


@runtime_checkable
class Keeper(Protocol):
    """What a backend can besides that keeps the responses that it gave."""

    async def kept(self, ask: KeptAsk) -> bytes:
        """Its answer, JSON. Raises `TrunklineError`; `NotFound` where it has no such response."""


@runtime_checkable
class Able(Protocol):
    """What a backend can besides that may stand for a server of another make."""

    def abilities(self) -> Abilities | None:
        """What that one does; None: there is none."""


@runtime_checkable
class Holder(Protocol):
    """What a backend can besides whose server may load models as they are asked for."""

    @property
    def loads(self) -> bool:
        """Whether it does; else `holds` has nothing to tell."""

    def holds(self, model: str) -> bool:
        """Whether `model` is in memory there, or nobody knows."""


@runtime_checkable
class OnDemand(Protocol):
    """What a backend can besides whose model may be loaded and unloaded: Ollama's keep_alive."""

    async def load(self) -> None:
        """Load it, as a request does. Raises `TrunklineError`. Harmless where it is loaded."""

    def keep(self, seconds: float) -> None:
        """Keep it so long after its last request; negative: for ever, 0: `unload`."""

    def unload(self) -> None:
        """Unload it as soon as no request uses it. What is always loaded stays."""

    def leaves_in(self) -> float:
        """Seconds until it is unloaded if nobody asks again; infinite: never, 0: it is gone."""
