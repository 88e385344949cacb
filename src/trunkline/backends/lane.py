"""The short way to a server, for calls whose whole answer passes as it is."""

from __future__ import annotations

from math import inf
from typing import Protocol

import msgspec

from trunkline.backends.config import Timeouts
from trunkline.backends.remote_call import RemoteCall, UnderWay
from trunkline.backends.site import Site
from trunkline.core.types import EventSink, RawRequest
from trunkline.wire.client import Outgoing, PlainSpeaker, Speaker, Terms


class LaneOwner(Protocol):
    """What is needed of a backend."""

    site: Site
    timeouts: Timeouts
    heard: bool
    calls: set[UnderWay]
    # Whether `watch` has been called and still holds.
    watched: bool

    def reach(self, operation: str, model: str, path: str) -> str:
        """Where the server has what the dialect of an operation has at `path`."""

    def watch(self) -> None:
        """Look at time limits from now on, as there is a call under way."""

    def adopt(
        self, raw: RawRequest, outgoing: Outgoing, sink: EventSink, began: float
    ) -> RemoteCall:
        """A call that somebody else has sent; whoever did tells it what he hears from now on."""


class Lane(msgspec.Struct, eq=False):
    """What a backend knows beforehand of relaying one operation of one of its models.

    For whoever sends a `Transfer` of its own, and has a `RemoteCall` made of it (`adopt`) when
    anything but a whole answer comes.
    """

    owner: LaneOwner
    speaker: PlainSpeaker
    terms: Terms
    # Below the backend's base URL, where the server has it.
    path: str
    # Seconds that no answer may take; earlier than that none is late.
    patience: float
    # The server's name of the model, in JSON, where a body needs no other change; else None.
    name: bytes | None
    # False: the server is known to be another by now; there may be a new lane.
    open: bool = True


def lane_of(owner: LaneOwner, speaker: Speaker, terms: Terms) -> Lane | None:
    """None: there is none, as answers need more than a look, or requests a signature."""
    if not isinstance(speaker, PlainSpeaker) or owner.site.auth.signs:
        return None
    timeouts = owner.timeouts
    patience = min(timeouts.attempt or inf, timeouts.first_token or inf)
    path = owner.reach(speaker.operation, terms.model, speaker.path)
    name = msgspec.json.encode(terms.model) if speaker.passes(terms) else None
    return Lane(owner, speaker, terms, path, patience, name)
