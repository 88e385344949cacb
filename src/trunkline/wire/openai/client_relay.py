"""Passing chat completions and completions on: bytes as they are, but for the model's name.

The path of a stream is hot. What matters is looked for in the bytes: quotes within strings are
escaped, so `"usage":{` and the like are fields wherever they stand. Only events that have such a
field are looked at one by one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from msgspec import Raw

from trunkline.core.errors import UpstreamFailed
from trunkline.core.types import Completed, Event, RawRequest, Relayed, Timing, Usage
from trunkline.wire.client import Head, Outgoing, Relay, Terms
from trunkline.wire.openai.client_answer import UsageFields
from trunkline.wire.raw import with_fields
from trunkline.wire.reading import decoded, is_whole, keep
from trunkline.wire.sse import MOST
from trunkline.wire.told import Reports

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_MODEL = re.compile(rb'"model"\s*:\s*"(?:[^"\\]|\\.)*"')
_DONE = (b"data: [DONE]", b"data:[DONE]")


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool | None = None


class _Seen(Reports):
    """What of an event, or of a whole answer, matters."""

    choices: list[Raw] | None = None
    usage: UsageFields | None = None


_fields = msgspec.json.Decoder(dict[str, Raw])
_options = msgspec.json.Decoder(StreamOptions | None)
_option_fields = msgspec.json.Decoder(dict[str, Raw] | None)
_seen = msgspec.json.Decoder(_Seen)
_encoder = msgspec.json.Encoder()


def patched(path: str, raw: RawRequest, terms: Terms) -> Outgoing:
    """The body of `raw` for this server: its name of the model, and usage asked for."""
    changes: dict[str, object] = {"model": terms.model}
    if raw.stream and "stream_usage" in terms.features and not wants_usage(raw):
        options = raw.fields.get("stream_options")
        kept = decoded(_option_fields, options) if options is not None else None
        changes["stream_options"] = {**(kept or {}), "include_usage": True}
    renames = "max_completion_tokens" in terms.features and "max_tokens" in raw.fields
    if renames and "max_completion_tokens" not in raw.fields:
        changes["max_completion_tokens"] = raw.fields["max_tokens"]
        changes["max_tokens"] = msgspec.UNSET
    return Outgoing(path=path, body=with_fields(raw.fields, changes | dict(terms.extra_body)))


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
        return StreamRelay(raw, name)
    if raw.stream:
        raise UpstreamFailed("The backend answered with one object; a stream was asked for.")
    return WholeRelay(raw, name)


def seen(data: bytes) -> _Seen:
    """What matters of an object. Raises what it reports."""
    found = decoded(_seen, data)
    found.check(data)
    return found


class WholeRelay:
    """Passes one object on."""

    def __init__(self, raw: RawRequest, name: str | None) -> None:
        self._id = raw.id
        # The client's name of the model, where it differs.
        self._name = name
        self._kept = bytearray()

    def feed(self, data: bytes) -> Sequence[Event]:
        """Keeps `data`: only the whole can be judged."""
        keep(self._kept, data)
        return ()

    def end(self) -> Sequence[Event]:
        """Everything."""
        body = bytes(self._kept)
        found = seen(body)
        if found.choices is None:
            raise UpstreamFailed("The backend's answer has no choices.")
        usage = found.usage.usage() if found.usage else Usage(0, 0)
        if self._name is not None:
            fields = decoded(_fields, body)
            if "model" in fields:
                body = with_fields(fields, {"model": self._name})
        whole = Relayed(self._id, body, usage.completion_tokens)
        return (whole, Completed(self._id, usage, Timing()))


class StreamRelay:
    """Passes a stream on, whole events at a time."""

    def __init__(self, raw: RawRequest, name: str | None) -> None:
        self._id = raw.id
        # The model as events name it, and as they are to; empty: it stays.
        self._new = b'"model":' + _encoder.encode(name) if name is not None else b""
        self._old = b""
        self._keeps_usage = wants_usage(raw)
        self._rest = b""
        # The empty line that ends an event.
        self._gap = b"\n\n"
        self._usage: UsageFields | None = None
        self._events = 0
        self._ended = False

    def feed(self, data: bytes) -> Sequence[Event]:
        """What `data` completes."""
        if self._rest:
            data = self._rest + data
        gap = self._gap
        end = data.rfind(gap)
        if end < 0:
            if b"\r\n\r\n" in data:
                self._gap = b"\r\n\r\n"
                self._rest = b""
                return self.feed(data)
            if len(data) > MOST:
                raise UpstreamFailed("The backend sent an event that is too long.")
            self._rest = data
            return ()
        end += len(gap)
        if end == len(data):
            self._rest = b""
            return self._pass(data)
        self._rest = data[end:]
        return self._pass(data[:end])

    def end(self) -> Sequence[Event]:
        """What is left, and the usage."""
        left: Sequence[Event] = ()
        if rest := self._rest.strip():
            self._rest = b""
            left = self._pass(rest + self._gap)
        if not self._ended:
            raise UpstreamFailed("The backend's answer is cut off.")
        usage = Usage(0, self._events) if self._usage is None else self._usage.usage()
        return (*left, Completed(self._id, usage, Timing()))

    def _pass(self, data: bytes) -> Sequence[Event]:
        if _is_special(data):
            data = self._one_by_one(data)
            if not data:
                return ()
        if not self._ended:
            last = b"[DONE]" in data and data.rstrip().endswith(_DONE)
            self._ended = last or _FINISHED.search(data) is not None
        tokens = data.count(self._gap)
        self._events += tokens
        if self._new:
            data = self._renamed(data)
        return (Relayed(self._id, data, tokens),)

    def _renamed(self, data: bytes) -> bytes:
        if self._old and (renamed := data.replace(self._old, self._new)) is not data:
            return renamed
        found = _MODEL.search(data)
        if found is None:
            return data
        self._old = found[0]
        return data.replace(self._old, self._new)

    def _one_by_one(self, data: bytes) -> bytes:
        """Look at each event; leave out the one of usage that the client did not ask for."""
        gap = self._gap
        kept: list[bytes] = []
        for event in data.split(gap)[:-1]:
            found = None
            if _is_special(event):
                found = seen(_data(event))
            if found is not None and found.usage is not None:
                self._usage = found.usage
                if not self._keeps_usage and not found.choices:
                    continue
            kept.append(event + gap)
        return b"".join(kept)


def _is_special(data: bytes) -> bool:
    """Whether usage or an error may be in it. OpenAI sends `"usage":null` with every event."""
    return b'"error"' in data or (b'"usage"' in data and _USAGE.search(data) is not None)


def _data(event: bytes) -> bytes:
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)
