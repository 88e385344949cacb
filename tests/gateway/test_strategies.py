from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from tests.gateway.fakes import FakeBackend, chat, request
from trunkline.core.types import BackendStats, Health, TextInput, Usage
from trunkline.gateway.ask import Ask
from trunkline.gateway.choose import Chooser
from trunkline.gateway.config import RouteConfig, Target
from trunkline.gateway.endpoint import Endpoint
from trunkline.gateway.strategies import ALIASES, STRATEGIES

NOW = 1000.0


class World:
    """Endpoints and who chooses among them."""

    def __init__(self, strategy: str, *targets: Target, seed: int = 3, **fields: object) -> None:
        config = RouteConfig(
            name="m",
            targets=targets,
            strategy=strategy,  # type: ignore[arg-type]
            **fields,  # type: ignore[arg-type]
        )
        self.backends = [FakeBackend(target.backend) for target in targets]
        self.endpoints = [
            Endpoint(config, target, backend, target.backend)
            for target, backend in zip(targets, self.backends, strict=True)
        ]
        self.chooser = Chooser(config, self.endpoints, Random(seed))
        self.now = NOW

    def choose(self, ask: Ask | None = None) -> str:
        chosen = self.chooser.choose(ask or Ask(request()), self.now)
        return "" if chosen is None else chosen.name

    def counts(self, times: int = 4000) -> Counter[str]:
        return Counter(self.choose() for _ in range(times))

    def answer(
        self, index: int, seconds: float, ttft: float = 0.0, usage: Usage | None = None
    ) -> None:
        """A whole answer."""
        endpoint = self.endpoints[index]
        endpoint.begin(self.now, 0)
        end = self.now + seconds
        endpoint.completed(end, self.now, self.now + ttft, usage or Usage(10, 10), 0)


def targets(*names: str, **fields: object) -> list[Target]:
    return [Target(backend=name, model="m", **fields) for name in names]  # type: ignore[arg-type]


def weighted(**weights: float) -> list[Target]:
    return [Target(backend=name, model="m", weight=one) for name, one in weights.items()]


def test_weighted_gives_each_its_share() -> None:
    counts = World("weighted", *weighted(a=1, b=2, c=7, d=0)).counts()
    assert counts["a"] / 4000 == pytest.approx(0.1, abs=0.02)
    assert counts["b"] / 4000 == pytest.approx(0.2, abs=0.02)
    assert counts["d"] == 0


def test_without_weights_all_are_equal() -> None:
    counts = World("weighted", *weighted(a=0, b=0)).counts()
    assert counts["a"] / 4000 == pytest.approx(0.5, abs=0.03)


def test_a_weight_of_nothing_is_a_spare() -> None:
    world = World("weighted", *weighted(a=1, b=0))
    world.backends[0].state = Health("failed")
    assert world.choose() == "b"


def test_round_robin_takes_turns_by_weight() -> None:
    world = World("round_robin", *weighted(a=2, b=1, c=1))
    turns = "".join(world.choose() for _ in range(8))
    assert turns == "abcaabca"


def test_least_busy_goes_by_what_is_in_flight() -> None:
    world = World("least_busy", *targets("a", "b", "c"))
    for index in (0, 0, 1, 2, 2):
        world.endpoints[index].begin(NOW, 0)
    assert world.counts(50) == {"b": 50}


def test_lowest_latency_prefers_the_fastest_and_those_nearly_as_fast() -> None:
    world = World("lowest_latency", *targets("a", "b", "c"))
    for index, seconds in enumerate((1.0, 1.05, 3.0)):
        for _ in range(20):
            world.answer(index, seconds, ttft=seconds / 2)
    world.now += 4
    counts = world.counts(1000)
    assert counts["c"] == 0
    assert min(counts["a"], counts["b"]) > 300


def test_lowest_latency_looks_at_those_it_knows_nothing_of() -> None:
    world = World("lowest_latency", *targets("a", "b"))
    world.answer(0, 0.1)
    assert world.choose() == "b"
    world.endpoints[1].begin(NOW, 0)
    assert world.choose() == "a"


def test_lowest_latency_tries_a_slow_one_again_after_a_while() -> None:
    world = World("lowest_latency", *targets("a", "b"))
    world.answer(0, 0.1)
    world.answer(1, 9.0)
    world.now += 20
    world.answer(0, 0.1)
    assert world.choose() == "a"
    world.now += 25
    world.answer(0, 0.1)
    assert world.choose() == "b"


def test_lowest_cost() -> None:
    cheap = Target(backend="a", model="m", input_cost=1, output_cost=2)
    dear = Target(backend="b", model="m", input_cost=1, output_cost=3)
    world = World("lowest_cost", dear, cheap)
    assert world.counts(50) == {"a": 50}


def test_lowest_usage_goes_by_the_share_of_the_limits() -> None:
    world = World(
        "lowest_usage",
        Target(backend="a", model="m", tpm=1000),
        Target(backend="b", model="m", tpm=100_000),
    )
    world.answer(0, 1.0, usage=Usage(100, 100))
    world.answer(1, 1.0, usage=Usage(5000, 1000))
    assert world.choose() == "b"
    world.answer(1, 1.0, usage=Usage(20_000, 0))
    assert world.choose() == "a"
    world.now += 70
    assert world.counts(100).keys() == {"a", "b"}


def test_power_of_two_goes_where_the_work_is_done_sooner() -> None:
    world = World("power_of_two", *targets("slow", "fast"))
    world.answer(0, 10.0)
    world.answer(1, 1.0)
    # Two on the slow one take 20 seconds, eight on the fast one 8.
    for index, count in ((0, 2), (1, 8)):
        for _ in range(count):
            world.endpoints[index].begin(NOW, 0)
    assert world.counts(50) == {"fast": 50}


def test_power_of_two_sees_the_load_that_others_make() -> None:
    world = World("power_of_two", *targets("a", "b"))
    world.backends[0].figures = BackendStats(running=4, waiting=30)
    assert world.counts(50) == {"b": 50}


def test_power_of_two_believes_a_measured_throughput() -> None:
    world = World("power_of_two", *targets("a", "b"))
    for index in (0, 1):
        world.answer(index, 1.0, usage=Usage(10, 100))
        world.endpoints[index].begin(NOW, 0)
    world.backends[0].figures = BackendStats(tokens_per_second=1000)
    world.backends[1].figures = BackendStats(tokens_per_second=50)
    assert world.endpoints[0].drain() == pytest.approx(0.1)
    assert world.endpoints[1].drain() == pytest.approx(2.0)
    assert world.counts(50) == {"a": 50}


def test_power_of_two_never_takes_the_busiest_and_spreads_the_rest() -> None:
    world = World("power_of_two", *targets("a", "b", "c"))
    for _ in range(5):
        world.endpoints[2].begin(NOW, 0)
    counts = world.counts(1000)
    assert counts["c"] == 0
    assert min(counts["a"], counts["b"]) > 300


def prompt(head: str, tail: str) -> Ask:
    return Ask(request(input=TextInput(head * 300 + tail * 50)))


def test_prefix_affinity_keeps_a_prefix_in_one_place() -> None:
    world = World("prefix_affinity", *targets("a", "b", "c", "d"))
    first = {head: world.choose(prompt(head, "0")) for head in ("system", "other", "third")}
    for turn in range(20):
        for head, place in first.items():
            assert world.choose(prompt(head, str(turn))) == place


def test_prefix_affinity_leaves_a_hot_spot() -> None:
    world = World("prefix_affinity", *targets("a", "b", "c"))
    place = world.choose(prompt("system", "0"))
    busy = next(one for one in world.endpoints if one.name == place)
    for _ in range(8):
        busy.begin(NOW, 0)
    assert world.choose(prompt("system", "1")) == place
    busy.begin(NOW, 0)
    other = world.choose(prompt("system", "2"))
    assert other != place
    busy.in_flight = 0
    assert world.choose(prompt("system", "3")) in (place, other)


def test_prefix_affinity_spreads_what_has_nothing_in_common() -> None:
    world = World("prefix_affinity", *targets("a", "b", "c"))
    counts = Counter(world.choose(prompt(f"{number} ", "x")) for number in range(300))
    assert min(counts[name] for name in "abc") > 60


def test_session_affinity_moves_only_whom_it_must() -> None:
    world = World("session_affinity", *targets("a", "b", "c"))
    asks = [Ask(request(affinity=f"session-{number}")) for number in range(300)]
    before = [world.choose(ask) for ask in asks]
    assert before == [world.choose(ask) for ask in asks]
    assert set(before) == {"a", "b", "c"}
    world.backends[1].state = Health("restarting")
    after = [world.choose(ask) for ask in asks]
    assert all(new == old or old == "b" for old, new in zip(before, after, strict=True))
    assert "b" not in after
    world.backends[1].state = Health("ready")
    assert before == [world.choose(ask) for ask in asks]


def test_without_a_session_the_key_counts_and_without_both_the_weight() -> None:
    world = World("session_affinity", *targets("a", "b", "c"))
    assert len({world.choose(Ask(request(tenant="k"))) for _ in range(20)}) == 1
    assert len(world.counts(200)) == 3


def test_every_strategy_takes_whoever_is_left() -> None:
    for strategy in STRATEGIES:
        world = World(strategy, *targets("a", "b", "c"))
        world.backends[0].state = Health("failed")
        world.endpoints[1].not_before = NOW + 5
        assert world.choose() == "c"
        world.endpoints[2].not_before = NOW + 5
        assert world.choose() == "a"
        world.endpoints[0].not_before = NOW + 5
        assert world.choose() == ""


def test_a_higher_order_is_asked_when_the_lower_cannot() -> None:
    world = World("weighted", *targets("a", "b"), *targets("c", order=1), *targets("d", order=2))
    assert set(world.counts(100)) == {"a", "b"}
    world.backends[0].state = Health("failed")
    world.backends[1].state = Health("stalled")
    assert world.choose() == "c"
    world.endpoints[2].not_before = NOW + 5
    assert world.choose() == "d"
    world.backends[3].state = Health("failed")
    assert set(world.counts(100)) == {"a", "b"}


def test_a_cold_model_is_loaded_when_that_is_sooner() -> None:
    world = World("weighted", *targets("cold", "warm"))
    world.backends[0].state = Health("ready", load_seconds=10.0)
    assert world.counts(50) == {"warm": 50}
    world.answer(1, 2.0)
    for _ in range(4):
        world.endpoints[1].begin(NOW, 0)
    assert world.endpoints[1].drain() == 8.0
    assert world.counts(50) == {"warm": 50}
    for _ in range(2):
        world.endpoints[1].begin(NOW, 0)
    assert "cold" in world.counts(50)


class Holding(FakeBackend):
    """Implements `core.types.Holder` besides."""

    def __init__(self, name: str, held: bool) -> None:
        super().__init__(name)
        self.held = held
        self.loads = True

    def holds(self, model: str) -> bool:
        assert model == "m"
        return self.held


def test_a_server_that_has_the_model_in_memory_is_asked_before_one_that_must_load_it() -> None:
    config = RouteConfig(name="m", targets=tuple(targets("cold", "warm")))
    backends = [Holding("cold", held=False), Holding("warm", held=True)]
    cold, warm = (
        Endpoint(config, target, backend, target.backend)
        for target, backend in zip(config.targets, backends, strict=True)
    )
    chooser = Chooser(config, (cold, warm), Random(3))

    def chosen() -> set[Endpoint | None]:
        return {chooser.choose(Ask(request()), NOW) for _ in range(50)}

    assert chosen() == {warm}
    # What a load costs is learnt from the first answer after one.
    cold.begin(NOW, 0)
    backends[0].held = True
    assert chosen() == {cold, warm}
    cold.completed(NOW + 4.0, NOW, NOW + 3.0, Usage(1, 1), 0)
    backends[0].held = False
    assert cold.load_seconds(Health("ready")) == 3.0
    # Others are too busy to be sooner.
    for _ in range(3):
        warm.begin(NOW, 0)
    assert warm.drain() == 3.0
    assert chosen() == {cold, warm}


def arms(sticky: bool = True) -> World:
    return World(
        "weighted",
        *targets("a", "b", arm="control", weight=4.5),
        *targets("c", arm="new", weight=1.0),
        sticky=sticky,
    )


def test_an_arm_has_its_share_of_users_and_keeps_them() -> None:
    world = arms()
    asks = [Ask(request(affinity=f"user-{number}")) for number in range(3000)]
    first = [world.choose(ask) == "c" for ask in asks]
    assert sum(first) / len(asks) == pytest.approx(0.1, abs=0.02)
    assert first == [world.choose(ask) == "c" for ask in asks]


def test_an_arm_that_cannot_answer_lends_its_users() -> None:
    world = arms()
    ask = next(
        one
        for number in range(1000)
        if world.choose(one := Ask(request(tenant=f"key-{number}"))) == "c"
    )
    world.backends[2].state = Health("failed")
    assert world.choose(ask) in "ab"
    world.backends[2].state = Health("ready")
    assert world.choose(ask) == "c"


def test_without_stickiness_the_arms_are_drawn() -> None:
    world = arms(sticky=False)
    ask = Ask(request(affinity="one"))
    counts = Counter(world.choose(ask) for _ in range(3000))
    assert counts["c"] / 3000 == pytest.approx(0.1, abs=0.02)
    assert set(counts) == {"a", "b", "c"}


def test_other_routers_names_mean_strategies_that_there_are() -> None:
    assert set(ALIASES.values()) <= set(STRATEGIES)
    assert ALIASES["simple-shuffle"] == "weighted"
    assert ALIASES["usage-based-routing-v2"] == "lowest_usage"


def test_the_prompt_of_raw_and_decoded_requests_grows_by_appending() -> None:
    one = Ask(request(input=chat("first"))).prompt()
    more = Ask(request(input=chat("first", "second"))).prompt()
    assert more.startswith(one)
    assert len(more) > len(one)
