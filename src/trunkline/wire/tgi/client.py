"""TGI's `/generate` and `/generate_stream`, spoken to a server. Prompts of raw text only.

Shapes: `router/src/lib.rs` and `router/src/validation.rs` (TGI db931fc, 2026-01-08). Stop sequences
are part of the text there and are cut off here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from trunkline.core.errors import (
    RateLimited,
    TrunklineError,
    UpstreamFailed,
)
from trunkline.core.types import Event, Json, RawRequest, Request, TokenLogprob, Usage
from trunkline.wire.asked import Asked, prompt_text, schema_of
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Terms
from trunkline.wire.failures import failure, rejected, retry_after_of, shown
from trunkline.wire.passing import WholePassing
from trunkline.wire.reading import Row, StreamReader, WholeReader, decoded, is_whole
from trunkline.wire.relays import EventRelay, patched
from trunkline.wire.sse import EventReader, ServerEvent
from trunkline.wire.stops import StopCutter

_FIELDS = (
    "top_k",
    "top_p",
    "typical_p",
    "repetition_penalty",
    "frequency_penalty",
    "stop",
    "seed",
)


class _Token(msgspec.Struct):
    id: int
    text: str
    logprob: float | None = None
    special: bool = False


class _Details(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    input_length: int | None = None
    prefill: list[_Token] | None = None
    tokens: list[_Token] | None = None
    top_tokens: list[list[_Token]] | None = None


class _Answer(msgspec.Struct):
    """One event of a stream, or a whole answer."""

    token: _Token | None = None
    top_tokens: list[_Token] | None = None
    generated_text: str | None = None
    details: _Details | None = None
    error: str | None = None
    error_type: str | None = None


_answer = msgspec.json.Decoder(_Answer)


class _Body:
    def __init__(self, request: Request, head: Head) -> None:
        self._row = Row(request)
        self._cutter = StopCutter(request.stop)
        self._wants = request.sampling.logprobs is not None
        self._shows_special = not request.skip_special_tokens
        self._tokens = 0
        self._head = head

    def piece(self, piece: ServerEvent) -> Iterable[Event]:
        """Events of one token."""
        answer = _checked(piece.data)
        if answer.token is None or self._row.finished:
            return []
        events = self._token(answer.token, answer.top_tokens or ())
        if answer.generated_text is not None:
            events += self._last(answer.details, answer.token)
        return events

    def whole(self, body: bytes) -> Iterable[Event]:
        """Events of a whole answer."""
        answer = _checked(body)
        if answer.generated_text is None:
            raise UpstreamFailed("The backend's answer has no text.")
        details = answer.details
        tokens = details.tokens if details is not None else None
        if not tokens:
            events = self._text(answer.generated_text)
            return [*events, *self._last(details, None)]
        tops: Sequence[list[_Token]] = (details.top_tokens if details else None) or ()
        events = []
        for index, token in enumerate(tokens):
            if not self._row.finished:
                events += self._token(token, tops[index] if index < len(tops) else ())
        return [*events, *self._last(details, tokens[-1])]

    def end(self) -> Sequence[Event]:
        """The last event."""
        return self._row.completed()

    def _token(self, token: _Token, top: Sequence[_Token]) -> list[Event]:
        self._tokens += 1
        if token.special and not self._shows_special:
            return []
        logprobs = (_logprob(token, top),) if self._wants else None
        return self._text(token.text, token.id, logprobs)

    def _text(
        self,
        text: str,
        token_id: int | None = None,
        logprobs: tuple[TokenLogprob, ...] | None = None,
    ) -> list[Event]:
        shown_, stop = self._cutter.feed(text)
        ids = () if token_id is None else (token_id,)
        events = self._row.delta(shown_, token_ids=ids, logprobs=logprobs)
        return events if stop is None else [*events, *self._row.finish("stop", stop)]

    def _last(self, details: _Details | None, token: _Token | None) -> list[Event]:
        events = self._row.delta(self._cutter.end())
        reason = details.finish_reason if details is not None else "eos_token"
        hidden = None
        if token is not None and token.special and not self._shows_special:
            hidden = _logprob(token, ())
        events += self._row.finish("length" if reason == "length" else "stop", None, hidden)
        self._row.usage = _usage(details, self._head, self._tokens)
        return events


class GenerateSpeaker:
    """`POST /generate_stream`, or `/generate` where nothing streams."""

    operation = "tgi.generate"

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """See `Speaker`."""
        asked = Asked(request, terms)
        parameters: Json = {"details": True, "return_full_text": False}
        parameters |= _sampling(asked)
        # It is always there.
        top = asked.take("logprobs", "logprobs")
        if top:
            parameters["top_n_tokens"] = top
        asked.take("include_stop")
        asked.put(parameters, "truncate_prompt", "truncate")
        asked.take("skip_special_tokens")
        _place_grammar(asked, parameters)
        inputs = prompt_text(request, terms, "TGI's generate")
        path = _path(stream=asked.has("stream"))
        return asked.outgoing(path, {"inputs": inputs, "parameters": parameters})

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """Events for a stream, else one object."""
        body = _Body(request, head)
        return WholeReader(body) if is_whole(head) else StreamReader(EventReader(), body)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """The same body; the name of the model, which is ours alone, where there is one."""
        return patched(_path(stream=raw.stream), raw, terms, named="model" in raw.fields)

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """Passes everything on."""
        look = _Look(head)
        if is_whole(head):
            return WholePassing(raw.id, None, look.whole)
        return EventRelay(raw.id, look.event)

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """{"error", "error_type"}."""
        try:
            answer = _answer.decode(body)
        except msgspec.DecodeError:
            return failure(head, body[:600].decode(errors="replace"))
        if answer.error is None:
            return failure(head, "")
        if answer.error_type == "validation":
            return _reported(answer)
        if answer.error_type == "overloaded":
            words = f"The backend takes no more for now: {shown(answer.error)}"
            return RateLimited(words, retry_after=retry_after_of(head))
        return failure(head, answer.error)


class _Look:
    """Finds the usage in what is relayed; without details it is counted."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._tokens = 0

    def event(self, data: bytes) -> Usage | None:
        self._tokens += 1
        if b'"generated_text":null' in data:
            return None
        answer = _checked(data)
        if answer.generated_text is None:
            return None
        return _usage(answer.details, self._head, self._tokens)

    def whole(self, body: bytes) -> Usage | None:
        answer = _checked(body)
        return _usage(answer.details, self._head, 0)


def _path(*, stream: bool) -> str:
    return "/generate_stream" if stream else "/generate"


def _sampling(asked: Asked) -> Json:
    sent: Json = {}
    temperature = asked.take("temperature")
    # Temperature must be more than 0 there, and 1 says nothing.
    sent["do_sample"] = temperature != 0.0
    if temperature:
        sent["temperature"] = temperature
    for name in ("top_p", "typical_p"):
        # A share of 1 is refused there, and is what is done without one.
        if asked.peek(name) == 1.0:
            asked.take(name)
    for name in _FIELDS:
        asked.put(sent, name, name)
    asked.place(sent, "max_tokens", "max_new_tokens")
    return sent


def _place_grammar(asked: Asked, parameters: Json) -> None:
    grammar = asked.peek("grammar")
    if grammar is None or not asked.has("grammar" if grammar.kind == "regex" else "json_schema"):
        return
    if grammar.kind == "json_schema":
        parameters["grammar"] = {"type": "json", "value": schema_of(asked.take("grammar"))}
    elif grammar.kind == "regex":
        parameters["grammar"] = {"type": "regex", "value": asked.take("grammar").value}


def _checked(data: bytes) -> _Answer:
    answer = decoded(_answer, data)
    if answer.error is not None:
        raise _reported(answer)
    return answer


def _reported(answer: _Answer) -> TrunklineError:
    """An error, also of a stream, by its type."""
    said = answer.error or ""
    if answer.error_type == "overloaded":
        return RateLimited(f"The backend takes no more for now: {shown(said)}")
    if answer.error_type == "validation":
        return rejected(said.removeprefix("Input validation error: "))
    return UpstreamFailed(f"The backend failed: {shown(said)}")


def _usage(details: _Details | None, head: Head, counted: int) -> Usage:
    """Details say it, else the headers of whole answers do."""
    prompt = _number(head, "x-prompt-tokens")
    generated = counted or _number(head, "x-generated-tokens")
    if details is not None:
        prompt = details.input_length or prompt or len(details.prefill or ())
        generated = details.generated_tokens
    return Usage(prompt, generated)


def _number(head: Head, name: str) -> int:
    value = head.headers.get(name, "")
    return int(value) if value.isdecimal() else 0


def _logprob(token: _Token, top: Sequence[_Token]) -> TokenLogprob:
    others = tuple((one.text, one.text.encode(), one.id, one.logprob or 0.0) for one in top)
    return TokenLogprob(token.text, token.text.encode(), token.id, token.logprob or 0.0, others)


GENERATE = GenerateSpeaker()
