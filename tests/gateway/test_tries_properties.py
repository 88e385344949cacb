"""Random faults, cancels and times against the invariants in `gateway.tries`."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.gateway.fakes import FakeCall, FakeSpeaker, Setup, Sink, config, raw, request
from trunkline.core.errors import (
    ContextOverflow,
    EngineCrashed,
    InvalidRequest,
    RateLimited,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from trunkline.core.types import Completed, Failed, Health, Routed
from trunkline.gateway.config import Breaker, Fallbacks, Hedge, Retries, Shadow, Target
from trunkline.gateway.strategies import STRATEGIES

ERRORS = (
    UpstreamFailed("down"),
    UpstreamTimeout("slow"),
    UpstreamRefused("key"),
    RateLimited("later", retry_after=2),
    RateLimited("later"),
    EngineCrashed("crash"),
    ContextOverflow("long"),
    InvalidRequest("bad"),
)


class Client(Sink):
    """Checks the order of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled = False
        self.cancel: Callable[[], None] = self.stop

    def stop(self) -> None:
        self.cancelled = True

    def on_events(self, events: object) -> None:
        assert not self.cancelled, "an event after cancel"
        super().on_events(events)  # type: ignore[arg-type]
        ends = [one for one in self.events if isinstance(one, Completed | Failed)]
        assert len(ends) <= 1
        assert not any(isinstance(one, Routed) for one in self.events[1:])
        if not isinstance(self.events[0], Routed):
            assert isinstance(self.events[0], Failed)


class Calls(RuleBasedStateMachine):
    @initialize(
        strategy=st.sampled_from(sorted(STRATEGIES)),
        hedge=st.booleans(),
        shadow=st.booleans(),
        timeout=st.sampled_from([0.0, 5.0]),
        parallel=st.sampled_from([0, 1, 3]),
        relays=st.sets(st.sampled_from(["a", "b", "c", "d"])),
        queue=st.sampled_from([0, 2]),
    )
    def begin(
        self,
        strategy: str,
        hedge: bool,
        shadow: bool,
        timeout: float,
        parallel: int,
        relays: set[str],
        queue: int,
    ) -> None:
        self.attempts = 2
        retries = Retries(attempts=self.attempts, base=0.2)
        self.setup = Setup(
            config(
                Target(backend="a", model="m", max_parallel=parallel, rpm=20),
                Target(backend="b", model="m", max_parallel=parallel, arm="other"),
                Target(backend="c", model="m", max_parallel=parallel, order=1),
                strategy=strategy,
                hedge=Hedge(after=1.0, most=2) if hedge else None,
                shadow=Shadow(route="o", most=3) if shadow else None,
                timeout=timeout,
                retries=retries,
                breaker=Breaker(failures=3, cooldown=2.0),
                fallbacks=Fallbacks(error=("o",), context_window=("o",)),
                queue=queue,
                queue_timeout=4.0,
            ),
            config("d", name="o", retries=retries, fallbacks=Fallbacks(error=("m",))),
            relays=tuple(relays),
            speakers={"test.chat": FakeSpeaker()},
        )
        self.clients: list[Client] = []

    @rule(relayed=st.booleans(), bad=st.booleans(), holder=st.sampled_from(["", "x", "y"]))
    def ask(self, relayed: bool, bad: bool, holder: str) -> None:
        client = Client()
        self.clients.append(client)
        number = f"r{len(self.clients)}"
        if relayed:
            asked = raw(number, bad=bad, affinity=holder)
            call = self.setup.route.relay(asked, client)
        else:
            call = self.setup.route.submit(request(number, affinity=holder), client)
        assert client.events == []

        def cancel() -> None:
            call.cancel()
            client.cancelled = True

        client.cancel = cancel

    def open_call(self, data: st.DataObject) -> FakeCall:
        return data.draw(st.sampled_from(self.setup.open_calls()))

    def some_open(self) -> bool:
        return bool(self.setup.open_calls())

    @precondition(some_open)
    @rule(data=st.data())
    def output(self, data: st.DataObject) -> None:
        self.open_call(data).text("word \n")

    @precondition(some_open)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.open_call(data).finish()

    @precondition(some_open)
    @rule(data=st.data(), error=st.sampled_from(ERRORS))
    def fail(self, data: st.DataObject, error: UpstreamFailed) -> None:
        self.open_call(data).fail(error)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.clients:
            client = data.draw(st.sampled_from(self.clients))
            if not client.ended:
                client.cancel()

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 3.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.setup.clock.advance(seconds)

    @rule(name=st.sampled_from("abcd"), state=st.sampled_from(["ready", "failed"]))
    def health(self, name: str, state: str) -> None:
        self.setup[name].state = Health(state)  # type: ignore[arg-type]

    @invariant()
    def every_try_is_settled_once(self) -> None:
        if hasattr(self, "setup"):
            assert self.setup.in_flight() == len(self.setup.open_calls())
            for route in self.setup.routes.routes:
                for one in route.endpoints:
                    assert one.in_flight >= 0
                    assert not one.target.max_parallel or one.in_flight <= one.target.max_parallel
                    settled = one.successes + one.cancelled + sum(one.failures.values())
                    assert settled + one.in_flight == one.requests

    @invariant()
    def tries_are_bounded(self) -> None:
        if hasattr(self, "setup"):
            counts: dict[str, int] = {}
            for backend in self.setup.backends.values():
                for call in backend.calls:
                    counts[call.asked.id] = counts.get(call.asked.id, 0) + 1
            # Two routes, two hedges, and a copy's tries on both.
            bound = 2 * (2 * (1 + self.attempts) + 2)
            assert all(count <= bound for count in counts.values())

    def teardown(self) -> None:
        if not hasattr(self, "setup"):
            return
        for _ in range(100):
            for call in self.setup.open_calls():
                if not call.cancelled:
                    call.fail(ERRORS[0])
            self.setup.clock.advance(5.0)
            if self.setup.clock.pending() == 0 and not self.setup.open_calls():
                break
        assert all(client.ended != client.cancelled for client in self.clients)
        assert self.setup.in_flight() == 0
        assert self.setup.clock.pending() == 0
        assert not self.setup.routes.busy()


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=35, stateful_step_count=30, deadline=None)
