"""One call: try a target, and another when that one fails before anything has gone out.

    start ─► try ─► first output ─► the rest ─► Completed | Failed
      │       │ failed                 │ broke off
      │       ├─► back off ─► try      └─► another goes on with the text (`continuation`)
      │       └─► fallback: another route, asked as a backend
      └─► wait for a target below its limits

No task: everything happens in callbacks of backends and timers. The invariants, which
`tests/gateway/test_tries_properties.py` holds against random faults:

- `Routed` comes first; exactly one `Completed` or `Failed`, and nothing after it or `cancel`;
- each try that began is settled once with its endpoint; after an output nobody starts over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from trunkline.core.errors import ErrorInfo, TrunklineError
from trunkline.core.types import Completed, Event, EventSink, Failed, Relayed, Request
from trunkline.gateway.ask import Ask
from trunkline.gateway.attempt import Attempt
from trunkline.gateway.clock import Timer
from trunkline.gateway.continuation import CONTINUING, Partial
from trunkline.gateway.endpoint import Endpoint
from trunkline.gateway.route_state import RouteState, Watch
from trunkline.gateway.verdict import BREAKS, Cause, fallback_names, verdict


class Tries(msgspec.Struct, eq=False):
    """Implements `core.types.Call`.

    A struct, as it is made for every request: its fields cost next to nothing.
    """

    _state: RouteState
    _ask: Ask
    # Where the events go; tries take it without asking.
    sink: EventSink
    # Names of the routes that were asked in this call, which nobody asks again.
    _visited: list[str]
    # Sees what goes out, where it will be compared.
    watch: Watch | None = None
    ended: bool = False
    # Tries under way; one, but for hedges. After the first output the one that gave it.
    _racing: list[Attempt] = []
    # Targets tried, in order, and those that are not worth another try.
    _made: list[Endpoint] = []
    _barred: list[Endpoint] = []
    # Other routes asked, and those that are left; None: it has not come to that.
    _peers: int = 0
    _fallbacks: Iterator[str] | None = None
    # What the client is told when nothing else helps.
    _error: ErrorInfo | None = None
    # Second targets asked because the first was slow.
    _hedges: int = 0
    # True: something has gone out.
    _out: bool = False
    _partial: Partial | None = None
    # The request for the missing rest, once an answer broke off.
    _rest: Request | None = None
    # Next step; end of the time for the whole call; next hedge.
    _timer: Timer | None = None
    _alarm: Timer | None = None
    _hedge: Timer | None = None

    def start(self, endpoint: Endpoint | None = None) -> None:
        """Begin, with `endpoint` where it is chosen already; no event comes before this returns."""
        state = self._state
        state.calls += 1
        if state.config.timeout:
            self._alarm = state.clock.call_later(state.config.timeout, self._time_is_up)
        if not state.waiting.inside:
            now = state.clock.time()
            endpoint = endpoint or state.chooser.choose(self._ask, now)
            if endpoint is not None:
                self._try(endpoint, now)
                return
        self._timer = state.clock.call_later(0.0, self._begin_late)

    def take_over(self, endpoint: Endpoint, began: float) -> Attempt:
        """Go on in place of `start` from a try that somebody else began."""
        self._state.calls += 1
        self._made.append(endpoint)
        self._racing.append(Attempt(self, endpoint, began, began, 0))
        return self._racing[0]

    def cancel(self) -> None:
        """Stop everything; nothing is delivered after this."""
        if not self.ended:
            self._close()
            if self.watch is not None:
                self.watch.cancelled()

    def go_on(self) -> None:
        """Ask whom we have not asked yet, else whoever may do better now."""
        self._timer = None
        now = self._state.clock.time()
        if (endpoint := self._pick(now)) is None:
            self._blocked()
        else:
            self._try(endpoint, now)

    def take_turn(self) -> bool:
        """As of `waiting.Waits`."""
        state = self._state
        now = state.clock.time()
        endpoint = self._pick(now)
        if endpoint is None and state.chooser.free_in(now, self._barred) is not None:
            return False
        state.waiting.leave(self)
        if endpoint is None:
            self._blocked()
        else:
            self._try(endpoint, now)
        return True

    def waited_too_long(self) -> None:
        """No target came below its limits in time."""
        state = self._state
        soonest = state.chooser.free_in(state.clock.time(), self._barred)
        self._reject(soonest or state.config.queue_timeout)

    # What tries tell.

    def passed(self, attempt: Attempt, events: Sequence[Event]) -> None:
        """More of the answer that has begun to go out."""
        last = events[-1]
        if self._partial is not None:
            events = self._partial.pass_on(events)
        if type(last) is Completed:
            attempt.owner = attempt.call = None
            if (endpoint := attempt.endpoint) is not None:
                now = self._state.clock.time()
                endpoint.completed(now, attempt.began, attempt.first_at, last.usage, attempt.size)
            self._racing.clear()
            self._close()
        elif type(last) is Failed:
            self._broke(attempt, events, last.error)
            return
        self._deliver(events)

    def first(self, attempt: Attempt, events: Sequence[Event]) -> None:
        """The first output of a try, which wins by it; or its failure before any."""
        last = events[-1]
        if type(last) is Failed:
            # What came with it has not gone out, and never will.
            self._failed(attempt, last.error)
            return
        if self._rest is not None:
            self._resume(attempt, events)
            return
        if type(last) is Completed and self.watch is None:
            self._whole(attempt, events, last)
            return
        self._win(attempt)
        self._out = True
        if self._state.continues and attempt.endpoint is not None:
            self._partial = self._state.partial(self._ask, type(events[0]) is Relayed)
        if self._partial is None and self.watch is None:
            attempt.plain = True
        routed = attempt.says(self._ask.id, self._made)
        self.passed(attempt, events if routed is None else (routed, *events))

    def _whole(self, attempt: Attempt, events: Sequence[Event], last: Completed) -> None:
        """The first output is all of the answer."""
        if self._hedges or self._hedge is not None or attempt.probe:
            self._win(attempt)
        self._out = True
        attempt.owner = attempt.call = None
        if (endpoint := attempt.endpoint) is not None:
            now = self._state.clock.time()
            endpoint.completed(now, attempt.began, now, last.usage, attempt.size)
        self._racing.clear()
        if self._alarm is None and not self._state.waiting.inside:
            self.ended = True
            self._state.calls -= 1
        else:
            self._close()
        routed = attempt.says(self._ask.id, self._made)
        self.sink.on_events(events if routed is None else (routed, *events))

    # Steps.

    def _fresh(self, now: float) -> Endpoint | None:
        """One whom nobody has asked yet."""
        return self._state.chooser.choose(self._ask, now, (*self._made, *self._barred))

    def _pick(self, now: float) -> Endpoint | None:
        endpoint = self._fresh(now)
        again = endpoint is None and self._made
        return self._state.chooser.choose(self._ask, now, self._barred) if again else endpoint

    def _begin_late(self) -> None:
        self._timer = None
        if self._state.waiting.inside:
            self._blocked()
        else:
            self.go_on()

    def _try(self, endpoint: Endpoint, now: float, hedge: bool = False) -> None:
        """Ask `endpoint`."""
        ask, raw = self._ask, self._ask.raw
        backend = endpoint.backend
        model = endpoint.model or endpoint.find_model()
        relayed = raw is not None and self._rest is None and backend.relays(raw.operation)
        request: Request | None = None
        if not relayed:
            try:
                request = self._rest or ask.request()
            except TrunklineError as error:
                self._untranslatable(endpoint, error)
                return
        state = self._state
        made = self._made
        if endpoint in made:
            state.counters.retries += 1
        elif made and not hedge:
            state.counters.fallbacks += 1
        attempt = Attempt(self, endpoint, now, now, len(made), hedge)
        made.append(endpoint)
        self._racing.append(attempt)
        if endpoint.target.tpm:
            attempt.size = ask.prompt_size()
        if endpoint.begin(now, attempt.size):
            attempt.probe = True
        if request is not None:
            if model and request.model != model:
                request = replace(request, model=model)
            attempt.call = backend.submit(request, attempt)
        else:
            assert raw is not None
            if model and raw.model != model:
                raw = replace(raw, model=model)
            attempt.call = backend.relay(raw, attempt)
        hedging = state.config.hedge
        if hedging is not None and self._hedges < hedging.most and self._rest is None:
            self._cancel_hedge()
            self._hedge = state.clock.call_later(hedging.after, self._ask_another)

    def _untranslatable(self, endpoint: Endpoint, error: TrunklineError) -> None:
        """This target does not speak the request's dialect, and what is asked has no other form."""
        self._barred.append(endpoint)
        if not self._racing:
            self._error = error.info()
            step = self._elsewhere if verdict(error.kind).elsewhere else self._end_with_error
            self._timer = self._state.clock.call_later(0.0, step)

    def _elsewhere(self, cause: Cause = "error") -> None:
        """Ask one whom nobody has asked yet, else another route.

        Each order is asked once, however few tries there are.
        """
        self._timer = None
        now = self._state.clock.time()
        if self._has_tries():
            endpoint = self._fresh(now)
        else:
            endpoint = self._state.chooser.next_order(self._ask, now, self._made, self._barred)
        if endpoint is None:
            self._fall_back(cause)
        else:
            self._try(endpoint, now)

    def _ask_another(self) -> None:
        """The first output is late: a second target."""
        self._hedge = None
        if not self._racing:
            return
        now = self._state.clock.time()
        if (endpoint := self._fresh(now)) is not None:
            self._hedges += 1
            self._state.counters.hedges += 1
            self._try(endpoint, now, hedge=True)

    def _failed(self, attempt: Attempt, error: ErrorInfo) -> None:
        """A try failed before any output of it went out."""
        self._settle_failed(attempt, error)
        self._racing.remove(attempt)
        if self._rest is not None:
            self._continue()
            return
        endpoint = attempt.endpoint
        if endpoint is None:
            self._next_peer()
            return
        self._error = error
        judged = verdict(error.kind)
        if not judged.again:
            self._barred.append(endpoint)
        if judged.cause is None:
            self._end_with_error()
        elif not self._racing:
            self._cancel_hedge()
            if judged.elsewhere and self._has_tries():
                self._again(error, judged.cause)
            elif judged.elsewhere:
                self._elsewhere(judged.cause)
            else:
                self._fall_back(judged.cause)

    def _again(self, error: ErrorInfo, cause: Cause) -> None:
        """Another target at once, or the same ones after a while."""
        state = self._state
        now = state.clock.time()
        if (endpoint := self._fresh(now)) is not None:
            self._try(endpoint, now)
            return
        pause = state.pause(self._made, self._barred, error.retry_after, now)
        if pause is None or (cause == "rate_limit" and state.config.fallbacks.rate_limit):
            self._fall_back(cause)
        else:
            self._timer = state.clock.call_later(pause, self.go_on)

    def _has_tries(self) -> bool:
        return len(self._made) - self._hedges <= self._state.config.retries.attempts

    def _blocked(self) -> None:
        """No target may be asked now: wait, or go elsewhere."""
        state = self._state
        now = state.clock.time()
        wait = state.chooser.free_in(now, self._barred)
        if wait is None:
            if self._error is None:
                self._error = state.all_failed(now)
            self._fall_back("error")
        elif state.config.fallbacks.rate_limit and self._fallbacks is None:
            self._error = self._error or state.full(wait)
            self._fall_back("rate_limit")
        elif (told := state.chooser.told(now, self._barred)) is not None:
            self._reject(wait, told)
        elif wait > state.config.queue_timeout or not state.waiting.enter(self):
            self._reject(wait)

    def _reject(self, wait: float, told: ErrorInfo | None = None) -> None:
        self._state.counters.rejected += 1
        self._error = self._error or told or self._state.full(wait)
        self._fall_back("rate_limit")

    def _fall_back(self, cause: Cause) -> None:
        if self._fallbacks is None:
            self._fallbacks = iter(fallback_names(self._state.config.fallbacks, cause))
        self._next_peer()

    def _next_peer(self) -> None:
        """Ask the next route that nobody has asked; without one the call has failed."""
        state = self._state
        assert self._fallbacks is not None
        for name in self._fallbacks:
            peer = state.peers.get(name)
            if peer is None or peer.name in self._visited:
                continue
            self._visited.append(peer.name)
            state.counters.fallbacks += 1
            attempt = Attempt(self, None, 0.0, 0.0, len(self._made) + self._peers)
            self._peers += 1
            self._racing = [attempt]
            ask = Ask(self._rest) if self._rest is not None else self._ask
            attempt.call = peer.begin(ask, attempt, self._visited)
            return
        self._end_with_error()

    def _broke(self, attempt: Attempt, events: Sequence[Event], error: ErrorInfo) -> None:
        """The answer broke off after some of it had gone out."""
        self._settle_failed(attempt, error)
        self._racing.clear()
        if self._partial is None or error.kind not in BREAKS:
            self._close()
            self._deliver(events)
            return
        self._error = error
        if len(events) > 1:
            self._deliver(events[:-1])
        if not self.ended:
            self._continue()

    def _continue(self) -> None:
        """Ask another target for the rest of the answer, else another route."""
        partial = self._partial
        assert partial is not None
        self._rest = partial.rest()
        if self._rest is None:
            if partial.used_up():
                self._close()
                self._deliver(partial.end())
            else:
                self._end_with_error()
            return
        if self._has_tries():
            self._elsewhere()
        else:
            self._fall_back("error")

    def _resume(self, attempt: Attempt, events: Sequence[Event]) -> None:
        """The rest of the answer begins."""
        if attempt.routed is not None and CONTINUING in attempt.routed.dropped:
            # It would begin anew.
            self._give_up(attempt)
            self._racing.clear()
            self._continue()
            return
        self._win(attempt)
        assert self._partial is not None
        self._state.counters.continued += 1
        if before := self._partial.resume():
            self._deliver(before)
        if not self.ended:
            self.passed(attempt, events)

    def _time_is_up(self) -> None:
        """The whole call has taken too long."""
        self._alarm = None
        error = self._state.too_late()
        for attempt in self._racing:
            if not attempt.won:
                call = attempt.call
                self._settle_failed(attempt, error)
                if call is not None:
                    call.cancel()
        self._racing = [attempt for attempt in self._racing if attempt.won]
        self._error = error
        self._end_with_error()

    # Ends.

    def _end_with_error(self) -> None:
        self._close()
        assert self._error is not None
        failed = Failed(self._ask.id, self._error)
        if self._out or not self._made:
            self._deliver((failed,))
        else:
            last = Attempt(None, self._made[-1], 0.0, 0.0, len(self._made) - 1)
            routed = last.says(self._ask.id, self._made, self._peers)
            self._deliver((failed,) if routed is None else (routed, failed))

    def _deliver(self, events: Sequence[Event]) -> None:
        self.sink.on_events(events)
        if self.watch is not None:
            self.watch.on_events(events)

    def _close(self) -> None:
        """Nothing happens any more: no timer, no place in the queue, no try under way."""
        self.ended = True
        self._state.calls -= 1
        if self._timer is not None:
            self._timer.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._hedge is not None:
            self._hedge.cancel()
        if (waiting := self._state.waiting).inside:
            waiting.leave(self)
            self._freed()
        if self._racing:
            for attempt in self._racing:
                self._give_up(attempt)
            self._racing.clear()

    def _win(self, attempt: Attempt) -> None:
        attempt.won = True
        if self._hedges:
            for rival in self._racing:
                if rival is not attempt:
                    self._give_up(rival)
            self._racing = [attempt]
            self._state.counters.hedges_won += attempt.hedge
        self._cancel_hedge()
        if (endpoint := attempt.endpoint) is not None:
            attempt.first_at = self._state.clock.time()
            if attempt.probe:
                attempt.probe = False
                endpoint.breaker.answered()

    def _cancel_hedge(self) -> None:
        if self._hedge is not None:
            self._hedge.cancel()
            self._hedge = None

    def _settle_failed(self, attempt: Attempt, error: ErrorInfo) -> None:
        attempt.settle()
        if attempt.endpoint is not None:
            attempt.endpoint.failed(self._state.clock.time(), error, attempt.probe)
            self._freed()

    def _give_up(self, attempt: Attempt) -> None:
        call = attempt.settle()
        if attempt.endpoint is not None:
            attempt.endpoint.given_up(attempt.probe)
            self._freed()
        if call is not None:
            call.cancel()

    def _freed(self) -> None:
        if self._state.waiting.inside:
            self._state.waiting.look_soon()
