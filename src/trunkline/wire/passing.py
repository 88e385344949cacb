"""Passing answers on in their own dialect, where the exact place of the model's name matters.

The path of a stream is hot: what a dialect must know of it is looked for in the bytes. Quotes
within strings are escaped, so `"usage":` is a field wherever it stands. Only pieces in which there
is such a field are taken apart into events.

Lines end as each server likes, and not always alike within a stream: what stands between it and us
adds comments of its own, or the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from msgspec import Raw

from trunkline.core.errors import TrunklineError, UpstreamFailed
from trunkline.core.outline import FAULTS
from trunkline.core.pieces import Events
from trunkline.core.types import Completed, Event, Relayed, Timing, Usage
from trunkline.wire.raw import with_fields
from trunkline.wire.reading import MAX_WHOLE, decoded, too_long
from trunkline.wire.sse import BOM, MOST

_fields = msgspec.json.Decoder(dict[str, Raw])
# What ends a stream in OpenAI's dialects.
_DONE = b"[DONE]"
# Nobody says where the time went.
_UNTOLD = Timing()
# The end of an event's last line, and the empty lines behind it.
_GAPS = re.compile(rb"(?>\r\n|\n|\r){2,}")


class EventPassing:
    """Passes a stream of server-sent events on, whole events at a time."""

    # What stands once in each event that brings a token; None: every event does.
    _token: bytes | None = None
    # What stands in each event that must be looked at; None: `_special` alone can tell.
    _plain: Events | None = None
    # What ends an event where no "\r" is; and what does where one is, None: the same.
    _gap = b"\n\n"
    _gaps: re.Pattern[bytes] | None = _GAPS

    def __init__(self, request_id: str) -> None:
        self._id = request_id
        # What no empty line has closed yet.
        self._rest = bytearray()
        # True: an event of an answer has come. What is before it says nothing: comments.
        self._begun = False
        # Output tokens, as far as can be told by counting.
        self._counted = 0
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> Sequence[Event]:
        """What `data` completes. Raises what the server reports."""
        if self._plain is not None and self._begun and not self._rest:
            tokens = self._plain.count(data)
            if tokens >= 0:
                # Most pieces of most streams.
                self._counted += tokens
                return (Relayed(self._id, self._finally(data, tokens), tokens),)
        if rest := self._rest:
            if self._goes_on(data):
                return ()
            data = bytes(rest)
            rest.clear()
        end = len(data) if data.endswith(self._gap) else self._last_end(data)
        if end < len(data):
            rest += data[end:]
            if not end:
                return ()
            data = data[:end]
        if not self._begun or self._special(data):
            return self._passed(data)
        return self._relayed(data)

    def end(self) -> Sequence[Event]:
        """What is left, and the usage. Raises `UpstreamFailed` where the answer is cut off."""
        rest = bytes(self._rest) if self._begun else bytes(self._rest).removeprefix(BOM)
        self._rest.clear()
        if rest.endswith(b"\n\r"):
            # Half the end of a line: what we say ourselves may follow.
            rest += b"\n"
        end = self._last_end(rest, over=True)
        rest, begun = rest[:end], rest[end:].strip()
        if begun and self._sound(begun):
            rest += begun + self._gap
        left = self._passed(rest) if rest else ()
        if not self._whole():
            fault = UpstreamFailed("The backend's answer is cut off.")
            fault.before = left
            raise fault
        usage = Usage(0, self._counted) if self._usage is None else self._usage
        return (*left, Completed(self._id, usage, _UNTOLD))

    def _goes_on(self, data: bytes) -> bool:
        """Put `data` behind what is left. True: it ends nothing there, being all within a line.

        Raises `UpstreamFailed` where that is too long; an image is one of millions of bytes.
        """
        rest = self._rest
        within = not (b"\n" in data or b"\r" in data or rest.endswith(b"\r"))
        rest += data
        if len(rest) > MOST and self._last_end(bytes(rest)) == 0:
            raise UpstreamFailed("The backend sent an event that is too long.")
        return within

    def _passed(self, data: bytes) -> Sequence[Event]:
        if not self._begun:
            data = self._beginning(data)
        if not self._special(data):
            return self._relayed(data)
        kept: list[bytes] = []
        try:
            for event, gap in self._split(data):
                if (passed := self._event(event)) is not None:
                    kept += passed, gap
        except TrunklineError as error:
            error.before = self._relayed(b"".join(kept))
            raise
        return self._relayed(b"".join(kept))

    def _relayed(self, data: bytes) -> Sequence[Event]:
        if not data:
            return ()
        tokens = self._count(data) if self._token is None else data.count(self._token)
        self._counted += tokens
        return (Relayed(self._id, self._finally(data), tokens),)

    def _count(self, data: bytes) -> int:
        """How many events there are, if all are whole."""
        told = data.count(self._gap)
        if self._gaps is not None and b"\r" in data:
            return told + data.count(b"\n\r\n") or len(self._split(data))
        return told

    def _last_end(self, data: bytes, *, over: bool = False) -> int:
        """Where the last whole event of `data` ends, 0 if there is none. `over`: all has come."""
        if self._gaps is not None and b"\r" in data:
            if data.endswith(b"\r\n\r\n"):
                return len(data)
            # A "\r" that came last may be half the end of a line.
            sure = len(data) - (data.endswith(b"\r") and not over)
            return max((gap.end() for gap in self._gaps.finditer(data, 0, sure)), default=0)
        end = data.rfind(self._gap)
        return end + len(self._gap) if end >= 0 else 0

    def _split(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Whole events, each with what ends it."""
        if self._gaps is None or b"\r" not in data:
            return [(event, self._gap) for event in data.split(self._gap)[:-1]]
        found = []
        at = 0
        for gap in self._gaps.finditer(data):
            found.append((data[at : gap.start()], gap[0]))
            at = gap.end()
        return found

    def _sound(self, event: bytes) -> bool:
        """Whether what no empty line ends is a whole event all the same."""
        data = self._data(event)
        try:
            return data == _DONE or bool(_fields.decode(data))
        except FAULTS:
            return False

    def _data(self, event: bytes) -> bytes:
        """What an event says; nothing, where it is a comment."""
        return event_data(event)

    def _beginning(self, data: bytes) -> bytes:
        """`data` from the first event on that has data: until then nothing has been said.

        Raises `UpstreamFailed` where that one makes no sense: another backend may still be asked.
        """
        at = 0
        data = data.removeprefix(BOM)
        for event, gap in self._split(data):
            if found := self._data(event):
                if found == _DONE:
                    raise UpstreamFailed("The backend's answer is empty.")
                decoded(_fields, found)
                self._begun = True
                return data[at:]
            at += len(event) + len(gap)
        return b""

    def _whole(self) -> bool:
        """Whether what came is a whole answer."""
        raise NotImplementedError

    def _special(self, data: bytes) -> bool:
        """Whether the events of `data` must be looked at one by one."""
        raise NotImplementedError

    def _event(self, event: bytes) -> bytes | None:
        """What goes on of one event, less the empty line behind it; None = nothing."""
        raise NotImplementedError

    def _finally(self, data: bytes, plain: int = 0) -> bytes:
        """What is done to all that goes on; `plain`: so many events of the plain kind, if it is."""
        return data


class WholePassing(msgspec.Struct, eq=False):
    """Passes one object on."""

    request_id: str
    # Puts the client's name of the model in, where it differs.
    rename: Callable[[bytes], bytes] | None
    # Usage of the object, None where it is no answer; raises what it reports.
    look: Callable[[bytes], Usage | None]
    kept: list[bytes] = []
    size: int = 0

    def feed(self, data: bytes) -> Sequence[Event]:
        """Keeps `data`: only the whole can be judged. Raises `UpstreamFailed` beyond the bound."""
        self.size += len(data)
        if self.size > MAX_WHOLE:
            raise too_long()
        self.kept.append(data)
        return ()

    def end(self) -> Sequence[Event]:
        """Everything."""
        kept, request_id = self.kept, self.request_id
        body = kept[0] if len(kept) == 1 else b"".join(kept)
        usage = self.look(body)
        if usage is None:
            raise UpstreamFailed("The backend's answer is cut off.")
        if self.rename is not None:
            body = self.rename(body)
        whole = Relayed(request_id, body, usage.completion_tokens)
        return (whole, Completed(request_id, usage, _UNTOLD))


def renaming(name: str | None) -> Callable[[bytes], bytes] | None:
    """`renamed` for `WholePassing`; None: nothing is to be renamed."""
    return None if name is None else partial(renamed, name=name)


def renamed(body: bytes, name: str, inside: str | None = None) -> bytes:
    """`body` with another value of `model`; of the object in the field `inside`, if named."""
    fields = decoded(_fields, body)
    if inside is not None and inside in fields:
        return with_fields(fields, {inside: Raw(renamed(bytes(fields[inside]), name))})
    return with_fields(fields, {"model": name}) if "model" in fields else body


def first_event(data: bytes) -> bytes:
    """The first event of a stream that begins with whole ones."""
    gap = _GAPS.search(data)
    return data if gap is None else data[: gap.start()]


def event_data(event: bytes) -> bytes:
    """The data of an event."""
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines)


def with_data(event: bytes, data: bytes) -> bytes:
    """`event` with other data, on one line."""
    lines = event.splitlines(keepends=True)
    kept = b"".join([line for line in lines if line.strip() and not line.startswith(b"data:")])
    if kept and not kept.endswith(b"\n"):
        kept += b"\n"
    return b"%bdata: %b" % (kept, data)
