"""Passing chat completions and completions on: bytes as they are, but for the model's name."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable

import msgspec
from msgspec import Raw

from trunkline.core.errors import UpstreamFailed
from trunkline.core.outline import FAULTS, WholeAnswer
from trunkline.core.pieces import Events
from trunkline.core.speedups import native
from trunkline.core.types import RawRequest, Usage
from trunkline.wire.client import Head, Outgoing, Relay, Terms, uncounted
from trunkline.wire.openai.client_answer import UsageFields
from trunkline.wire.passing import EventPassing, WholePassing, event_data, renaming
from trunkline.wire.raw import lacking
from trunkline.wire.reading import decoded, is_whole
from trunkline.wire.told import Reports

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')
# How many answers are asked for, where it is one; several prompts are never passed on.
_ONE = b"1"
_SINGLE = (_ONE, b"null")
_DONE = (b"data: [DONE]", b"data:[DONE]")
# Pieces that may follow the last one of a row: usage, and the end.
_LAST = 8


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool | None = None


class _Seen(Reports):
    """What of an event, or of a whole answer, matters."""

    choices: list[Raw] | None = None
    usage: UsageFields | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None


_options = msgspec.json.Decoder(StreamOptions | None)
_option_fields = msgspec.json.Decoder(dict[str, Raw] | None)
_seen = msgspec.json.Decoder(_Seen)
_choice = msgspec.json.Decoder(_Choice)
# Twice as fast as the decoder, where it is native; else it is not asked.
_answer = WholeAnswer(
    "choices",
    "usage",
    ("error",),
    counts=("prompt_tokens", "completion_tokens"),
    besides=("total_tokens",),
)
_encoder = msgspec.json.Encoder()
_UNTOLD = Usage(0, 0)


def patched(path: str, raw: RawRequest, terms: Terms) -> Outgoing:
    """The body of `raw` for this server: its name of the model, and usage asked for."""
    features = terms.features
    body: dict[str, object] = {**raw.fields, "model": terms.model}
    if terms.default_body:
        body.update(lacking(body, terms.default_body))
    if raw.stream and "stream_usage" in features and not wants_usage(raw):
        options = raw.fields.get("stream_options")
        kept = decoded(_option_fields, options) if options is not None else None
        body["stream_options"] = {**(kept or {}), "include_usage": True}
    renames = "max_completion_tokens" in features and "max_tokens" in body
    if renames and "max_completion_tokens" not in body:
        body["max_completion_tokens"] = body.pop("max_tokens")
    body.update(terms.extra_body)
    return Outgoing(path=path, body=_encoder.encode(body))


def passes(terms: Terms) -> bool:
    """As of `PlainSpeaker`: what `patched` leaves alone."""
    renames = "max_completion_tokens" in terms.features
    return not (renames or terms.default_body or terms.extra_body)


def wants_usage(raw: RawRequest) -> bool:
    """Whether the client asks for the usage of a stream; what makes no sense is left alone."""
    options = raw.fields.get("stream_options")
    if options is None:
        return False
    try:
        found = _options.decode(options)
    except msgspec.DecodeError:
        return True
    return found is not None and bool(found.include_usage)


def relay(raw: RawRequest, terms: Terms, head: Head) -> Relay:
    """What passes on an answer. Raises `UpstreamFailed` for JSON where a stream was asked for."""
    name = raw.asked_model if raw.asked_model != terms.model else None
    if not is_whole(head):
        return _Stream(raw, name)
    if raw.stream:
        raise UpstreamFailed("The backend answered with one object; a stream was asked for.")
    return WholePassing(raw.id, renaming(name), look)


def seen(data: bytes) -> _Seen:
    """What matters of an object. Raises what it reports."""
    found = decoded(_seen, data)
    found.check(data)
    return found


# As of `PlainSpeaker`.
counts: Callable[[bytes], tuple[int, int] | None] = uncounted if native is None else _answer.find


def look(body: bytes) -> Usage:
    """As of `PlainSpeaker`."""
    if (told := counts(body)) is not None:
        return Usage(*told)
    try:
        found = _seen.decode(body)
    except FAULTS:
        found = seen(body)
    found.check(body)
    if found.choices is None:
        raise UpstreamFailed("The backend's answer has no choices.")
    usage = found.usage
    return _UNTOLD if usage is None else usage.usage()


class _Rows:
    """Which answers have begun, and which have ended: where there are several, one tells nothing
    of the others.
    """

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._ended: set[int] = set()

    @property
    def whole(self) -> bool:
        """Whether all that have begun have ended."""
        return bool(self._ended) and not self._open

    def take(self, choices: Iterable[Raw]) -> None:
        """What an event says."""
        for choice in choices:
            row = decoded(_choice, choice)
            if row.finish_reason:
                self._ended.add(row.index)
            else:
                self._open.add(row.index)
        self._open -= self._ended


class _Stream(EventPassing):
    """Passes a stream on."""

    # Where a line ends in another way an event may, too, and would not be counted.
    _plain: Events | None = Events(b"\n\n", b"\n\n", (b'"error"', b'"usage"', b"\r"))

    def __init__(self, raw: RawRequest, name: str | None) -> None:
        super().__init__(raw.id)
        # The model as events name it, and as they are to; empty: it stays.
        self._new = b'"model":' + _encoder.encode(name) if name is not None else b""
        self._old = b""
        self._keeps_usage = wants_usage(raw)
        # What came last: looking for the end in it once is cheaper than in all as it comes.
        self._last: deque[bytes] = deque(maxlen=_LAST)
        # None: there is one answer.
        self._rows = None if bytes(raw.fields.get("n", _ONE)) in _SINGLE else _Rows()
        if self._rows is not None:
            self._plain = None

    def _whole(self) -> bool:
        if self._rows is not None:
            return self._rows.whole or any(one.rstrip().endswith(_DONE) for one in self._last)
        return any(
            one.rstrip().endswith(_DONE) or _FINISHED.search(one) is not None for one in self._last
        )

    def _special(self, data: bytes) -> bool:
        """Usage or an error may be in it. OpenAI sends `"usage":null` with every event."""
        return (
            b'"error"' in data
            or (b'"usage"' in data and _USAGE.search(data) is not None)
            or (self._rows is not None and b'"choices"' in data)
        )

    def _event(self, event: bytes) -> bytes | None:
        """Left out is the usage that the client did not ask for."""
        if self._special(event):
            found = seen(event_data(event))
            if self._rows is not None:
                self._rows.take(found.choices or ())
            if found.usage is not None:
                self._usage = found.usage.usage()
                if not self._keeps_usage and not found.choices:
                    return None
        return event

    def _finally(self, data: bytes, plain: int = 0) -> bytes:
        self._last.append(data)
        if not self._new:
            return data
        if (
            self._old
            and (changed := data.replace(self._old, self._new)) is not data
            # Of one event, all has been said.
            and (plain == 1 or changed.count(self._new) == data.count(b'"model"'))
        ):
            return changed
        return b"".join([self._renamed(event) + gap for event, gap in self._split(data)])

    def _renamed(self, event: bytes) -> bytes:
        """Not all name it alike: Azure's very first event does not at all."""
        found = _MODEL.search(event)
        if found is None:
            return event
        self._old = found[0]
        return event.replace(self._old, self._new)
