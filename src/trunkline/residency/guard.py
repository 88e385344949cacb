"""Beside each launched engine: writes its log, and ends it when we end, however that happens.

Run as a script, with nothing but the standard library:

    python guard.py --lifeline FD --log FILE --max-log BYTES --grace SECONDS [--cleanup JSON] ARGV

Its standard output tells the engine's process id on a line of its own, then the status that it
ended with (negative: the signal). SIGTERM, or the end of the pipe FD that the owner holds open,
ends the engine: SIGTERM, after the grace SIGKILL to its whole process group, then the cleanup. It
tells the status once all that the engine has started is gone, on Linux also what left its group:
until then their memory is not free.

These are two processes, for either may be killed, by the kernel out of memory say, and then the
other one ends the engine: the first starts the second, which does all of this, and is there for the
day that it dies. Where both are killed the owner still kills the engine's process group.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

# From <sys/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PIECE = 65536
# Seconds that the cleanup may take, and that the last output may come after the engine's end.
_CLEANUP = 20.0
_LINGER = 1.0
# Seconds that killed processes may take to be gone (many gigabytes), and between two looks.
_GOING = 10.0
_LOOK = 0.01
# Seconds between two tries of the cleanup.
_AGAIN = 1.0
_NOT_FOUND = 127


class Log:
    """A file of bounded size; what was in it before is in ``FILE.1``."""

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most
        self._file = self._open()
        self._size = os.fstat(self._file).st_size

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, data: bytes) -> None:
        """Add `data`. A full disk loses it: the engine must not stand still for its log."""
        if self._size + len(data) > self._most and self._size:
            os.close(self._file)
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._open()
            self._size = 0
        with contextlib.suppress(OSError):
            self._size += os.write(self._file, data)


class Backup:
    """The first of the two processes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        # Of the second process.
        self._guard = 0

    def run(self) -> int:
        """Until the other has ended, and the engine with it. Returns our exit status."""
        parent = os.getpid()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _adopt_orphans()
        self._guard = os.fork()
        if not self._guard:
            # It ends the engine as if it had been asked to.
            _die_with(parent, signal.SIGTERM)
            return Guard(self._options).run()
        signal.signal(signal.SIGTERM, self._pass_on)
        code = os.waitstatus_to_exitcode(os.waitpid(self._guard, 0)[1])
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if code >= 0:
            return code
        # The engine has died with it. Nobody has told its status.
        log = Log(Path(self._options.log), self._options.max_log)
        log.write(b"the guard was killed: the engine is ended\n")
        clean(self._options.cleanup, log)
        end_orphans()
        return 0

    def _pass_on(self, number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._guard, number)


class Guard:
    """One engine."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._log = Log(Path(options.log), options.max_log)
        self._engine: subprocess.Popen[bytes] | None = None
        # When patience ends; None: nobody has asked for the end yet.
        self._deadline: float | None = None
        self._killed = False
        self._cleaned = False

    def run(self) -> int:
        """Until the engine has ended. Returns our exit status."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        _adopt_orphans()
        if not self._start():
            return _NOT_FOUND
        assert self._engine is not None
        assert self._engine.stdout is not None
        self._watch(wake_read, self._engine.stdout.fileno())
        # While it is not reaped its number, which is that of its group, cannot be another's.
        self._kill_group()
        status = self._engine.wait()
        # Before its orphans are killed: Podman's monitor of a container is one of them.
        self._clean()
        end_orphans()
        self._drain(self._engine.stdout.fileno())
        self._tell(status)
        return 0

    def _start(self) -> bool:
        parent = os.getpid()

        self._log.write(f"---- {time.strftime('%F %T')} start ----\n".encode())
        try:
            self._engine = subprocess.Popen(
                self._options.program,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # No thread of ours runs: this is safe between fork and exec.
                preexec_fn=lambda: _die_with(parent, signal.SIGKILL),  # noqa: PLW1509
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._log.write(f"cannot start {self._options.program[0]}: {error}\n".encode())
            return False
        self._tell(self._engine.pid)
        return True

    def _watch(self, wake: int, output: int) -> None:
        """Until the engine has ended; it is not reaped then."""
        reading = [wake, output, self._options.lifeline]
        while not self._ended():
            ready, _, _ = select.select(reading, (), (), self._patience())
            if output in ready and not self._copy(output):
                reading.remove(output)
            if wake in ready:
                self._signals(os.read(wake, 512))
                self._reap()
            if self._options.lifeline in ready and not os.read(self._options.lifeline, 512):
                reading.remove(self._options.lifeline)
                self._ask_to_end()
            if self._patience() == 0:
                self._killed = True
                self._kill_group()
                self._clean()

    def _patience(self) -> float | None:
        """Seconds until it has to be killed; None: it has not."""
        if self._deadline is None or self._killed:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def _signals(self, numbers: bytes) -> None:
        if signal.SIGTERM in numbers:
            self._ask_to_end()

    def _ask_to_end(self) -> None:
        if self._deadline is None and self._engine is not None:
            self._deadline = time.monotonic() + self._options.grace
            os.kill(self._engine.pid, signal.SIGTERM)

    def _ended(self) -> bool:
        assert self._engine is not None
        if not hasattr(os, "waitid"):
            # macOS before Python 3.13: it is reaped here.
            return self._engine.poll() is not None
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._engine.pid, flags) is not None

    def _kill_group(self) -> None:
        assert self._engine is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._engine.pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Take note of orphans that have ended; the engine itself stays as it is."""
        assert self._engine is not None
        if not hasattr(os, "waitid"):
            return
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, flags)) is not None:
                if ended.si_pid == self._engine.pid:
                    return
                os.waitpid(ended.si_pid, 0)

    def _copy(self, output: int) -> bool:
        """Log what is there; False at the end."""
        data = os.read(output, _PIECE)
        self._log.write(data)
        return bool(data)

    def _drain(self, output: int) -> None:
        """The last words, which are often the reason."""
        until = time.monotonic() + _LINGER
        while time.monotonic() < until:
            ready, _, _ = select.select([output], (), (), until - time.monotonic())
            if not ready or not self._copy(output):
                return

    def _clean(self) -> None:
        if not self._cleaned:
            self._cleaned = True
            clean(self._options.cleanup, self._log)

    @staticmethod
    def _tell(number: int) -> None:
        with contextlib.suppress(OSError):
            os.write(1, f"{number}\n".encode())


def clean(given: str, log: Log) -> None:
    """Run the cleanup until it succeeds, with a bound: a daemon may be away for a while.

    `given`: its command in JSON; "" = there is none.
    """
    if not given:
        return
    command = json.loads(given)
    until = time.monotonic() + _CLEANUP
    while problem := _problem(command, until - time.monotonic()):
        if time.monotonic() + _AGAIN > until:
            break
        time.sleep(_AGAIN)
    if problem:
        log.write(f"{shlex.join(command)}: {problem}\n".encode())


def end_orphans() -> None:
    """Kill all children that we have, which are what is left of an engine, and wait for them."""
    until = time.monotonic() + _GOING
    while time.monotonic() < until:
        for child in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(_LOOK)


def _adopt_orphans() -> None:
    """Whoever loses its parent below us becomes our child, instead of init's."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _die_with(parent: int, number: signal.Signals) -> None:
    """Have the kernel send us a signal when `parent`, which has just started us, dies.

    See prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def _problem(command: list[str], timeout: float) -> str:
    """Run a command; what went wrong, or ""."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    words = done.stdout.decode("utf-8", "replace").strip()
    # Clients before Docker 20.10 and Podman 4 complain of what `--rm` has removed already.
    if not done.returncode or re.search(
        "no such container|no container with", words, re.IGNORECASE
    ):
        return ""
    return words or f"status {done.returncode}"


def _children() -> list[int]:
    """Our own; none where the kernel does not tell."""
    me = os.getpid()
    try:
        return [int(one) for one in Path(f"/proc/{me}/task/{me}/children").read_text().split()]
    except OSError:
        return []


def main(arguments: list[str]) -> int:
    """Guard one engine. Returns twice."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--max-log", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--cleanup", default="")
    parser.add_argument("program", nargs=argparse.REMAINDER)
    return Backup(parser.parse_args(arguments)).run()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
