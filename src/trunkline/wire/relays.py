"""Passing responses on in their own dialect: bytes as they are but for the model's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from trunkline.core.errors import UpstreamFailed
from trunkline.core.types import Completed, Event, RawRequest, Timing, Usage
from trunkline.wire.client import Outgoing, Terms
from trunkline.wire.passing import event_data
from trunkline.wire.raw import with_fields
from trunkline.wire.reading import keep, relayed
from trunkline.wire.sse import MOST

_encoder = msgspec.json.Encoder()

# What a piece of an answer tells of usage, None if nothing. Raises the error that it reports.
Look = Callable[[bytes], Usage | None]


def patched(path: str, raw: RawRequest, terms: Terms, *, named: bool = True) -> Outgoing:
    """The body of `raw`, with the server's name of the model where the dialect has one."""
    changes = {"model": terms.model, **terms.extra_body} if named else terms.extra_body
    return Outgoing(path=path, body=with_fields(raw.fields, changes))


class _Renamer:
    """Puts the client's name of the model in place of the server's, where it stands first."""

    def __init__(self, names: tuple[str, str], field: str) -> None:
        ours, asked = names
        self.idle = ours == asked or not asked
        key, old, new = (_encoder.encode(one) for one in (field, ours, asked))
        # Quotes within strings are escaped, so these bytes are a field wherever they stand.
        self._tight = key + b":" + old, key + b":" + new
        self._loose = key + b": " + old, key + b": " + new

    def rename(self, piece: bytes) -> bytes:
        """One object of an answer."""
        if self.idle:
            return piece
        old, new = self._tight if self._tight[0] in piece else self._loose
        return piece.replace(old, new, 1)


class _Stream:
    """What relays of streams share: whole pieces go on, each once it is looked at."""

    _separator: bytes

    def __init__(
        self, request_id: str, look: Look, names: tuple[str, str], field: str = "model"
    ) -> None:
        self._id = request_id
        self._look = look
        self._renamer = _Renamer(names, field)
        self._rest = b""
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> Sequence[Event]:
        """What of `data` completes pieces. Raises `UpstreamFailed` where one is too long."""
        if self._rest:
            data = self._rest + data
        end = data.rfind(self._separator)
        if end < 0:
            self._rest = data
            if len(data) > MOST:
                raise UpstreamFailed("The backend sent a piece of its answer that is too long.")
            return ()
        end += len(self._separator)
        self._rest, whole = data[end:], data[:end]
        return self._pass(whole)

    def end(self) -> Sequence[Event]:
        """What is left, and the usage. Raises `UpstreamFailed` where the answer is cut off."""
        left = self._pass(self._rest + self._separator) if self._rest.strip() else []
        if self._usage is None:
            raise UpstreamFailed("The backend's answer is cut off.")
        return [*left, Completed(self._id, self._usage, Timing())]

    def _pass(self, whole: bytes) -> list[Event]:
        pieces = [one for one in whole.split(self._separator) if one.strip()]
        # What has no content is a comment, and no output.
        contents = [one for one in map(self._content, pieces) if one]
        if not contents:
            return []
        for content in contents:
            usage = self._look(content)
            self._usage = self._usage if usage is None else usage
        if not self._renamer.idle:
            renamed = [self._renamer.rename(piece) + self._separator for piece in pieces]
            whole = b"".join(renamed)
        return relayed(self._id, whole, len(contents))

    def _content(self, piece: bytes) -> bytes:
        return piece


class LineRelay(_Stream):
    """Passes lines of JSON on."""

    _separator = b"\n"


class EventRelay(_Stream):
    """Passes server-sent events on whose lines end with a line feed alone."""

    _separator = b"\n\n"

    def _content(self, piece: bytes) -> bytes:
        """The data of an event; comments and the like have none."""
        if piece.startswith(b"data:") and b"\n" not in piece:
            return piece[5:].lstrip()
        return event_data(piece)


class WholeRelay:
    """Passes a body that is one JSON value on."""

    def __init__(
        self, request_id: str, look: Look, names: tuple[str, str], field: str = "model"
    ) -> None:
        self._id = request_id
        self._look = look
        self._renamer = _Renamer(names, field)
        self._kept = bytearray()

    def feed(self, data: bytes) -> Sequence[Event]:
        """Keeps `data`: only the whole can be judged."""
        keep(self._kept, data)
        return ()

    def end(self) -> Sequence[Event]:
        """Everything. Raises `UpstreamFailed` where it is no answer."""
        body = bytes(self._kept)
        usage = self._look(body)
        if usage is None:
            raise UpstreamFailed("The backend's answer is cut off.")
        renamed = self._renamer.rename(body)
        return [*relayed(self._id, renamed), Completed(self._id, usage, Timing())]
