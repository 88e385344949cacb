"""What is remembered of a call, and until when."""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.server.wired import GOOD, Line, route, run, whole, wired
from trunkline.gateway.keys import Keys
from trunkline.server import tracks
from trunkline.server.passage import Passage, Remembered


@pytest.fixture
def again(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each request with a head that came before, whether it was sent as the one before."""
    taken: list[bool] = []

    begin = Remembered.again

    def watched(*call: Any) -> Any:
        begun = begin(*call)
        taken.append(begun is not None)
        return begun

    monkeypatch.setattr(Remembered, "again", watched)
    return taken


async def _asked(line: Line, model: str = "r", **more: Any) -> None:
    await line.ask(model, **more)
    await line.answer(GOOD)


async def _known(line: Line) -> None:
    """The head is known after one, the track after another."""
    for _ in range(3):
        await _asked(line)


def _play(scenario: Callable[[Line], Any], **more: Any) -> None:
    async def played() -> None:
        async with wired(route("r", "one", **more), route("s", "one", "two")) as line:
            await scenario(line)

    run(played())


def test_the_third_call_is_like_the_second(again: list[bool]) -> None:
    async def scenario(line: Line) -> None:
        await _known(line)
        sent = {body for _, _, body in line.seen}
        assert len(line.seen) == 3
        assert len(sent) == 1
        (answers,) = line.answers()
        assert answers.count(b"HTTP/1.1 200") == 3

    _play(scenario)
    assert again == [True]


@pytest.mark.parametrize(
    "more",
    [
        {"stream": True},
        {"user": "me"},
        {"metadata": {"user_id": "me"}},
        {"prompt_cache_key": "k"},
        {"keep_alive": 5},
        {"previous_response_id": "resp_1"},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_asks_for_more_goes_the_long_way(more: dict[str, Any], again: list[bool]) -> None:
    async def scenario(line: Line) -> None:
        await _known(line)
        await _asked(line, **more)
        sent = json.loads(line.seen[-1][2])
        assert more.items() <= sent.items()

    _play(scenario)
    assert again == [True, False]


@pytest.mark.parametrize("more", [{"stream": False}, {"user": False, "stream": False}])
def test_what_asks_for_nothing_goes_the_short_way(more: dict[str, Any], again: list[bool]) -> None:
    async def scenario(line: Line) -> None:
        await _known(line)
        await _asked(line, **more)
        assert more.items() <= json.loads(line.seen[-1][2]).items()

    _play(scenario)
    assert again == [True, True]


def test_other_keys(again: list[bool]) -> None:
    """Whose key is taken back is refused with the next request, though its head came before."""

    async def scenario(line: Line) -> None:
        assert line.routes is not None
        line.gateway.serve(line.routes.served(), Keys(("sk-mine-12345",)))
        data = json.dumps({"model": "r", "messages": []}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n"
        mine = (head % b"sk-mine-12345") + b"content-length: %d\r\n\r\n%b" % (len(data), data)
        for _ in range(3):
            await line.say(mine)
            await line.answer(GOOD)
        line.gateway.serve(line.routes.served(), Keys(("sk-other-12345",)))
        for _ in range(2):
            await line.say(mine)
        (answers,) = line.answers()
        assert answers.count(b"HTTP/1.1 200") == 3
        assert answers.count(b"HTTP/1.1 401") == 2
        assert len(line.seen) == 3

    _play(scenario)
    assert again == [True, False, False]


@pytest.mark.parametrize(
    ("path", "told", "short"),
    [
        ("/chat/completions", "r", True),
        ("/openai/deployments/r/chat/completions", "r", True),
        ("/openai/deployments/r/chat/completions", "s", False),
        ("/engines/r/chat/completions", None, False),
    ],
)
def test_aliases(path: str, told: str | None, short: bool, again: list[bool]) -> None:
    """A head whose path names the model never leads to another one."""

    async def scenario(line: Line) -> None:
        data = json.dumps({"messages": [], **({"model": told} if told else {})}).encode()
        head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        for _ in range(3):
            await line.say(head % (path.encode(), len(data)) + data)
            await line.answer(GOOD)
        assert [name for name, _, _ in line.seen] == ["one"] * 3
        (answers,) = line.answers()
        assert answers.count(b"HTTP/1.1 200") == 3

    _play(scenario)
    assert again == ([True] if short else [False])


def test_a_body_that_is_not_taken_apart(again: list[bool]) -> None:
    """It is whole for the second target as well, though it could pass to the first as it is."""

    async def scenario() -> None:
        async with wired(route("r", "one", "two")) as line:
            for _ in range(5):
                await _asked(line)
            line.seen.clear()
            await line.ask("r", messages=[{"role": "user", "content": ":" * 1_100_000}])
            await line.answer(whole(b"{}", 500))
            await line.answer(GOOD)
            assert {name for name, _, _ in line.seen} == {"one", "two"}
            for _, _, body in line.seen:
                (message,) = json.loads(body)["messages"]
                assert len(message["content"]) == 1_100_000

    run(scenario())
    assert again[-1] is False
    assert True in again


def test_a_server_that_is_about_to_end_takes_no_more(again: list[bool]) -> None:
    async def scenario(line: Line) -> None:
        await _known(line)
        line.gateway.draining = True
        await _asked(line)
        (answers,) = line.answers()
        assert answers.count(b"HTTP/1.1 503") == 1
        assert len(line.seen) == 3

    _play(scenario)
    assert again == [True, False]


def test_a_route_that_reads_prompts_is_asked_each_time(again: list[bool]) -> None:
    async def scenario() -> None:
        async with wired(route("r", "one", "two", strategy="prefix_affinity")) as line:
            await _known(line)
            assert len(line.seen) == 3

    run(scenario())
    assert not any(again)


def test_nothing_of_a_call_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    real = tracks.remember

    def spied(gateway: Any, exchange: Any, *rest: Any) -> None:
        real(gateway, exchange, *rest)
        kept.append(exchange.request.memory)

    monkeypatch.setattr("trunkline.server.passage.remember", spied)

    async def scenario(line: Line) -> None:
        await _known(line)
        (found,) = kept[-1].values()
        track = found()
        assert not track.came.body
        assert not track.raw.fields
        assert not track.raw.id
        with pytest.raises(RuntimeError):
            track.raw.translate()

    _play(scenario)


def test_what_was_remembered_ends_with_the_configuration(again: list[bool]) -> None:
    """Routes and keys that are no more are not kept by heads that do not come again."""

    async def scenario(line: Line) -> None:
        await _known(line)
        gone = [weakref.ref(track) for track in line.gateway.epoch.kept]
        assert len(gone) == 1
        line.load()
        assert [track() for track in gone] == [None]
        for _ in range(2):
            await _asked(line)

    _play(scenario)
    assert again == [True, False, True]


def test_tracks_are_bounded(monkeypatch: pytest.MonkeyPatch, again: list[bool]) -> None:
    monkeypatch.setattr(tracks, "_MOST_TRACKS", 1)

    async def scenario(line: Line) -> None:
        for _ in range(3):
            for model in ("r", "s"):
                await _asked(line, model)
        assert len(line.gateway.epoch.kept) == 1
        (answers,) = line.answers()
        assert answers.count(b"HTTP/1.1 200") == 6

    _play(scenario)
    assert not any(again)


def test_models_that_are_remembered_are_bounded(
    monkeypatch: pytest.MonkeyPatch, again: list[bool]
) -> None:
    monkeypatch.setattr(tracks, "_MOST", 1)

    async def scenario(line: Line) -> None:
        await _known(line)
        await _asked(line, "s")
        await _asked(line)

    _play(scenario)
    assert again == [True, False, False]


def test_each_is_counted_and_logged_once(
    again: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "trunkline.access")

    async def scenario(line: Line) -> None:
        await _known(line)
        await line.ask("r")
        await line.leave()
        for _ in range(2):
            await line.ask("r", client=1)
        await line.answer(GOOD)
        await line.answer(GOOD)
        counted = {
            (status, model): line.server.metrics.answers("chat_completions", status, model).value
            for status in (200, 499)
            for model in ("r", "")
        }
        assert counted == {(200, "r"): 5, (499, "r"): 1, (200, ""): 0, (499, ""): 0}

    _play(scenario)
    assert again == [True, True, True, True]
    lines = [re.sub(r"[\d.]+ms", "ms", record.getMessage()) for record in caplog.records]
    good = '127.0.0.1:1 "POST /v1/chat/completions" 200 model=r tokens=3+2 ms'
    gone = '127.0.0.1:1 "POST /v1/chat/completions" 499 model=r tokens=0+0 ms (client closed)'
    assert lines == [good, good, good, gone, good, good]


@pytest.mark.parametrize("later", [GOOD, whole(b"{}", 400)], ids=["good", "bad"])
def test_what_comes_after_a_fault_goes_to_nobody(
    later: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Passage.send

    def fail(passage: Passage) -> None:
        send(passage)
        raise KeyError("ours")

    async def scenario(line: Line) -> None:
        await _known(line)
        with monkeypatch.context() as patched:
            patched.setattr(Passage, "send", fail)
            await line.ask("r")
        await line.ask("s")
        await line.answer(later)
        await line.answer(GOOD)
        (answers,) = line.answers()
        assert re.findall(rb"HTTP/1.1 (...)", answers) == [b"200"] * 3 + [b"500", b"200"]
        assert not line.server.pool.active

    _play(scenario)


def test_a_fault_in_between_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*call: Any) -> Any:
        raise KeyError("ours")

    monkeypatch.setattr(Remembered, "again", fail)

    async def scenario(line: Line) -> None:
        await _known(line)
        (answers,) = line.answers()
        assert answers.count(b"HTTP/1.1 200") == 2
        assert answers.count(b"HTTP/1.1 500") == 1
        assert b"a fault of this server" in answers
        assert b"KeyError" not in answers

    _play(scenario)
