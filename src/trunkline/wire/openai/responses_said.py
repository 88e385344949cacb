"""What the events of a response that broke off have said: for who goes on with it.

Read once, when that happens; the events passed by without a look. Numbers and ids are those of
whoever began, so that the client sees one stream.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from trunkline.core.outline import FAULTS
from trunkline.wire.openai.responses_body import MessageItem, OutputItem, OutputText, ReasoningItem
from trunkline.wire.sse import EventReader

# What opens the one part of an item.
_PARTS = ("response.content_part.added", "response.reasoning_summary_part.added")
# What ends its text, and then the part.
_TEXT_DONE = (
    "response.output_text.done",
    "response.reasoning_text.done",
    "response.reasoning_summary_text.done",
)
_PART_DONE = ("response.content_part.done", "response.reasoning_summary_part.done")
_TEXT = tuple(kind.removesuffix("done") + "delta" for kind in _TEXT_DONE)

_NO_ITEM = Raw(b"")


class Said(msgspec.Struct):
    """A response so far."""

    # "" and 0: it has not said so.
    id: str = ""
    created_at: int = 0
    # Number of the next event.
    sequence: int = 0
    # Its output, in order: what is complete as it came, and at the end the item that is open.
    items: list[OutputItem | Raw] = []
    open: OutputItem | None = None
    # True: the part of the open item that text goes into is there.
    part: bool = False
    # What has been said in the open item, and how far it is done: its text, and its part.
    pieces: list[str] = []
    text_done: bool = False
    part_done: bool = False


class _Response(msgspec.Struct):
    id: str = ""
    created_at: float = 0


class _Item(msgspec.Struct):
    type: str = ""
    id: str = ""


class _Event(msgspec.Struct):
    type: str = ""
    sequence_number: int | None = None
    delta: Raw = _NO_ITEM
    text: str | None = None
    response: _Response | None = None
    item: Raw = _NO_ITEM


_event = msgspec.json.Decoder(_Event)
_item = msgspec.json.Decoder(_Item)
_text = msgspec.json.Decoder(str)


def read(relayed: bytes) -> Said:
    """What `relayed`, whole events, says. What makes no sense in it is passed over."""
    said = Said()
    for piece in EventReader().feed(relayed):
        try:
            event = _event.decode(piece.data)
            _take(said, event)
        except FAULTS:
            continue
        number = said.sequence if event.sequence_number is None else event.sequence_number
        said.sequence = max(said.sequence, number + 1)
    return said


def _take(said: Said, event: _Event) -> None:
    if event.response is not None and not said.id:
        said.id, said.created_at = event.response.id, int(event.response.created_at)
    elif event.type in _PARTS:
        said.part = True
        if isinstance(said.open, MessageItem):
            said.open.content.append(OutputText(""))
    elif event.type == "response.output_item.added":
        said.open = _opened(_item.decode(event.item))
        said.items.append(said.open or event.item)
        said.part = said.text_done = said.part_done = False
        said.pieces = []
    elif event.type in _TEXT:
        said.pieces.append(_text.decode(event.delta))
    elif event.type in _TEXT_DONE:
        said.text_done = True
        if event.text is not None:
            said.pieces = [event.text]
    elif event.type in _PART_DONE:
        said.part_done = True
    elif event.type == "response.output_item.done" and said.items:
        said.items[-1] = event.item
        said.open = None


def _opened(item: _Item) -> OutputItem | None:
    """The item as it is until something is said in it; None: nobody goes on in such a one."""
    if item.type == "message":
        return MessageItem(item.id, "in_progress", [])
    if item.type == "reasoning":
        return ReasoningItem(item.id, [], status="in_progress")
    return None
