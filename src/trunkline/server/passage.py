"""A relayed call in its usual form: one target, and a whole answer that passes as it is.

Then one object does what takes a handful else: what a client waits for (`Generation`), the tries
of its route (`Tries`, `Attempt`) and what a server is asked (`RemoteCall`). These are made, in the
state in which they would be by now, as soon as anything else happens: the answer comes in pieces,
fails, is late, or nobody waits for it any more. What a call has in common with those before it is
its `Track`.
"""

from __future__ import annotations

import time
from typing import ClassVar

from msgspec.structs import replace

from trunkline.backends.http.transfer import Transfer
from trunkline.backends.remote import RemoteBackend
from trunkline.backends.remote_call import RemoteCall
from trunkline.backends.site import length_line
from trunkline.core.errors import TrunklineError
from trunkline.core.types import RawRequest
from trunkline.gateway.endpoint import Endpoint
from trunkline.gateway.gateway import Gateway
from trunkline.server.generation import Generation, Unopened
from trunkline.server.http.exchange import Exchange, HttpRequest, PassingSide
from trunkline.server.replies import Ids
from trunkline.server.tracks import Track, Way, remember, simple, way_to
from trunkline.wire.client import Head, Outgoing
from trunkline.wire.passing import renamed
from trunkline.wire.raw import LARGE, teems, with_model

_JSON = "application/json"
_OK = 200


class Passage(Transfer, eq=False):
    """One call; `passed` and `Remembered` make it. Implements `generation.Active` and `UnderWay`.

    Once it has become a `RemoteCall`, it is that one's carrier, and tells it what it hears.
    """

    track: Track
    way: Way
    id: str
    endpoint: Endpoint
    # The loop's time when it was sent, and time.monotonic() when it was asked for.
    began: float
    asked: float
    # The call; where that is not needed, its body as the client sent it.
    unopened: Unopened | bytes
    # Where the answer goes: an exchange, else a connection of which one is made if need be.
    exchange: Exchange | None = None
    connection: PassingSide | None = None
    # Of that, what the request has in common with others.
    known: HttpRequest | None = None
    raw: RawRequest | None = None
    outgoing: Outgoing | None = None
    # Something of the answer has arrived.
    begun: bool = False
    # What it has become.
    generation: Generation | None = None
    call: RemoteCall | None = None
    # Of an answer that needed no exchange.
    tokens: tuple[int, int] | None = None

    # As of `exchange.Underway`: an exchange has it.
    on_tick: ClassVar[None] = None

    def send(self) -> None:
        """Begin."""
        way, endpoint = self.way, self.endpoint
        way.account.began(self.began)
        if endpoint.holder is not None:
            endpoint.look_for_load(self.began)
        owner = way.lane.owner
        self.track.active.add(self)
        owner.calls.add(self)
        if self.exchange is not None:
            self.exchange.on_gone = self.gone
        owner.site.pool.send(self)
        if not owner.watched:
            owner.watch()

    # transfer.Transfer

    def on_part(self) -> None:
        """As of `RemoteCall`, which it becomes if that goes on for long."""
        if self.call is None:
            self.begun = True
        else:
            self.call.on_part()

    def on_whole(self, head: Head, body: bytes) -> None:
        """The answer, if it is one."""
        way = self.way
        if self.call is not None or not (head is way.head or _passes(head)):
            self._at_last().on_whole(head, body)
            return
        lane = way.lane
        speaker = lane.speaker
        try:
            counts = speaker.counts(body)
            if counts is None:
                usage = speaker.look(body)
                counts = usage.prompt_tokens, usage.completion_tokens
            if way.name is not None:
                body = renamed(body, way.name)
        except Exception:  # noqa: BLE001 - the same again, where it is told
            self._at_last().on_whole(head, body)
            return
        self.done = True
        if head is not way.head:
            way.head = head
        track, owner, endpoint = self.track, lane.owner, self.endpoint
        owner.heard = True
        owner.calls.discard(self)
        track.active.discard(self)
        state, began = track.route.state, self.began
        now = state.clock.time()
        if endpoint.load_began:
            endpoint.note_load(began, now)
        took = time.monotonic() - self.asked
        prompt, made = counts
        self.tokens = tokens = way.account.passed(now, began, took, prompt, made)
        endpoint.breaker.row = 0
        if state.waiting.inside:
            state.waiting.look_soon()
        kind, took = track.codec.whole_type, took * 1000
        exchange, connection = self.exchange, self.connection
        if exchange is None:
            assert connection is not None
            top = connection.clock.head(_OK, kind)
            connection.passed(self, way.form.fill(top, self.id, took, body))
        else:
            name = self.id.encode()
            exchange.tokens = tokens
            exchange.respond(_OK, body, kind, way.lines % (name, name, took))

    def on_head(self, head: Head) -> None:
        """It comes in pieces."""
        self._become().on_head(head)

    def on_data(self, data: bytes) -> None:
        """As of `RemoteCall`."""
        self._become().on_data(data)

    def on_end(self) -> None:
        """As of `RemoteCall`."""
        call = self._at_last()
        if not call.done:
            call.done = True
            call.on_end()

    def on_failure(self, error: TrunklineError) -> None:
        """As of `RemoteCall`."""
        self._at_last().fail(error)

    # remote_call.UnderWay

    def check(self, now: float) -> None:
        """It may be late; once something has arrived, other limits hold."""
        if self.begun or now - self.began >= self.way.lane.patience:
            self._become().check(now)

    def cancel(self) -> None:
        """As of `Transfer`."""
        self.way.lane.owner.calls.discard(self)
        Transfer.cancel(self)

    # transfer.Carrier, for the call that it has become

    def abandon(self, transfer: Transfer) -> None:
        """The call is cancelled."""
        transfer.carrier = None
        self.cancel()

    def set_reading(self, wanted: bool) -> None:
        """As of the connection."""
        self._set_paused(not wanted)

    # exchange.Underway

    def exchanged(self) -> Exchange:
        """Make one of what the connection has of it."""
        exchange = self.exchange
        if exchange is None:
            assert self.connection is not None
            assert self.known is not None
            exchange = self.connection.exchange(self, self.known, self.asked)
            exchange.route, exchange.model = self.track.route_name, self.track.label
            exchange.tokens = self.tokens
            exchange.on_gone = self.gone
            self.exchange = exchange
        return exchange

    # generation.Active

    def give_up(self, error: TrunklineError) -> None:
        """End the client's call with `error`."""
        self._generation().give_up(error)

    def hold_route(self) -> None:
        """As of `Active`."""
        self._become()

    def gone(self) -> None:
        """The client has left."""
        self._generation().gone()
        # It has made itself known to an exchange that is over, and would keep it alive.
        self.exchanged().on_gone = None

    # internals

    def _at_last(self) -> RemoteCall:
        """What it has become, for the last that it hears: they do not keep each other alive."""
        call = self._become()
        call.carrier = None
        return call

    def _generation(self) -> Generation:
        self._become()
        assert self.generation is not None
        return self.generation

    def _become(self) -> RemoteCall:
        if self.call is not None:
            return self.call
        track, lane = self.track, self.way.lane
        owner, active = lane.owner, track.active
        owner.calls.discard(self)
        active.discard(self)
        given = self.unopened
        unopened = track.unopened(given, self.id) if isinstance(given, bytes) else given
        raw = self.raw or track.call(unopened)
        outgoing = self.outgoing or Outgoing(
            path=self.way.path, body=self.body, headers=self.way.headers
        )
        self.generation = generation = Generation(
            active,
            track.stored,
            self.exchanged(),
            track.codec,
            self.id,
            raw.tenant,
            track.model,
            track.metrics,
            raw.stream,
            unopened,
        )
        tries, attempt = track.route.taken_over(raw, generation, self.endpoint, self.began)
        generation.calls.append(tries)
        model = lane.terms.model
        there = raw if raw.model == model else replace(raw, model=model)
        self.call = call = owner.adopt(there, outgoing, attempt, self.began)
        call.carrier = self
        attempt.call = call
        if self.begun:
            call.on_part()
        return call


def _passes(head: Head) -> bool:
    """Whether an answer with such a head passes as it is."""
    fields = head.headers
    return (
        head.status == _OK
        and fields.get("content-type") == _JSON
        and "content-encoding" not in fields
    )


def passed(
    gateway: Gateway,
    track: Track,
    exchange: Exchange,
    unopened: Unopened,
    raw: RawRequest,
    chosen: Endpoint | None = None,
) -> Passage | Endpoint | None:
    """Begin a call for a whole answer, where it needs no more than this; its track begins with it.

    Else nothing has begun, but a target may have been chosen for it. `chosen` is one that was.
    """
    route = track.route
    now = route.state.clock.time()
    endpoint = chosen or route.straight(raw, now)
    if endpoint is None or not endpoint.model or not endpoint.breaker.closed:
        return endpoint
    backend = endpoint.backend
    if type(backend) is not RemoteBackend:
        return endpoint
    lane = backend.lane(endpoint.model, raw.operation)
    if lane is None:
        return endpoint
    try:
        outgoing = lane.speaker.patch(raw, lane.terms)
        body = outgoing.body
        head = lane.owner.site.head(outgoing.method, lane.path, outgoing.headers, body)
    except TrunklineError:
        return endpoint
    if outgoing.dropped:
        # What is left out is told with the answer.
        return endpoint
    way = way_to(track, endpoint, lane, outgoing)
    remember(gateway, exchange, track, unopened.came.body, endpoint, way)
    passage = Passage(
        track,
        way,
        raw.id,
        endpoint,
        now,
        exchange.began,
        unopened,
        exchange,
        raw=raw,
        outgoing=outgoing,
        head=head,
        body=body,
    )
    passage.send()
    return passage


class Remembered:
    """Begins calls on tracks that are remembered."""

    def __init__(self, gateway: Gateway, ids: Ids) -> None:
        self._gateway = gateway
        self._ids = ids
        # The target of the request that was asked for last, where one has been chosen for it, and
        # no call has begun: as what `passed` gives.
        self.chosen: Endpoint | None = None

    def again(
        self, connection: PassingSide, known: HttpRequest, given: bytes, asked: float
    ) -> Passage | None:
        """Begin a call like one before; None: it needs more than that one.

        `known` is the request but for its body, `given`; it was complete when time.monotonic() was
        `asked`.
        """
        memory = known.memory
        # Whoever has to take it over takes it apart.
        if memory is None or (len(given) > LARGE and teems(given)):
            return None
        found = simple.find(given)
        if found is None:
            return None
        name, at = found
        kept = memory.get(name)
        track: Track | None = None if kept is None else kept()
        gateway = self._gateway
        if track is None or track.epoch is not gateway.epoch or gateway.draining:
            return None
        route = track.route
        now = route.state.clock.time()
        endpoint = route.straight(track.raw, now)
        if endpoint is None:
            return None
        way = track.ways.get(endpoint)
        if way is None or not endpoint.breaker.closed:
            self.chosen = endpoint
            return None
        lane, opening = way.lane, way.opening
        if not lane.open or not (opening or lane.owner.site.auth.ready):
            self.chosen = endpoint
            return None
        body = given if name == way.named else with_model(given, name, at, way.named)
        try:
            head = opening + length_line(len(body)) if opening else way.head_for(len(body))
        except TrunklineError:
            self.chosen = endpoint
            return None
        request_id = track.codec.id_prefix + self._ids.next()
        passage = Passage(
            track,
            way,
            request_id,
            endpoint,
            now,
            asked,
            given,
            None,
            connection,
            known,
            head=head,
            body=body,
        )
        passage.send()
        return passage
