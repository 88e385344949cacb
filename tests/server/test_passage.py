"""The short way of whole answers: it ends as the long one, whatever happens on it."""

from __future__ import annotations

import asyncio
import gc
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

from tests.server.wired import GOOD, Line, completion, route, run, whole, wired
from trunkline.gateway.config import (
    Breaker,
    Fallbacks,
    Hedge,
    Retries,
    RouteConfig,
    Shadow,
    Target,
)
from trunkline.server.passage import Passage, Remembered, passed
from trunkline.wire.anthropic.answer import SIGNATURE

# Who takes it.
_SHORT = "trunkline.server.generate.passed"
_SHORTER = "trunkline.server.passage.Remembered.again"
_BODY = completion()
_FAULT = json.dumps({"error": {"message": "no", "type": "server_error"}}).encode()
_CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
)
_CHUNK = b"%x;note=1\r\n%b\r\n" % (len(_BODY), _BODY)
_LAST = b"0\r\n\r\n"
_CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Bonjour"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
# Ways to answer: pieces, and None where the connection ends.
ANSWERS: Mapping[str, Sequence[bytes | None]] = {
    "whole": (GOOD,),
    "claude": (whole(json.dumps(_CLAUDE).encode()),),
    "head first": (GOOD[: -len(_BODY)], _BODY),
    "pieces": (GOOD[:30], GOOD[30:90], GOOD[90:]),
    "chunks": (_CHUNKED, _CHUNK, _LAST),
    "chunks at once": (_CHUNKED + _CHUNK + _LAST,),
    "to the end": (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + _BODY, None),
    "charset": (whole(_BODY, kind="application/json; charset=utf-8"),),
    "no type": (b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(_BODY), _BODY),),
    "compressed": (whole(_BODY, more="content-encoding: gzip\r\n"),),
    "the last": (whole(_BODY, more="connection: close\r\n"),),
    "kept for long": (whole(_BODY, more="keep-alive: timeout=3\r\n"),),
    "hints": (b"HTTP/1.1 103 Early Hints\r\n\r\n", GOOD),
    "hints at once": (b"HTTP/1.1 103 Early Hints\r\n\r\n" + GOOD,),
    "two": (GOOD + GOOD,),
    "another": (GOOD, GOOD),
    "large": (whole(completion("x" * 70_000)),),
    "created": (whole(_BODY, 201),),
    "nothing": (b"HTTP/1.1 204 No Content\r\n\r\n",),
    "a fault": (whole(_FAULT, 500),),
    "busy": (whole(_FAULT, 429, more="retry-after: 1\r\n"),),
    "busy for long": (whole(_FAULT, 429, more="retry-after: 100\r\n"),),
    "refused": (whole(_FAULT, 400),),
    "a fault within": (whole(_FAULT.ljust(len(_BODY))),),
    "no object": (whole(b"x" * len(_BODY)),),
    "no choices": (whole(b"{}".ljust(len(_BODY))),),
    "no usage": (whole(b'{"choices":[]}'),),
    "numbers": (whole(b'{"choices":[],"usage":{"prompt_tokens":1%b}}' % (b"0" * 400)),),
    "less than none": (whole(b'{"choices":[],"usage":{"completion_tokens":-5}}'),),
    "events": (whole(b'data: {"choices":[]}\n\n', kind="text/event-stream"),),
    "no HTTP": (b"what?\r\n\r\n",),
    "stuck": (GOOD[:-10],),
    "stuck in the head": (GOOD[:30],),
    "a long fault": (whole(b"x" * 100_000, 500),),
    "a fault in chunks": (_CHUNKED.replace(b"200", b"503") + _CHUNK, _LAST),
    "gone": (None,),
    "gone within": (GOOD[:-10], None),
}
# Of an endpoint.
_COUNTED = (
    *("requests", "successes", "failures", "cancelled", "prompt_tokens", "completion_tokens"),
    *("ttft", "duration", "parallel", "size", "not_before"),
)
FAULTY = ("a fault", "refused", "a fault within", "no choices", "gone", "gone within", "busy")

_PATIENT = Breaker(failures=1_000_000, least=1_000_000)
_FRAIL = Breaker(failures=2, least=1000, cooldown=1)
_RETRIES = Retries(attempts=1, base=0.05)


def _target(backend: str, **more: Any) -> Target:
    return Target(backend=backend, model="m", **more)


def _routes() -> tuple[RouteConfig, ...]:
    turns: Any = {"strategy": "round_robin", "breaker": _PATIENT, "retries": _RETRIES}
    usual: Any = {"breaker": _PATIENT, "retries": _RETRIES}
    ordered = (_target("one", order=0), _target("two", order=1))
    arms = (_target("one", arm="x"), _target("two", arm="y"))
    bounded = (_target("one", rpm=3), _target("two", rpm=2))
    return (
        route("alone", "one", breaker=_PATIENT, retries=Retries(attempts=0)),
        route("pair", *ordered, **usual),
        route("mixed", _target("one", order=0), _target("claude", order=1), **usual),
        route("turns", "one", "claude", _target("two", weight=2), **turns),
        route("foreign", "claude", "haiku", **turns),
        route("queued", _target("one", max_parallel=1), queue=3, queue_timeout=8, **usual),
        route("bounded", *bounded, strategy="lowest_usage", queue=2, queue_timeout=70, **usual),
        route("sticky", *arms, **usual),
        route("split", *arms, sticky=False, **usual),
        route("sessions", "one", "two", strategy="session_affinity", **usual),
        route("prefixes", "one", "two", strategy="prefix_affinity", **usual),
        route("fast", "one", "two", strategy="lowest_latency", **usual),
        route("frail", "one", breaker=_FRAIL, retries=_RETRIES),
        route("frail turns", "one", "two", **{**turns, "breaker": _FRAIL}),
        route("lost", "gone", fallbacks=Fallbacks(error=("pair",)), **usual),
        route("narrow", "narrow", **usual),
        route("copied", "one", shadow=Shadow(route="any"), **usual),
        route("hedged", "one", "two", hedge=Hedge(after=0.5), **usual),
        route("timed", "one", timeout=4, **usual),
        route("counted", _target("one", tpm=100), queue_timeout=70, **usual),
        route("any", Target(backend="two"), **usual),
    )


def test_each_target_has_its_turn_where_all_are_asked_in_another_dialect() -> None:
    """A client is decoded for them, though other routes relay: choosing happens once."""

    async def scenario() -> None:
        async with wired(*_routes()) as line:
            for _ in range(6):
                await line.ask("foreign")
                await line.answer(*ANSWERS["claude"])
            ends = line.endpoints()
            assert [ends[f"foreign {one}/m"].requests for one in ("claude", "haiku")] == [3, 3]

    run(scenario())


def test_what_a_passed_body_loses_is_told_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a body may stay as it is, it alone can tell, not those that came before it."""
    monkeypatch.setattr("trunkline.wire.anthropic.client.checks_signatures", lambda _: True)
    thought = {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE}
    said = {"type": "text", "text": "a"}
    told = []

    async def scenario() -> None:
        async with wired(route("r", "claude")) as line:
            for content in ([said], [thought, said], [thought, said], [said]):
                turns = [
                    {"role": "assistant", "content": content},
                    {"role": "user", "content": "b"},
                ]
                data = json.dumps({"model": "r", "max_tokens": 9, "messages": turns}).encode()
                head = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
                await line.say(head % len(data) + data)
                assert SIGNATURE.encode() not in line.open[0].body
                before = len(line.clients[0].sent)
                await line.answer(*ANSWERS["claude"])
                told.append(b"left out: messages.thinking" in line.clients[0].sent[before:])

    run(scenario())
    assert told == [False, True, True, False]


def test_a_target_that_failed_has_its_turn_again() -> None:
    """It is half open when its turn comes, which the short way leaves to the long one."""

    async def scenario() -> None:
        async with wired(*_routes()) as line:
            ill = line.endpoints()["frail turns one/m"]
            while not ill.failures or ill.failures["upstream_failed"] < _FRAIL.failures:
                await line.ask("frail turns")
                sick = line.open[0].wire.name == "one"
                await line.answer(*ANSWERS["a fault" if sick else "whole"])
                await line.answer(*ANSWERS["whole"])
            state = ill.breaker.state
            assert state(asyncio.get_running_loop().time()) == "open"
            await asyncio.sleep(2)
            for _ in range(4):
                await line.ask("frail turns")
                await line.answer(*ANSWERS["whole"])
            assert state(asyncio.get_running_loop().time()) == "closed"
            assert ill.successes == 2

    run(scenario())


@pytest.mark.parametrize("how", ["whole", "a fault"])
def test_routes_that_are_replaced_count_what_is_under_way(how: str) -> None:
    """So that nobody takes away what a call may come to yet."""

    async def scenario() -> None:
        both = (Target(backend="one", model="m"), Target(backend="two", model="m", order=1))
        async with wired(route("r", *both), route("other", "one")) as line:
            for _ in range(3):
                await line.ask("r")
                await line.answer(GOOD)
            await line.ask("r")
            before = line.routes
            assert before is not None
            assert not before.busy()
            line.load()
            (busy,) = before.busy()
            assert [busy.reaches(line.backends[name]) for name in ("one", "two", "claude")] == [
                True,
                True,
                False,
            ]
            await line.answer(*ANSWERS[how])
            if how == "a fault":
                assert before.busy()
                await line.answer(GOOD)
            assert not before.busy()
            (answers,) = line.answers()
            assert answers.count(b"HTTP/1.1 200") == 4

    run(scenario())


@pytest.mark.parametrize("how", ["numbers", "less than none"])
@pytest.mark.parametrize("short", [False, True])
def test_tokens_that_nobody_can_count(
    how: str, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server tells of them is passed on, and no counter goes beyond its range or back."""
    if not short:
        monkeypatch.setattr(_SHORT, lambda *call: None)

    async def scenario() -> None:
        async with wired(*_routes()) as line:
            for _ in range(3):
                await line.ask("alone")
                await line.answer(*ANSWERS[how])
            (answers,) = line.answers()
            assert answers.count(b"HTTP/1.1 200") == 3
            text = line.server.metrics.registry.render()
            counted = re.findall(r"vllm:(?:prompt|generation)_tokens_total{.*alone.*} (\S+)", text)
            assert counted
            assert all(0 <= float(one) <= 3 << 40 for one in counted)

    run(scenario())


async def _answered(line: Line, how: str) -> None:
    await line.answer(*ANSWERS[how])


async def _late(line: Line, how: str) -> None:
    await asyncio.sleep(7)


async def _left(line: Line, how: str) -> None:
    await line.leave()


async def _left_within(line: Line, how: str) -> None:
    await line.answer(GOOD[:-10])
    await line.leave()


async def _cut(line: Line, how: str) -> None:
    await line.cut()


@pytest.mark.parametrize(
    ("what", "how"),
    [
        *((_answered, how) for how in ("whole", "head first", "chunks", "the last", *FAULTY)),
        *((what, "") for what in (_late, _left, _left_within, _cut)),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_has_ended_is_freed_at_once(
    what: Callable[[Line, str], Awaitable[None]],
    how: str,
    stream: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It holds the whole request, and the collector rarely looks."""
    caplog.set_level("INFO")

    async def scenario() -> None:
        async with wired(*_routes()) as line:
            with _uncollected() as found:
                for name in ("alone", "alone", "alone", "copied", "hedged", "timed"):
                    await line.ask(name, stream=stream or None)
                    await what(line, how)
                    # The other one, where two are asked.
                    await line.answer(GOOD)
                    await asyncio.sleep(1)
                    line.seen.clear()
            kept = {type(one).__name__ for one in found}
            held = {"Passage", "Generation", "Tries", "Attempt", "RemoteCall", "RawRequest"}
            assert not kept & {*held, "Exchange", "HttpRequest", "Incoming", "Request"}

    run(scenario())


@pytest.mark.parametrize("wait", [4.5, 5.5])
@pytest.mark.parametrize("short", [False, True])
def test_an_answer_that_has_begun_is_late_when_it_stops(
    wait: float, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit on its beginning is over by then, also where it is given as a whole."""
    if not short:
        monkeypatch.setattr(_SHORT, lambda *call: None)

    async def scenario() -> None:
        async with wired(*_routes()) as line:
            await line.ask("alone")
            await line.answer(GOOD)
            await line.ask("alone")
            await asyncio.sleep(4.5)
            (asked,) = line.open
            answered = [b"HTTP/1.1 200"]
            for begin, end in ((0, 120), (120, 140), (140, len(GOOD))):
                if not asked.wire.closed:
                    asked.wire.protocol.data_received(GOOD[begin:end])
                await asyncio.sleep(wait)
            answered.append(b"HTTP/1.1 200" if wait < 5 else b"HTTP/1.1 504")
            (answers,) = line.answers()
            assert re.findall(rb"HTTP/1.1 ...", answers) == answered
            assert wait < 5 or b"sent nothing more for 5 s" in answers

    run(scenario())


@contextmanager
def _uncollected() -> Iterator[list[Any]]:
    """What only the garbage collector finds, once this is over."""
    found: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("seed", range(40))
def test_chance_ends_the_same_on_either_way(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = run(_play(seed))
    monkeypatch.setattr(_SHORT, lambda *call: None)
    assert run(_play(seed)) == straight


@pytest.mark.parametrize(("way", "begin"), [(_SHORT, passed), (_SHORTER, Remembered.again)])
def test_chance_takes_the_short_ways(
    way: str, begin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bool] = []

    def counted(*call: Any) -> Any:
        begun = begin(*call)
        taken.append(isinstance(begun, Passage))
        return begun

    monkeypatch.setattr(way, counted)
    run(_play(0, 800))
    assert taken.count(True) > 20
    assert taken.count(False) > 5


async def _play(seed: int, steps: int = 100) -> Mapping[str, Any]:
    """What comes of a script by chance."""
    rng = Random(seed)
    async with wired(*_routes()) as line:
        for _ in range(steps):
            await _step(line, rng)
        return _outcome(line)


def _outcome(line: Line) -> Mapping[str, Any]:
    assert line.routes is not None
    return {
        "clients": [line.answers(client) for client in range(4)],
        "servers": sorted(line.seen),
        "targets": {
            name: [getattr(one, what) for what in _COUNTED] + [one.breaker.closed]
            for name, one in line.endpoints().items()
        },
        "routes": {one.name: one.state.counters for one in line.routes.routes},
        "counters": sorted(
            text
            for text in line.server.metrics.registry.render().splitlines()
            if text.startswith("trunkline_") and ("_count{" in text or "_total{" in text)
        ),
        "chance": line.rng.random(),
    }


async def _step(line: Line, rng: Random) -> None:
    chance, client = rng.random(), rng.randrange(4)
    if chance < 0.4:
        more: dict[str, Any] = rng.choice(
            [{}, {}, {}, {}, {"stream": True}, {"user": "me"}, {"keep_alive": 5}, {"times": 2}]
        )
        await line.ask(rng.choice(_routes()).name, client, **more)
        # No two are late at once: which comes first then is nobody's business.
        await asyncio.sleep(0.11)
    elif chance < 0.85:
        how = rng.choice([*ANSWERS, *["whole", "chunks", "a fault"] * 8])
        await line.answer(*ANSWERS[how], number=rng.randrange(2))
    elif chance < 0.9:
        await line.leave(client)
    elif chance < 0.96:
        await asyncio.sleep(rng.choice([0.01, 0.06, 0.3, 1.2, 3, 7, 61]))
    elif chance < 0.97:
        line.load()
    else:
        await line.die()
