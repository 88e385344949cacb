"""Passing answers on where any piece may tell of usage, and the model's name is easily found."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from trunkline.core.types import RawRequest, Usage
from trunkline.wire.client import Outgoing, Terms
from trunkline.wire.passing import EventPassing
from trunkline.wire.raw import lacking, with_fields

_encoder = msgspec.json.Encoder()

# What a piece of an answer tells of usage, None if nothing. Raises the error that it reports.
Look = Callable[[bytes], Usage | None]


def patched(path: str, raw: RawRequest, terms: Terms, *, named: bool = True) -> Outgoing:
    """The body of `raw`, with the server's name of the model where the dialect has one."""
    model = {"model": terms.model} if named else {}
    changes = {**lacking(raw.fields, terms.default_body), **model, **terms.extra_body}
    return Outgoing(path=path, body=with_fields(raw.fields, changes))


def passes(terms: Terms) -> bool:
    """As of `PlainSpeaker`: what `patched` leaves alone."""
    return not (terms.default_body or terms.extra_body)


class Renamer:
    """Puts the client's name of the model in place of the server's, where it stands first."""

    def __init__(self, ours: str, asked: str, field: str = "model") -> None:
        """`ours` is the server's; an `asked` of "" stays what it is."""
        self._idle = ours == asked or not asked
        key, old, new = (_encoder.encode(one) for one in (field, ours, asked))
        # Quotes within strings are escaped, so these bytes are a field wherever they stand.
        self._tight = key + b":" + old, key + b":" + new
        self._loose = key + b": " + old, key + b": " + new

    def rename(self, piece: bytes) -> bytes:
        """One object of an answer."""
        if self._idle:
            return piece
        old, new = self._tight if self._tight[0] in piece else self._loose
        return piece.replace(old, new, 1)


class EventRelay(EventPassing):
    """Passes server-sent events on; the answer is whole once one has told of usage."""

    def __init__(self, request_id: str, look: Look, renamer: Renamer | None = None) -> None:
        super().__init__(request_id)
        self._look = look
        self._renamer = renamer

    def _whole(self) -> bool:
        return self._usage is not None

    def _special(self, data: bytes) -> bool:
        return True

    def _event(self, event: bytes) -> bytes | None:
        if content := self._data(event):
            self._usage = self._look(content) or self._usage
        return event if self._renamer is None else self._renamer.rename(event)


class LineRelay(EventRelay):
    """Passes lines of JSON on."""

    _gap = b"\n"
    _gaps = None

    def _data(self, event: bytes) -> bytes:
        return event.strip()
