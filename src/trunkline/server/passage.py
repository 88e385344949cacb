"""A relayed call in its usual form: one target, and a whole answer that passes as it is.

Then one object does what takes a handful else: what a client waits for (`Generation`), the tries
of its route (`Tries`, `Attempt`) and what a server is asked (`RemoteCall`). These are made, in the
state in which they would be by now, as soon as anything else happens: the answer comes in pieces,
fails, is late, or nobody waits for it any more.
"""

from __future__ import annotations

import time

from msgspec.structs import replace

from trunkline.backends.http.transfer import Transfer
from trunkline.backends.lane import Lane
from trunkline.backends.remote import RemoteBackend
from trunkline.backends.remote_call import RemoteCall
from trunkline.core.errors import TrunklineError
from trunkline.core.types import RawRequest, Routed
from trunkline.gateway.endpoint import Endpoint
from trunkline.gateway.gateway import ServedModel
from trunkline.gateway.route import Route
from trunkline.server.generation import Active, Generation, Unopened, pass_whole
from trunkline.server.http.exchange import Exchange
from trunkline.server.metrics import ModelMetrics
from trunkline.server.replies import id_line
from trunkline.server.responses import StoredResponses
from trunkline.wire.client import Head, Outgoing
from trunkline.wire.passing import renamed

_JSON = "application/json"
_OK = 200


class Passage(Transfer, eq=False):
    """One call; `passed` makes it. Implements `generation.Active` and `UnderWay`.

    Once it has become a `RemoteCall`, it is that one's carrier, and tells it what it hears.
    """

    active: set[Active]
    stored: StoredResponses
    exchange: Exchange
    unopened: Unopened
    raw: RawRequest
    model: ServedModel
    metrics: ModelMetrics
    route: Route
    endpoint: Endpoint
    lane: Lane
    outgoing: Outgoing
    # The loop's time when it was sent.
    began: float
    # Something of the answer has arrived.
    begun: bool = False
    # What it has become.
    generation: Generation | None = None
    call: RemoteCall | None = None

    # transfer.Transfer

    def on_part(self) -> None:
        """As of `RemoteCall`, which it becomes if that goes on for long."""
        if self.call is None:
            self.begun = True
        else:
            self.call.on_part()

    def on_whole(self, head: Head, body: bytes) -> None:
        """The answer, if it is one."""
        fields, lane, raw = head.headers, self.lane, self.raw
        if (
            head.status != _OK
            or fields.get("content-type") != _JSON
            or "content-encoding" in fields
            or self.call is not None
        ):
            self._at_last().on_whole(head, body)
            return
        try:
            usage = lane.speaker.look(body)
            if raw.asked_model != lane.terms.model:
                body = renamed(body, raw.asked_model)
        except Exception:  # noqa: BLE001 - the same again, where it is told
            self._at_last().on_whole(head, body)
            return
        self.done = True
        owner = lane.owner
        owner.heard = True
        owner.calls.discard(self)
        self.active.discard(self)
        state, endpoint = self.route.state, self.endpoint
        now = state.clock.time()
        endpoint.completed(now, self.began, now, usage, 0)
        if state.waiting.inside:
            state.waiting.look_soon()
        target = endpoint.target
        routed = Routed(raw.id, target.backend, endpoint.model, arm=target.arm)
        exchange, codec, metrics = self.exchange, self.unopened.codec, self.metrics
        lines = id_line(raw.id)
        pass_whole(exchange, codec, metrics, routed, body, usage, lines, time.monotonic())

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
        if self.begun or now - self.began >= self.lane.patience:
            self._become().check(now)

    def cancel(self) -> None:
        """As of `Transfer`."""
        self.lane.owner.calls.discard(self)
        Transfer.cancel(self)

    # transfer.Carrier, for the call that it has become

    def abandon(self, transfer: Transfer) -> None:
        """The call is cancelled."""
        transfer.carrier = None
        self.cancel()

    def set_reading(self, wanted: bool) -> None:
        """As of the connection."""
        self._set_paused(not wanted)

    # generation.Active

    def give_up(self, error: TrunklineError) -> None:
        """End the client's call with `error`."""
        self._generation().give_up(error)

    def gone(self) -> None:
        """The client has left."""
        self._generation().gone()
        # It has made itself known to an exchange that is over, and would keep it alive.
        self.exchange.on_gone = None

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
        lane, raw, active = self.lane, self.raw, self.active
        owner = lane.owner
        owner.calls.discard(self)
        active.discard(self)
        self.generation = generation = Generation(
            active,
            self.stored,
            self.exchange,
            self.unopened.codec,
            raw.id,
            raw.tenant,
            self.model,
            self.metrics,
            raw.stream,
            self.unopened,
        )
        tries, attempt = self.route.taken_over(raw, generation, self.endpoint, self.began)
        generation.calls.append(tries)
        model = lane.terms.model
        there = raw if raw.model == model else replace(raw, model=model)
        self.call = call = owner.adopt(there, self.outgoing, attempt, self.began)
        call.carrier = self
        attempt.call = call
        if self.begun:
            call.on_part()
        return call


def passed(
    active: set[Active],
    stored: StoredResponses,
    exchange: Exchange,
    unopened: Unopened,
    raw: RawRequest,
    model: ServedModel,
    metrics: ModelMetrics,
) -> Passage | Endpoint | None:
    """Begin a call for a whole answer, where it needs no more than this.

    Else nothing has begun, but a target may have been chosen for it.
    """
    route = model.backend
    if type(route) is not Route or unopened.codec.kept is not None or "keep_alive" in raw.fields:
        return None
    now = route.state.clock.time()
    endpoint = route.straight(raw, now)
    if (
        endpoint is None
        or not endpoint.model
        or type(endpoint.backend) is not RemoteBackend
        or not endpoint.breaker.closed
    ):
        return endpoint
    lane = endpoint.backend.lane(endpoint.model, raw.operation)
    if lane is None:
        return endpoint
    site = lane.owner.site
    try:
        outgoing = lane.speaker.patch(raw, lane.terms)
        body = outgoing.body
        head = site.head(outgoing.method, lane.path, outgoing.headers, body)
    except TrunklineError:
        return endpoint
    passage = Passage(
        active,
        stored,
        exchange,
        unopened,
        raw,
        model,
        metrics,
        route,
        endpoint,
        lane,
        outgoing,
        now,
        head=head,
        body=body,
    )
    endpoint.begin(now, 0)
    active.add(passage)
    lane.owner.calls.add(passage)
    exchange.on_gone = passage.gone
    site.pool.send(passage)
    lane.owner.watch()
    return passage
