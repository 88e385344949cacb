"""What relayed bytes say, in core events, for the few answers of which somebody must know it."""

from __future__ import annotations

from collections.abc import Sequence

from trunkline.core.errors import TrunklineError
from trunkline.core.types import Event
from trunkline.gateway.ask import Ask
from trunkline.wire.client import Head, Speaker, Terms


def read(ask: Ask, speaker: Speaker, relayed: bytes, ended: bool) -> Sequence[Event] | None:
    """Events of the answer to `ask`, which came raw; not `ended`: of what there is of it.

    None where it cannot be read.
    """
    raw = ask.raw
    assert raw is not None
    if not raw.stream:
        media = "application/json"
    else:
        lines = raw.operation.startswith("ollama.")
        media = "application/x-ndjson" if lines else "text/event-stream"
    terms = Terms(model=raw.model, features=frozenset({"stream"} if raw.stream else ()))
    try:
        reader = speaker.reader(ask.request(), terms, Head(200, {"content-type": media}))
        events = reader.feed(relayed)
        return (*events, *reader.end()) if ended else events
    except TrunklineError:
        return None
