"""Gemini's `generateContent` and `streamGenerateContent`, spoken to Google.

The path is that of the Gemini API. Vertex AI has the same bodies; there the part behind the version
goes below `/v1/projects/{project}/locations/{location}/publishers/google`. Shapes: see `encode`;
errors: ai.google.dev/gemini-api/docs/troubleshooting and cloud.google.com/apis/design/errors (read
2026-11-21). What an answer holds besides text: see `parts`.

Where Google's policy ends an answer that has begun, what came stands, and its finish reason is
content_filter; before that it is an error.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Sequence

import msgspec

from trunkline.core.errors import (
    ContentRefused,
    TrunklineError,
    Unsupported,
    UpstreamFailed,
    UpstreamRefused,
)
from trunkline.core.types import (
    Event,
    FinishReason,
    RawRequest,
    Request,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.asked import Asked, chat_input
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Terms
from trunkline.wire.failures import failure, shown
from trunkline.wire.gemini.encode import body_of
from trunkline.wire.gemini.parts import FunctionCall, Part, thing, words
from trunkline.wire.gemini.signatures import call_id
from trunkline.wire.reading import Row, StreamReader, WholeReader, decoded, is_whole
from trunkline.wire.sse import EventReader, ServerEvent

# Finish reasons by which the provider's policy ends an answer.
_POLICY = frozenset(
    (
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
        "LANGUAGE",
        "ESCALATION",
    )
)
# CONTINUATION: as much as one request may say; there is more.
_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",
    "FINISH_REASON_UNSPECIFIED": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")


class _Content(msgspec.Struct):
    parts: list[Part] | None = None


class _Chosen(msgspec.Struct, rename="camel"):
    token: str = ""
    token_id: int = 0
    log_probability: float = 0.0


class _Tops(msgspec.Struct):
    candidates: list[_Chosen] | None = None


class _Logprobs(msgspec.Struct, rename="camel"):
    chosen_candidates: list[_Chosen] | None = None
    top_candidates: list[_Tops] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int = 0
    logprobs_result: _Logprobs | None = None


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int = 0
    cached_content_token_count: int = 0
    tool_use_prompt_token_count: int = 0

    def usage(self) -> Usage:
        """Thoughts are output here, and beside it there."""
        return Usage(
            self.prompt_token_count + self.tool_use_prompt_token_count,
            self.candidates_token_count + self.thoughts_token_count,
            self.cached_content_token_count,
            self.thoughts_token_count,
        )


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Detail(msgspec.Struct, rename="camel"):
    type: str = msgspec.field(name="@type", default="")
    retry_delay: str = ""
    reason: str = ""


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""
    status: str = ""
    details: list[_Detail] | None = None


class _Answer(msgspec.Struct, rename="camel"):
    """One event of a stream, or a whole answer."""

    candidates: list[_Candidate] | None = None
    usage_metadata: _Usage | None = None
    prompt_feedback: _Feedback | None = None
    error: _Error | None = None


_answer = msgspec.json.Decoder(_Answer)
_failure = msgspec.json.Decoder(_Answer | list[_Answer])


class _Body:
    def __init__(self, request: Request) -> None:
        self._request = request
        self._row = Row(request)
        # Whether anything but thoughts came.
        self._begun = False
        # What came before any of that and cannot be passed on: whether it is an answer without it
        # shows later.
        self._things: list[str] = []

    def piece(self, piece: ServerEvent) -> Iterable[Event]:
        """Events of one event."""
        return self.whole(piece.data)

    def whole(self, body: bytes) -> Iterable[Event]:
        """Events of one answer: a whole one looks as a piece of a stream does."""
        answer = decoded(_answer, body)
        if answer.error is not None:
            raise _reported(answer.error, Head(answer.error.code, {}))
        if answer.usage_metadata is not None:
            self._row.usage = answer.usage_metadata.usage()
        events: list[Event] = []
        for candidate in answer.candidates or ():
            # More than one is never asked for.
            if candidate.index == 0:
                events += self._candidate(candidate)
        feedback = answer.prompt_feedback
        if feedback is not None and feedback.block_reason is not None:
            said = feedback.block_reason_message or feedback.block_reason
            events += self._refused(f"The provider's policy refuses the prompt: {shown(said)}")
        return events

    def end(self) -> Sequence[Event]:
        """The last event."""
        return self._row.completed()

    def _candidate(self, candidate: _Candidate) -> list[Event]:
        text: list[str] = []
        thoughts: list[str] = []
        calls: list[ToolCallDelta] = []
        for part in (candidate.content.parts if candidate.content else None) or ():
            if part.function_call is not None:
                calls.append(self._call(part.function_call, part, len(calls)))
            elif part.text and part.thought:
                thoughts.append(part.text)
            elif found := part.text or words(part):
                text += [*self._things, found]
                self._things.clear()
            elif found := thing(part):
                self._things.append(found)
            if text or calls or self._begun:
                self._begun = True
                text += self._things
                self._things.clear()
        events = self._row.delta(
            "".join(text),
            reasoning="".join(thoughts),
            calls=calls,
            logprobs=_logprobs(candidate.logprobs_result),
        )
        if candidate.finish_reason is not None:
            events += self._finish(candidate.finish_reason, candidate.finish_message)
        return events

    def _call(self, call: FunctionCall, part: Part, number: int) -> ToolCallDelta:
        index = self._row.calls + number
        identifier = call_id(self._request.id, index, part.thought_signature)
        return ToolCallDelta(index, identifier, call.name, bytes(call.args).decode())

    def _finish(self, reason: str, message: str | None) -> list[Event]:
        said = f"{reason}: {shown(message)}" if message else reason
        if reason in _POLICY:
            return self._refused(f"The provider's policy ends the answer: {said}")
        if reason not in _REASONS:
            raise UpstreamFailed(f"The backend broke the answer off: {said}")
        if self._things:
            what = ", ".join(one.strip() for one in self._things)
            raise Unsupported(f"The answer has no text, only this: {what}")
        return self._row.finish(_REASONS[reason])

    def _refused(self, problem: str) -> list[Event]:
        """The policy's end of an answer that has begun; else raises `ContentRefused`."""
        if self._begun:
            return self._row.finish("content_filter")
        raise ContentRefused(problem)


class GenerateSpeaker:
    """`POST /v1beta/models/{model}:streamGenerateContent?alt=sse`, or `:generateContent`."""

    operation = "gemini.generate"

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """See `Speaker`."""
        asked = Asked(request, terms)
        body = body_of(asked, chat_input(request, "Gemini"), request.tool_name)
        name = urllib.parse.quote(terms.model.removeprefix("models/"), safe="")
        method = "streamGenerateContent?alt=sse" if asked.has("stream") else "generateContent"
        return asked.outgoing(f"/v1beta/models/{name}:{method}", body)

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """Events for a stream, else one object."""
        body = _Body(request)
        return WholeReader(body) if is_whole(head) else StreamReader(EventReader(), body)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """No client speaks this dialect to us."""
        raise Unsupported("Requests in Gemini's dialect are not taken.")

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """As `patch`."""
        raise Unsupported("Requests in Gemini's dialect are not taken.")

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """{"error": {"code", "message", "status", "details"}}; of streams, in a list."""
        try:
            found = _failure.decode(body)
        except msgspec.DecodeError:
            return failure(head, body[:600].decode(errors="replace"))
        first = next(iter(found), _Answer()) if isinstance(found, list) else found
        return _reported(first.error or _Error(), head)


def _reported(error: _Error, head: Head) -> TrunklineError:
    details = error.details or ()
    delays = [_DURATION.fullmatch(one.retry_delay) for one in details]
    after = next((float(delay[1]) for delay in delays if delay), None)
    # A bad key is a 400 there.
    if any(one.reason == "API_KEY_INVALID" for one in details):
        return UpstreamRefused(f"The backend refused our key: {shown(error.message)}")
    return failure(head, error.message, retry_after=after)


def _logprobs(result: _Logprobs | None) -> tuple[TokenLogprob, ...]:
    if result is None:
        return ()
    tops = result.top_candidates or []
    return tuple(
        TokenLogprob(
            one.token,
            one.token.encode(),
            one.token_id,
            one.log_probability,
            tuple(
                (top.token, top.token.encode(), top.token_id, top.log_probability)
                for top in (tops[index].candidates if index < len(tops) else None) or ()
            ),
        )
        for index, one in enumerate(result.chosen_candidates or ())
    )


GENERATE = GenerateSpeaker()
