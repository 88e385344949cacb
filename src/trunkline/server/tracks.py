"""Calls that are like one that came before, but for what is in their bodies.

What a request's head and its model's name decide (who asks, which codec, which route and what it
counts on) is found out the long way, once, and remembered with the head. The next one with that
head and name takes it from there, as long as configuration and keys are the same and nothing in
its body asks for more.
"""

from __future__ import annotations

from weakref import ref

import msgspec
from msgspec.structs import replace

from trunkline.backends.auth.schemes import Fields
from trunkline.backends.lane import Lane
from trunkline.backends.site import length_line
from trunkline.core.metrics import Counter
from trunkline.core.outline import Outline
from trunkline.core.types import RawRequest, Request
from trunkline.gateway.endpoint import Endpoint
from trunkline.gateway.gateway import Epoch, Gateway, ServedModel
from trunkline.gateway.route import Route
from trunkline.server.account import Account
from trunkline.server.form import Form
from trunkline.server.generation import Active, Unopened, routed_form
from trunkline.server.http.exchange import Exchange
from trunkline.server.metrics import ModelMetrics
from trunkline.server.replies import ID_FORM
from trunkline.server.responses import StoredResponses
from trunkline.wire.client import Head, Outgoing
from trunkline.wire.codec import Codec, Incoming
from trunkline.wire.raw import ASKING, peek

# Models that are remembered with one head, and tracks in all.
_MOST = 64
_MOST_TRACKS = 4096
_POST = "POST"

# Finds the model's name in bodies that ask for nothing else that matters here.
simple = Outline("model", ASKING)


class Way(msgspec.Struct, eq=False):
    """How calls on a track get to one endpoint, and back."""

    lane: Lane
    account: Account
    # As of `Outgoing`.
    path: str
    headers: Fields
    # Lines for the head of the answer: a format of the id, twice, and milliseconds; and all of it.
    lines: bytes
    form: Form
    # The server's name of the model, in JSON; and the client's, where answers have another.
    named: bytes
    name: str | None
    # What the server is sent before the length of a body, where that is always the same.
    opening: bytes = b""
    # Where answers are counted, once there was one.
    answers: Counter | None = None
    # Of the answer that passed last: the next one's is often the same.
    head: Head | None = None

    def head_for(self, size: int) -> bytes:
        """The head of a request whose body has `size` bytes. Raises as `Site.head`."""
        site = self.lane.owner.site
        opening = site.opening(_POST, self.lane.path, self.headers, site.auth.fields())
        if site.auth.steady:
            self.opening = opening
        return opening + length_line(size)


class Track(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """What head and model's name of a call decide."""

    # Of the gateway, when that was found out; it keeps the track, heads only refer to it.
    epoch: Epoch
    active: set[Active]
    stored: StoredResponses
    metrics: ModelMetrics
    model: ServedModel
    route: Route
    codec: Codec
    # Of the first call, without what was in its body.
    came: Incoming
    raw: RawRequest
    # For log and metrics: as of `Exchange`.
    route_name: str
    label: str
    # To the endpoints that were asked before.
    ways: dict[Endpoint, Way]

    # The head may hold a key, which must not get into a log.
    __repr__ = object.__repr__

    def unopened(self, body: bytes, request_id: str) -> Unopened:
        """A call with `body`."""
        came = replace(self.came, body=body)
        return Unopened(self.codec, came, request_id, self.model.name, self.raw.tenant)

    def call(self, unopened: Unopened) -> RawRequest:
        """It as backends take it."""
        peeked = peek(unopened.came)
        fields = {} if peeked is None else peeked.fields
        request_id, translate = unopened.request_id, unopened.request
        return replace(self.raw, id=request_id, fields=fields, translate=translate)


def way_to(track: Track, endpoint: Endpoint, lane: Lane, outgoing: Outgoing) -> Way:
    """What a call that is sent there as `outgoing` shows of the way."""
    target, metrics = endpoint.target, track.metrics
    lines = ID_FORM + routed_form(target.backend, endpoint.model, arm=target.arm)
    account = Account(
        endpoint,
        endpoint.requests_lately,
        endpoint.breaker.tries,
        endpoint.tokens_lately,
        metrics.ttft,
        metrics.e2e,
        metrics.prompt_tokens,
        metrics.generation_tokens,
    )
    asked = track.raw.asked_model
    name = asked if asked != lane.terms.model else None
    named = lane.name or b""
    return Way(lane, account, outgoing.path, outgoing.headers, lines, Form(lines), named, name)


def remember(
    gateway: Gateway, exchange: Exchange, track: Track, body: bytes, endpoint: Endpoint, way: Way
) -> None:
    """Let calls like this one, with `body`, find track and way, where they can be relied on."""
    memory, codec, raw = exchange.request.memory, track.codec, track.raw
    if (
        memory is None
        or codec.streams != "asked"
        or codec.find_name is not None
        or codec.refers is not None
        or raw.affinity
        or way.lane.name is None
        or not track.route.blind
        or not gateway.configured(raw.asked_model)
    ):
        return
    found = simple.find(body)
    if found is None:
        return
    name, _ = found
    kept = memory.get(name)
    known = None if kept is None else kept()
    if known is None or known.epoch is not track.epoch:
        if len(memory) >= _MOST:
            memory.clear()
        came = replace(track.came, body=b"")
        rest = replace(raw, id="", fields={}, translate=_untold)
        known = replace(track, came=came, raw=rest)
        tracks = track.epoch.kept
        if len(tracks) >= _MOST_TRACKS:
            tracks.clear()
        tracks.append(known)
        memory[name] = ref(known)
    known.ways[endpoint] = way


def _untold() -> Request:
    raise RuntimeError("a track is no call")
