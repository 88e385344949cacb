"""What the events of a message that broke off have said: for who goes on with it.

Read once, when that happens; the events passed by without a look. Blocks are those of whoever
began: some have no text (thoughts that are not shown), some nothing else yet.
"""

from __future__ import annotations

import msgspec

from trunkline.core.outline import FAULTS
from trunkline.wire.sse import EventReader


class Progress(msgspec.Struct):
    """A message so far."""

    # Of the block that is open, or was the last; -1 = there was none.
    index: int = -1
    # Type of the block that is open; "" = none is.
    open: str = ""
    # What the open block was signed with.
    signature: str = ""


class _Part(msgspec.Struct, frozen=True):
    type: str = ""
    signature: str = ""


_NOTHING = _Part()


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    content_block: _Part = _NOTHING
    delta: _Part = _NOTHING


_event = msgspec.json.Decoder(_Event)


def progress(relayed: bytes) -> Progress:
    """How far `relayed`, whole events, has come. What makes no sense in it is passed over."""
    found = Progress()
    for piece in EventReader().feed(relayed):
        try:
            event = _event.decode(piece.data)
        except FAULTS:
            continue
        if event.type == "content_block_start":
            found.index, found.open, found.signature = event.index, event.content_block.type, ""
        elif event.type == "content_block_delta":
            found.signature = event.delta.signature or found.signature
        elif event.type == "content_block_stop":
            found.open = ""
    return found
