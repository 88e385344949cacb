"""Work that must not hang or eat the machine: a child process that the kernel ends.

A chat template out of a model file, or a grammar out of a request, can keep the processor busy for
ever, and a thread cannot be stopped. So the front has such work done in a child: `ITIMER_PROF` with
its default action kills it after so many seconds of processor time, wherever it is (also in the
middle of one call into C), and `RLIMIT_AS` bounds its memory (Linux). The next piece of work starts
another one.

    parent: BoundedWorker(module, greeting, limits).ask(message)      -> text
    child:  python -m module CPU_SECONDS MEMORY_BYTES                  # frames on stdin and stdout
            serve(messages, answer)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

import msgspec

from trunkline.core.errors import (
    ErrorInfo,
    InternalError,
    InvalidRequest,
    TrunklineError,
    from_info,
)
from trunkline.core.lineage import die_with_parent
from trunkline.engine.frames import MAX_FRAME, pack

# Seconds for a worker to start, on a machine that is busy loading a model.
_START_SECONDS = 60.0


class Limits(NamedTuple):
    """What one piece of work may use."""

    # Processor time, seconds.
    cpu_seconds: float
    # Address space of the process, bytes.
    memory_bytes: int
    # Wall-clock time, seconds, after which the parent kills although the kernel did not.
    wall_seconds: float


class TooSlow(Exception):
    """The work took more time than it may, and its worker was killed."""


class Died(Exception):
    """The worker ended in the middle of the work: its memory was full, or somebody killed it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"ended with status {code}")
        # Its return code; negative: the signal.
        self.code = code


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What a worker answers to each message: a text, or why there is none."""

    text: str
    error: ErrorInfo | None = None


class BoundedWorker:
    """The parent's side: owns the process. One caller at a time."""

    def __init__(
        self,
        module: str,
        greeting: Callable[[], Awaitable[msgspec.Struct]],
        limits: Limits,
        *,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`greeting` gives the first message to each process."""
        self._module = module
        self._greeting = greeting
        self._limits = limits
        self._env = dict(env or {})
        self._process: asyncio.subprocess.Process | None = None
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Answer)

    @property
    def pid(self) -> int:
        """Process id of the worker; 0 while there is none."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start a worker now. Raises as `ask`."""
        if self._process is not None and self._process.returncode is not None:
            # It died while it had nothing to do, so the work to come is not to blame.
            await self.end()
        if self._process is not None:
            return
        greeting = await self._greeting()
        await self._spawn()
        try:
            await self._answer(greeting, _START_SECONDS)
        except TrunklineError:
            await self.end()
            raise

    async def ask(self, message: msgspec.Struct) -> str:
        """The worker's answer; starts a worker where there is none.

        Raises the error that the worker answers with, `TooSlow`, `Died`, and `InternalError` where
        no process can be started. Cancelled, it kills the worker.
        """
        await self.start()
        return await self._answer(message, self._limits.wall_seconds)

    async def end(self) -> int:
        """Kill the worker; its return code tells who was first."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                if process.stdin is not None:
                    process.stdin.close()
                return await process.wait()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()

    async def _spawn(self) -> None:
        limits = self._limits
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self._module),
                *(str(limits.cpu_seconds), str(limits.memory_bytes)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, **self._env},
            )
        except OSError as error:
            raise InternalError(f"{self._module} cannot start: {error}") from error

    async def _answer(self, message: msgspec.Struct, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                answer = await self._exchange(message)
        except (EOFError, OSError, RuntimeError, TimeoutError, msgspec.DecodeError) as error:
            # RuntimeError: uvloop's, for writing to a pipe whose reader is gone.
            code = await self.end()
            if code == -signal.SIGPROF or isinstance(error, TimeoutError):
                raise TooSlow(f"takes more than {self._limits.cpu_seconds:g} s") from error
            raise Died(code) from error
        except asyncio.CancelledError:
            # Its answer would be taken for that of the next question.
            await self.end()
            raise
        if answer.error is not None:
            raise from_info(answer.error)
        return answer.text

    async def _exchange(self, message: msgspec.Struct) -> Answer:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pack(self._encoder.encode(message)))
        await process.stdin.drain()
        size = int.from_bytes(await process.stdout.readexactly(4), "little")
        if size > MAX_FRAME:
            raise EOFError("the worker's answer is too large")
        return self._decoder.decode(await process.stdout.readexactly(size))


def serve(messages: Any, answer: Callable[[Any], str]) -> None:
    """The child's side: answer every message on stdin, until it ends.

    `messages` is the union of the structs that may come. `answer` gives the text, or raises
    `TrunklineError` for the one who asked.
    """
    die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds, memory = float(sys.argv[1]), int(sys.argv[2])
    _limit_memory(memory)
    encoder = msgspec.msgpack.Encoder()
    decoder = msgspec.msgpack.Decoder(messages)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while (data := _receive(source)) is not None:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        frame = _encoded(encoder, _answered(answer, decoder.decode(data)))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sink.write(pack(frame))
        sink.flush()


def _answered(answer: Callable[[Any], str], message: Any) -> Answer:
    try:
        return Answer(answer(message))
    except TrunklineError as error:
        return Answer("", error.info())


def _encoded(encoder: msgspec.msgpack.Encoder, answer: Answer) -> bytes:
    # Within the limits too: the text may be long, and may hold a lone surrogate.
    try:
        return encoder.encode(answer)
    except (UnicodeEncodeError, MemoryError) as error:
        problem = InvalidRequest(f"the result cannot be used: {error}")
        return encoder.encode(Answer("", problem.info()))


def _receive(stream: BinaryIO) -> bytes | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    return stream.read(int.from_bytes(head, "little"))


def _limit_memory(limit: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    except (ValueError, OSError):
        # macOS refuses; processor time still bounds what can be filled.
        return
