from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import pytest

from tests.residency.processes import alive, command_lines, until
from trunkline.core.errors import Unavailable
from trunkline.residency.commands import Command
from trunkline.residency.launcher import (
    GuardedProcess,
    Invocation,
    LaunchSpec,
    Running,
    SubprocessLauncher,
    last_life,
)

ENGINE = str(Path(__file__).with_name("engine.py"))


def spec(*arguments: str, **more: object) -> LaunchSpec:
    command = Command(argv=(sys.executable, ENGINE, "{port}", *arguments), env={"MARK": "{port}"})
    return LaunchSpec(
        **{"name": "tiny", "kind": "vllm", "command": command, "env": dict(os.environ)} | more  # type: ignore[arg-type]
    )


async def gone(pid: int) -> None:
    await until(lambda: not alive(pid))


async def answers(running: Running, path: str = "/health") -> bytes:
    def ask() -> bytes:
        with urllib.request.urlopen(running.url + path, timeout=5) as response:
            data: bytes = response.read()
            return data

    for _ in range(500):
        try:
            return await asyncio.to_thread(ask)
        except OSError:
            await asyncio.sleep(0.02)
    raise AssertionError("it does not answer")


async def says(running: Running, words: str) -> None:
    """Wait until its log ends so: what an engine says goes through its guard."""
    for _ in range(1000):
        if await running.tail() == words:
            return
        await asyncio.sleep(0.02)
    assert await running.tail() == words


async def test_starts_on_a_free_port_with_its_environment_and_stops(tmp_path: Path) -> None:
    running = await SubprocessLauncher(tmp_path).start(spec("--say", "hello"))
    environment = await answers(running, "/environment")
    assert f'"MARK": "{running.url.rsplit(":", 1)[1]}"'.encode() in environment
    assert alive(running.pid)
    await says(running, "hello")
    assert await running.stop() == -signal.SIGTERM
    assert not alive(running.pid)


async def test_the_wanted_port_is_used_where_it_is_free(tmp_path: Path) -> None:
    launcher = SubprocessLauncher(tmp_path)
    first = await launcher.start(spec())
    await answers(first)
    port = int(first.url.rsplit(":", 1)[1])
    second = await launcher.start(spec(name="other", port=port))
    assert second.url != first.url
    await first.stop()
    await second.stop()
    third = await launcher.start(spec(port=port))
    assert third.url == first.url
    await third.stop()


async def test_what_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "child"
    arguments = ("--stubborn", "--child", str(note))
    running = await SubprocessLauncher(tmp_path).start(spec(*arguments, stop_timeout=0.3))
    await answers(running)
    assert await running.stop() == -signal.SIGKILL
    # Its memory is free: whoever waits for it may be loaded.
    assert not alive(int(note.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="orphans become init's children there")
@pytest.mark.parametrize("ending", ["stopped", "by itself"])
async def test_what_left_the_engines_group_goes_too(tmp_path: Path, ending: str) -> None:
    note = tmp_path / "child"
    arguments: tuple[str, ...] = ("--apart", "--child", str(note))
    arguments += () if ending == "stopped" else ("--exit", "3")
    running = await SubprocessLauncher(tmp_path).start(spec(*arguments))
    if ending == "stopped":
        await answers(running)
        assert await running.stop() == -signal.SIGTERM
    else:
        assert await running.wait() == 3
    assert not alive(int(note.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="death signals and orphans are Linux's")
@pytest.mark.parametrize(
    ("victims", "apart"),
    [
        (("first",), False),
        (("first",), True),
        (("second",), False),
        (("second",), True),
        # Nobody knows any more whose those are that left the engine's group.
        (("first", "second"), False),
    ],
)
async def test_children_go_with_a_guard_that_is_killed(
    tmp_path: Path, victims: tuple[str, ...], apart: bool
) -> None:
    note = tmp_path / "child"
    arguments = ("--child", str(note), *(("--apart",) * apart))
    running = await SubprocessLauncher(tmp_path).start(spec(*arguments))
    await answers(running)
    second = parent(running.pid)
    pids = {"first": parent(second), "second": second}
    assert parent(pids["first"]) == os.getpid()
    # All at once, as far as they notice.
    for name in victims:
        os.kill(pids[name], signal.SIGSTOP)
    for name in victims:
        os.kill(pids[name], signal.SIGKILL)
    assert await running.wait() < 0
    for pid in (*pids.values(), running.pid, int(note.read_text())):
        await gone(pid)


async def test_the_cleanup_comes_also_after_a_guard_that_is_killed(tmp_path: Path) -> None:
    done = tmp_path / "cleaned"
    invocation = Invocation(
        argv=(sys.executable, "-c", "import time; time.sleep(60)"),
        env=dict(os.environ),
        host="127.0.0.1",
        port=1,
        cleanup=("touch", str(done)),
    )
    running = await SubprocessLauncher(tmp_path).run(spec(), invocation)
    os.kill(parent(running.pid), signal.SIGKILL)
    assert await running.wait() == -signal.SIGKILL
    assert done.exists()
    assert "the guard was killed" in await running.tail()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


async def test_children_go_with_an_engine_that_ends(tmp_path: Path) -> None:
    note = tmp_path / "child"
    running = await SubprocessLauncher(tmp_path).start(spec("--child", str(note), "--exit", "3"))
    assert await running.wait() == 3
    assert await running.tail() == "the model does not exist"
    await gone(int(note.read_text()))
    assert await running.stop() == 3


async def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    missing = spec(command=Command(argv=("no-such-engine", "serve")))
    with pytest.raises(Unavailable, match="no program 'no-such-engine'"):
        await SubprocessLauncher(tmp_path).start(missing)


async def test_a_program_that_cannot_run_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "engine"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(Unavailable, match="cannot start"):
        await SubprocessLauncher(tmp_path).start(spec(command=Command(argv=(str(broken),))))


async def test_cancelling_a_start_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    told = asyncio.Event()

    async def late(process: GuardedProcess) -> bytes:
        told.set()
        return await asyncio.Event().wait()  # type: ignore[return-value]

    # However fast the machine is, it has not heard yet that the engine is there.
    monkeypatch.setattr(GuardedProcess, "_line", late)
    task = asyncio.create_task(SubprocessLauncher(tmp_path).start(spec("--say", mark)))
    await told.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not any(mark in line for line in command_lines()))


async def test_secrets_are_not_in_last_words(tmp_path: Path) -> None:
    told = spec("--say", "my key is sk-123456", "--exit", "1", secrets=("sk-123456",))
    running = await SubprocessLauncher(tmp_path).start(told)
    await running.wait()
    assert "my key is ***" in await running.tail()


async def test_logs_are_bounded_and_private(tmp_path: Path) -> None:
    noisy = "import sys\nfor i in range(4000): print(i, 'x' * 100)\nprint('the end')"
    launcher = SubprocessLauncher(tmp_path / "logs", max_log=100_000)
    command = Command(argv=(sys.executable, "-c", noisy))
    running = await launcher.start(spec(name="org/model", command=command))
    assert await running.wait() == 0
    files = sorted((tmp_path / "logs").iterdir())
    assert [file.name.rpartition(".log")[2] for file in files] == ["", ".1"]
    assert all(file.stat().st_size <= 100_000 for file in files)
    assert files[0].name.startswith("org_model-")
    assert files[0].stat().st_mode & 0o077 == 0
    assert (await running.tail()).endswith("the end")


async def test_two_versions_of_an_engine_do_not_share_their_last_words(tmp_path: Path) -> None:
    launcher = SubprocessLauncher(tmp_path)
    first = await launcher.start(spec("--say", "one"))
    second = await launcher.start(spec("--say", "two"))
    await answers(first)
    await answers(second)
    await says(first, "one")
    await says(second, "two")
    await first.stop()
    # The next one of them goes on where nobody writes.
    third = await launcher.start(spec("--say", "three"))
    await answers(third)
    await says(third, "three")
    assert await second.tail() == "two"
    # One that cannot start takes nobody's place.
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0")
    broken.chmod(0o755)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await launcher.start(spec(command=Command(argv=(str(broken),))))
    broken.unlink()
    assert sorted(os.listdir(tmp_path)) == ["tiny.2.log", "tiny.3.log", "tiny.log"]
    await second.stop()
    await third.stop()


def test_only_the_last_life_is_shown() -> None:
    data = b"---- 2026-01-01 10:00:00 start ----\nold\n---- 2026-01-01 11:00:00 start ----\nnew\n\n"
    assert last_life(data) == "new"
    assert last_life(b"") == ""
    assert last_life("\n".join(f"line {i}" for i in range(100)).encode()).startswith("line 80")


def test_engines_die_with_a_killed_server(tmp_path: Path) -> None:
    """SIGKILL gives the server no chance to do anything about it."""
    code = f"""
        import asyncio, os, sys
        from pathlib import Path
        from trunkline.residency.commands import Command
        from trunkline.residency.launcher import LaunchSpec, SubprocessLauncher
        async def main():
            argv = (sys.executable, {ENGINE!r}, "{{port}}", "--stubborn", "--say", "here")
            spec = LaunchSpec(name="tiny", kind="vllm", command=Command(argv=argv),
                              env=dict(os.environ), stop_timeout=0.2)
            running = await SubprocessLauncher(Path({str(tmp_path)!r})).start(spec)
            while "here" not in await running.tail():
                await asyncio.sleep(0.02)
            print(running.pid, flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        assert alive(pid)
        server.kill()
    deadline = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
