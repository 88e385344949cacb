"""A route as a backend, all routes together, and what is told of them."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from random import Random

import msgspec
import pytest
from msgspec.structs import replace

from tests.gateway.fakes import FakeBackend, Setup, Sink, config, raw, request
from trunkline.core.errors import ContextOverflow, InvalidRequest, Unsupported, UpstreamFailed
from trunkline.core.metrics import Registry
from trunkline.core.types import BackendStats, Health, ModelCard, Routed, Usage
from trunkline.gateway.config import Fallbacks, Hedge, Retries, Shadow, Target
from trunkline.gateway.gateway import Gateway
from trunkline.gateway.keys import Keys
from trunkline.gateway.routes import Routes


def card(name: str, context: int = 4096, **fields: object) -> ModelCard:
    return ModelCard(name, context_length=context, **fields)  # type: ignore[arg-type]


def test_it_relays_what_a_target_or_a_fallback_relays() -> None:
    setup = Setup(
        config("a", fallbacks=Fallbacks(error=("o",))),
        config("b", name="o", fallbacks=Fallbacks(error=("m",))),
        config("a", name="alone"),
        relays="b",
    )
    assert [route.relays("test.chat") for route in setup.routes.routes] == [True, True, False]


def test_one_card_with_what_all_have_in_common() -> None:
    setup = Setup(config("a/x", "b/y", aliases=("also",)))
    setup["a"].cards = (
        card("w"),
        card("x", 4096, architecture="llama", parameters=7, capabilities=("chat", "tools")),
    )
    setup["b"].cards = (card("y", 2048, architecture="llama", capabilities=("chat",)),)
    (shown,) = setup.route.models()
    assert shown.name == "m"
    assert shown.aliases == ("also",)
    assert shown.context_length == 2048
    assert shown.architecture == "llama"
    assert shown.parameters == 0
    assert shown.capabilities == ("chat",)


def test_what_is_known_of_models_is_asked_again_after_a_while() -> None:
    setup = Setup(config("a"))
    setup["a"].cards = ()
    assert setup.route.models() == (ModelCard("m", context_length=0),)
    setup["a"].cards = (card("m", 99),)
    assert setup.route.models()[0].context_length == 0
    setup.clock.advance(1.1)
    assert setup.route.models()[0].context_length == 99


def test_a_target_without_a_model_has_the_only_one() -> None:
    setup = Setup(config(Target(backend="a")))
    setup["a"].cards = ()
    setup.submit()
    assert setup["a"].last.request().model == "m"
    setup["a"].cards = (card("llama"),)
    setup.submit()
    assert setup["a"].last.request().model == "llama"


async def test_questions_go_to_the_first_that_is_well_and_can() -> None:
    setup = Setup(config("a/one", "b/three", "c/5"))
    assert await setup.route.count_tokens(request()) == 3
    setup["a"].state = Health("failed")
    told = await setup.route.tokenize(request())
    assert told.text == "b:three"
    assert told.routed == Routed("", "b", "three")
    setup["b"].error = Unsupported("cannot")
    told = await setup.route.detokenize((1, 2))
    assert told.text == "c"
    assert told.routed == Routed("", "c", "5", fallbacks=1)
    setup["c"].error = UpstreamFailed("down")
    setup["a"].error = InvalidRequest("nonsense")
    with pytest.raises(InvalidRequest):
        await setup.route.tokenize(request())
    setup["a"].error = Unsupported("cannot either")
    with pytest.raises(Unsupported):
        await setup.route.tokenize(request())


def test_it_is_ready_while_a_target_is() -> None:
    setup = Setup(config("a", "b"))
    setup["a"].state = Health("restarting", "died twice")
    assert setup.route.health().state == "ready"
    setup["b"].state = Health("failed", "no route to host")
    health = setup.route.health()
    assert health.state == "restarting"
    assert "died twice" in health.detail
    assert "no route to host" in health.detail


def test_it_is_not_ready_when_all_failed_lately() -> None:
    setup = Setup(config("a"))
    for _ in range(5):
        _, cancel = setup.submit()
        setup["a"].last.fail(UpstreamFailed("down"))
        cancel()
    assert setup.route.health().state == "failed"
    assert "failed lately" in setup.route.health().detail


def test_stats_count_each_backend_once() -> None:
    setup = Setup(config("a/x", "a/y", "b"))
    setup["a"].figures = BackendStats(running=2, waiting=1, kv_total=100)
    setup["b"].figures = BackendStats(running=3, step_seconds=1.5)
    assert setup.route.stats() == BackendStats(running=5, waiting=1, kv_total=100, step_seconds=1.5)


def test_routes_are_models_of_the_gateway() -> None:
    setup = Setup(config("a", aliases=("also",)), config("b", name="o"))
    gateway = Gateway(setup.routes.served(), Keys(()))
    assert gateway.resolve("also").backend is setup.route
    assert gateway.resolve("").card().context_length == 4096
    assert gateway.ready()


@pytest.mark.parametrize(
    ("configs", "text"),
    [
        ([config("a"), config("a", name="x", aliases=("m",))], "two routes are called 'm'"),
        ([config("nowhere")], "'nowhere'.*there are: a"),
        ([config("a", fallbacks=Fallbacks(context_window=("gone",)))], "'gone'"),
        ([config("a", shadow=Shadow(route="gone"))], "'gone'"),
    ],
    ids=["twice", "backend", "fallback", "shadow"],
)
def test_names_that_do_not_fit_are_refused(configs: list[object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Routes(configs, {"a": FakeBackend()}, Setup(config("a")).clock)  # type: ignore[arg-type]


def test_an_alias_is_a_fallback_too_and_the_same_route() -> None:
    setup = Setup(
        config("a", aliases=("self",), fallbacks=Fallbacks(context_window=("self", "o"))),
        config("b", name="other", aliases=("o",)),
    )
    setup.submit()
    setup["a"].last.fail(ContextOverflow("long"))
    assert len(setup["a"].calls) == 1
    assert len(setup["b"].calls) == 1


def answered(setup: Setup, name: str, usage: Usage) -> None:
    call = setup[name].last
    setup.clock.advance(0.5)
    call.text("x")
    setup.clock.advance(1.5)
    call.finish(usage)


def test_the_report_tells_how_each_target_does() -> None:
    setup = Setup(
        config(Target(backend="a", model="m", arm="old"), Target(backend="b", arm="new", order=1))
    )
    setup["b"].state = Health("starting", "loading", 2.5)
    setup["b"].figures = BackendStats(running=1, waiting=4)
    setup.submit()
    answered(setup, "a", Usage(100, 16))
    setup.submit()
    setup["a"].last.fail(UpstreamFailed("down"))
    one, other = setup.routes.report()[0].targets
    assert (one.name, one.backend, one.state, one.breaker) == ("a/m", "a", "ready", "closed")
    assert (one.requests, one.successes, one.failures) == (2, 1, {"upstream_failed": 1})
    assert (one.prompt_tokens, one.completion_tokens, one.tokens_lately) == (100, 16, 116)
    assert (one.ttft, one.per_token, one.duration) == (0.5, 0.1, 2.0)
    assert (other.state, other.detail, other.in_flight) == ("starting", "loading", 1)
    assert (other.running, other.waiting, other.drain) == (1, 4, 7.5)
    assert (one.load_seconds, other.load_seconds) == (0, 2.5)
    old, new = setup.routes.report()[0].arms
    assert (old.arm, old.requests, old.failures, old.mean_duration) == ("old", 2, 1, 2.0)
    assert (new.arm, new.requests, new.successes) == ("new", 1, 0)
    counters = setup.routes.report()[0].counters
    assert (counters.retries, counters.fallbacks) == (0, 1)
    assert msgspec.json.decode(msgspec.json.encode(setup.routes.report()))


def test_metrics_have_labels_of_the_configuration_only() -> None:
    setup = Setup(config("a", "b", shadow=Shadow(route="o")), config("c", name="o"))
    registry = Registry()
    registry.source(setup.routes.families)
    for number in range(20):
        setup.submit(tenant=f"tenant-{number}", affinity=f"user-{number}")
    text = registry.render()
    assert "tenant-" not in text
    assert "user-" not in text
    shown = {
        line for line in text.splitlines() if line.startswith("trunkline_target_requests_total")
    }
    assert len(shown) == 3
    assert 'trunkline_target_breaker_state{route="m",target="a/m",backend="a",arm=""} 0' in text
    assert 'trunkline_route_shadow_total{route="m",shadow="o",result="sent"} 16' in text


def test_the_next_configuration_goes_on_with_what_did_not_change() -> None:
    same = config("a", "b", strategy="round_robin", shadow=Shadow(route="other"))
    other = config("c", name="other", retries=Retries(attempts=1))
    setup = Setup(same, other)
    setup.submit()
    setup["a"].last.fail(UpstreamFailed("down"))
    assert setup.route.state.counters.fallbacks == 1
    sink, _ = setup.submit()
    changed = replace(other, retries=Retries(attempts=5))
    routes = Routes([same, changed], setup.backends, setup.clock, before=setup.routes)
    after, rest = routes.routes
    assert after.endpoints == setup.route.endpoints
    # Its turn goes on, too.
    assert after.state.chooser is setup.route.state.chooser
    assert rest.endpoints == setup.routes.routes[1].endpoints
    assert rest.state.chooser is not setup.routes.routes[1].state.chooser
    # What is under way still counts.
    setup["b"].last.fail(UpstreamFailed("down"))
    setup["a"].last.text("hi")
    setup["a"].last.finish()
    assert sink.text == "hi"
    assert after.state.counters.fallbacks == 2
    assert after.shadows is not None
    assert after.shadows.counters.sent == 2


def test_limits_go_on_whatever_else_changes() -> None:
    bounded = Target(backend="a", model="m", max_parallel=1, rpm=2)
    setup = Setup(config(bounded))
    setup.submit()
    heavier = replace(bounded, weight=3.0)
    after = Routes(
        [config(heavier, retries=Retries(attempts=7))],
        setup.backends,
        setup.clock,
        before=setup.routes,
    )
    (endpoint,) = after.routes[0].endpoints
    assert endpoint.target == heavier
    assert not endpoint.usable(setup.clock.time())
    setup["a"].last.text("hi")
    setup["a"].last.finish()
    assert endpoint.usable(setup.clock.time())
    # What was sent this minute counts, also where the backend is another one of that name.
    for backend, left in ((setup["a"], 1), (FakeBackend("a"), 0)):
        after = Routes([config(bounded)], {"a": backend}, setup.clock, before=after)
        (endpoint,) = after.routes[0].endpoints
        endpoint.begin(setup.clock.time(), 0)
        assert endpoint.requests_lately.sum(setup.clock.time()) == 3 - left
        assert not endpoint.usable(setup.clock.time())


def test_backends_that_are_no_more_are_forgotten() -> None:
    """Also by routes for names that nobody asks for again."""
    setup = Setup(config("a", "b"))
    made = setup.routes.further(config("a", "b", name="made up"))
    gone = weakref.ref(setup.backends["a"])
    kept = made.endpoints[1]
    backends = {"a": FakeBackend("a"), "b": setup.backends["b"]}
    routes = Routes([config("a", "b")], backends, setup.clock, before=setup.routes)
    del setup.backends["a"], made, setup
    gc.collect()
    assert gone() is None
    again = routes.further(config("a", "b", name="made up"))
    assert again.endpoints[1] is kept
    assert again.endpoints[0].backend is backends["a"]


async def test_questions_and_dropped_routes_count_as_under_way() -> None:
    setup = Setup(config("a"))
    made = setup.routes.further(config("a", name="made up"))
    made.submit(request(), Sink())
    setup.routes.drop("made up")
    del made
    gc.collect()
    assert [route.name for route in setup.routes.busy()] == ["made up"]
    setup["a"].last.text("hi")
    setup["a"].last.finish()
    assert setup.routes.busy() == []
    asked = asyncio.Event()

    async def slowly(_: object) -> int:
        asked.set()
        await asyncio.sleep(3600)
        return 1

    setup["a"].count_tokens = slowly  # type: ignore[assignment]
    question = asyncio.create_task(setup.route.count_tokens(request()))
    await asked.wait()
    assert setup.routes.busy() == [setup.route]
    question.cancel()
    await asyncio.gather(question, return_exceptions=True)
    assert setup.routes.busy() == []


def test_what_does_not_fit_changes_nothing() -> None:
    setup = Setup(config("a"), config("b", name="o"))
    heavier = config(Target(backend="a", model="m", weight=3.0))
    for wrong in (config("b"), config("nobody", name="o")):
        with pytest.raises(ValueError, match=r"two routes|not configured"):
            Routes([heavier, wrong], setup.backends, setup.clock, before=setup.routes)
        assert setup.route.endpoints[0].target.weight == 1.0


def test_who_keeps_the_earlier_response_alone_is_asked() -> None:
    setup = Setup(
        config("a", "b/one", "b/other", fallbacks=Fallbacks(error=("o",)), hedge=Hedge(after=0.1)),
        config("c", name="o"),
        relays="abc",
    )

    def relay(kept_by: str) -> Sink:
        sink = Sink()
        setup.route.relay(replace(raw(), kept_by=kept_by), sink)
        return sink

    for _ in range(8):
        relay("b")
    assert {call.asked.model for call in setup["b"].calls} == {"one", "other"}
    sink = relay("b")
    # Somebody else would not know what it is about.
    for _ in range(10):
        setup["b"].last.fail(UpstreamFailed("down"))
        setup.clock.advance(10.0)
        if sink.events:
            break
    assert sink.error == "upstream_failed"
    assert not setup["a"].calls
    assert not setup["c"].calls
    counters = setup.route.state.counters
    assert (counters.retries, counters.fallbacks) == (1, 1)
    # Where the route does not have it, any says so.
    relay("nobody")
    assert len(setup.open_calls()) == 9


async def test_it_runs_on_a_real_loop() -> None:
    backends = {"a": FakeBackend("a"), "b": FakeBackend("b", relays=True)}
    targets = (Target(backend="a", model="m"), Target(backend="b", model="m", order=1))
    loop = asyncio.get_running_loop()
    routes = Routes([config(*targets, timeout=5.0)], backends, loop, rng=Random(1))
    sink = Sink()
    routes.routes[0].relay(raw(), sink)
    backends["a"].last.fail(UpstreamFailed("down"))
    backends["b"].last.text("hi")
    backends["b"].last.finish()
    assert sink.text == "hi"
    second = Sink()
    routes.routes[0].relay(raw(bad=True), second)
    await asyncio.sleep(0.01)
    assert second.error == "invalid_request"
    routes.close()


class Sleeper(FakeBackend):
    """Implements `OnDemand`, too."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.told: list[object] = []

    async def load(self) -> None:
        self.told.append("load")

    def keep(self, seconds: float) -> None:
        self.told.append(seconds)

    def unload(self) -> None:
        self.told.append("unload")

    def leaves_in(self) -> float:
        return float(len(self.told))


async def test_what_is_on_demand_is_loaded_and_unloaded_through_its_route() -> None:
    one, other = Sleeper("one"), Sleeper("other")
    setup = Setup(config("always", "one", "other"))
    backends = {"always": FakeBackend("always"), "one": one, "other": other}
    routes = Routes([setup.route.config], backends, setup.clock)
    route = routes.routes[0]
    await route.load()
    route.keep(3.0)
    route.unload()
    # One suffices to answer; all of them go.
    assert one.told == ["load", 3.0, "unload"]
    assert other.told == [3.0, "unload"]
    # A target that is always loaded stays.
    assert route.leaves_in() == math.inf
    del backends["always"]
    routes = Routes([Setup(config("one", "other")).route.config], backends, setup.clock)
    assert routes.routes[0].leaves_in() == 3


def test_what_calls_may_come_to() -> None:
    setup = Setup(
        config("a", fallbacks=Fallbacks(rate_limit=("n",))),
        config("b", name="n", fallbacks=Fallbacks(error=("m", "o"))),
        config("c", name="o"),
        config("d", name="p"),
    )
    reached = [name for name in "abcd" if setup.route.reaches(setup[name])]
    assert reached == ["a", "b", "c"]
