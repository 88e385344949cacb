"""Changes of files, however they come about."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from trunkline.server.file.config import Loaded
from trunkline.server.file.load import load
from trunkline.server.file.watch import (
    _MOST_HANGING,
    InForce,
    _Bounded,
    _Hangs,
    changes,
    hangups,
    stamp,
)

# Seconds between looks, and the longest that a change may take to be seen on a busy machine.
FAST = 0.02
PATIENCE = 20.0

Watched = tuple[Path, "asyncio.Queue[Loaded]"]


def text(port: int) -> str:
    return f"server: {{port: {port}}}\nengines: [caboose]\n"


@contextlib.asynccontextmanager
async def watching(
    path: Path,
    interval: float = FAST,
    load: Callable[[str, Mapping[str, str]], Loaded] = load,
    *,
    applied: bool = True,
) -> AsyncIterator[asyncio.Queue[Loaded]]:
    """What `changes` yields for the file at `path`; `applied`: it is in force from then on."""
    found: asyncio.Queue[Loaded] = asyncio.Queue()

    def read() -> Loaded:
        return load(str(path), {})

    first = read()

    async def watch() -> None:
        async for loaded in versions:
            found.put_nowait(loaded)
            if applied:
                in_force.loaded = loaded

    with hangups() as asked:
        in_force = InForce(first)
        versions = changes(in_force, read, asked, interval)
        task = asyncio.create_task(watch())
        await asyncio.sleep(FAST)
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()


async def port(found: asyncio.Queue[Loaded]) -> int:
    async with asyncio.timeout(PATIENCE):
        return (await found.get()).config.server.port


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for is a line in the log
            await asyncio.sleep(FAST)


async def test_a_file_that_is_written_again_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text(1))
    async with watching(path) as found:
        path.write_text(text(22))
        assert await port(found) == 22
        # As editors save: another file takes its place.
        other = tmp_path / "new"
        other.write_text(text(33))
        other.rename(path)
        assert await port(found) == 33


async def test_a_swapped_link_is_seen_as_in_a_config_map(tmp_path: Path) -> None:
    """Kubernetes: config.yaml -> ..data/config.yaml, and ..data -> another folder, atomically."""
    for number in (1, 2):
        (tmp_path / f"v{number}").mkdir()
        (tmp_path / f"v{number}/config.yaml").write_text(text(number))
    (tmp_path / "..data").symlink_to("v1")
    path = tmp_path / "config.yaml"
    path.symlink_to("..data/config.yaml")
    async with watching(path) as found:
        (tmp_path / "..tmp").symlink_to("v2")
        os.rename(tmp_path / "..tmp", tmp_path / "..data")
        assert await port(found) == 2


async def test_sighup_reads_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text(1))
    async with watching(path, interval=3600.0) as found:
        path.write_text(text(2))
        os.kill(os.getpid(), signal.SIGHUP)
        assert await port(found) == 2


@pytest.mark.parametrize("hurried", [True, False])
async def test_what_comes_before_anybody_looks_is_not_missed(tmp_path: Path, hurried: bool) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text(1))

    def read() -> Loaded:
        return load(str(path), {})

    with hangups() as asked:
        versions = changes(InForce(read()), read, asked, 3600.0 if hurried else FAST)
        path.write_text(text(22))
        if hurried:
            os.kill(os.getpid(), signal.SIGHUP)
        async with contextlib.aclosing(versions), asyncio.timeout(PATIENCE):
            assert (await anext(versions)).config.server.port == 22


async def test_a_wrong_file_is_logged_once_and_the_old_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text(1))
    with caplog.at_level(logging.ERROR, "trunkline.config"):
        async with watching(path) as found:
            path.write_text("server: {prt: 1}\nengines: [caboose]\n")
            await wait_for(lambda: bool(caplog.records))
            await asyncio.sleep(10 * FAST)
            assert found.empty()
            assert len(caplog.records) == 1
            assert "a.yaml:1:10: server.prt: no field is called 'prt'" in caplog.text
            path.write_text(text(5))
            assert await port(found) == 5


async def test_a_file_that_is_gone_changes_nothing_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text(1))
    async with watching(path) as found:
        path.unlink()
        await asyncio.sleep(5 * FAST)
        assert found.empty()
        path.write_text(text(7))
        assert await port(found) == 7


async def test_the_same_configuration_is_no_change(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text(1))
    with caplog.at_level(logging.INFO, "trunkline.config"):
        async with watching(path) as found:
            path.write_text("# a comment\n" + text(1))
            await wait_for(lambda: "nothing has changed" in caplog.text)
            assert found.empty()


async def test_what_could_not_be_applied_is_tried_again_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text(1))
    async with watching(path, applied=False) as found:
        path.write_text(text(2))
        assert await port(found) == 2
        await asyncio.sleep(5 * FAST)
        assert found.empty()
        os.kill(os.getpid(), signal.SIGHUP)
        assert await port(found) == 2


async def test_a_fault_in_reading_does_not_end_the_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text(1))

    def read(name: str, environ: Mapping[str, str]) -> Loaded:
        if "port: 2}" in path.read_text():
            raise RuntimeError("nobody thought of it")
        return load(name, environ)

    with caplog.at_level(logging.ERROR, "trunkline.config"):
        async with watching(path, load=read) as found:
            path.write_text(text(2))
            await wait_for(lambda: "nobody thought of it" in caplog.text)
            path.write_text(text(33))
            assert await port(found) == 33


async def test_an_included_file_is_watched_too(tmp_path: Path) -> None:
    path, more = tmp_path / "a.yaml", tmp_path / "more.yaml"
    path.write_text("include: [more.yaml]\nmodel_list: []\n")
    entry = "model_list: [{model_name: %s, litellm_params: {model: openai/x}}]\n"
    more.write_text(entry % "one")
    async with watching(path) as found:
        more.write_text(entry % "other")
        async with asyncio.timeout(PATIENCE):
            loaded = await found.get()
        assert [route.name for route in loaded.config.routes] == ["other"]


def test_a_stamp_tells_versions_apart(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    first = stamp([str(path)])
    assert stamp([str(path)]) == first
    path.write_text("22")
    assert stamp([str(path)]) != first
    assert stamp([str(tmp_path / "gone")]) == (None,)


async def test_what_hangs_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A pipe that nobody writes to, or a file on a network disk that is gone."""
    path = tmp_path / "a.yaml"
    path.write_text(text(1))
    over = threading.Event()

    def read() -> Loaded:
        loaded = load(str(path), {})
        if loaded.config.server.port == 2:
            over.wait(PATIENCE)
        return loaded

    found: asyncio.Queue[Loaded] = asyncio.Queue()

    async def watch() -> None:
        async for loaded in changes(InForce(read()), read, asyncio.Event(), FAST, most=10 * FAST):
            found.put_nowait(loaded)

    with caplog.at_level(logging.ERROR, "trunkline.config"):
        task = asyncio.create_task(watch())
        try:
            await asyncio.sleep(FAST)
            path.write_text(text(2))
            await wait_for(lambda: "hangs" in caplog.text)
            await asyncio.sleep(20 * FAST)
            assert found.empty()
            assert caplog.text.count("hangs") == 1
            path.write_text(text(33))
            assert await port(found) == 33
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            over.set()
    # What came too late is nobody's.
    assert found.empty()


async def test_no_more_than_a_few_calls_hang() -> None:
    bounded = _Bounded(most=FAST)
    over = threading.Event()
    begun: list[None] = []

    def hangs() -> None:
        begun.append(None)
        over.wait(PATIENCE)

    try:
        for _ in range(3 * _MOST_HANGING):
            with pytest.raises(_Hangs):
                await bounded.result(hangs)
        assert len(begun) == _MOST_HANGING
    finally:
        over.set()
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(_Hangs):
                assert await bounded.result(lambda: "back") == "back"
                break
            await asyncio.sleep(FAST)


@pytest.mark.parametrize("most", [0.0, FAST])
async def test_what_returns_at_the_last_moment_has_returned(most: float) -> None:
    returned = threading.Event()

    def call() -> str:
        try:
            return "back"
        finally:
            returned.set()

    def hold_up() -> None:
        # The loop sees both at once: the call has returned, and its time is up.
        assert returned.wait(PATIENCE)
        time.sleep(10 * FAST)

    asyncio.get_running_loop().call_soon(hold_up)
    assert await _Bounded(most).result(call) == "back"
