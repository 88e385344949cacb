"""The front's side of the grammar worker: bounded, cached, and one worker for all requests."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from trunkline.core.errors import (
    ErrorInfo,
    InternalError,
    InvalidRequest,
    QueueFull,
    TrunklineError,
    Unavailable,
    from_info,
)
from trunkline.core.types import Grammar
from trunkline.engine.frames import MAX_FRAME, pack
from trunkline.engine.grammar.messages import Check, Checked, Configure, Outline, ToWorker

# Processor seconds for one grammar; a large schema takes some 0.1 s.
_CPU_SECONDS = 2.0
# Address space of the worker; an idle one uses 40 MB of it.
_MEMORY_BYTES = 1 << 30
# Seconds of wall-clock time after which the worker is killed although the kernel did not do it.
_WALL_SECONDS = 20.0
# Seconds for the worker to start, on a machine that is busy loading a model.
_START_SECONDS = 60.0
# Grammars that may wait; about 2 s each at worst.
_MAX_WAITING = 64
# Of the cache: results, and characters of source in all.
_CACHE_RESULTS = 512
_CACHE_CHARACTERS = 16 * 1024 * 1024


class _Results:
    """The results used last, good and bad."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Checked] = OrderedDict()
        self._characters = 0

    def get(self, key: bytes) -> Checked | None:
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def put(self, key: bytes, result: Checked) -> None:
        self._known[key] = result
        self._characters += len(result.source)
        while len(self._known) > _CACHE_RESULTS or self._characters > _CACHE_CHARACTERS:
            _, old = self._known.popitem(last=False)
            self._characters -= len(old.source)


class GrammarCompiler:
    """Owns the worker, which starts with the first grammar, and the task that talks to it."""

    def __init__(
        self,
        outline: Callable[[], Outline],
        *,
        cpu_seconds: float = _CPU_SECONDS,
        memory_bytes: int = _MEMORY_BYTES,
        max_waiting: int = _MAX_WAITING,
    ) -> None:
        """`outline` tells the vocabulary (`vocabulary.outline`); called once, in a thread."""
        self._outline = outline
        self._cpu_seconds = cpu_seconds
        self._memory_bytes = memory_bytes
        self._configure: Configure | None = None
        self._results = _Results()
        self._queue: asyncio.Queue[tuple[bytes, Grammar]] = asyncio.Queue(max_waiting)
        self._pending: dict[bytes, asyncio.Future[Checked]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Checked)

    @property
    def worker_pid(self) -> int:
        """Process id of the worker; 0 while there is none."""
        return self._process.pid if self._process else 0

    async def check(self, grammar: Grammar) -> str:
        """The llguidance source of `grammar`, to be sent to the core.

        Equal grammars are checked once, also when they come together. Raises `InvalidRequest`
        with what is wrong with it, also where it takes too much time or memory; `QueueFull`;
        `InternalError` when no worker can be started; `Unavailable` after `close`.
        """
        key = _key(grammar)
        result = self._results.get(key)
        if result is None:
            result = await asyncio.shield(self._pending.get(key) or self._enqueue(key, grammar))
        if result.error is not None:
            raise from_info(result.error)
        return result.source

    async def close(self) -> None:
        """End the worker; checks under way fail with `Unavailable`, and so do later ones."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._abandon()
        await self._end()

    def _enqueue(self, key: bytes, grammar: Grammar) -> asyncio.Future[Checked]:
        if self._closed or (self._task is not None and self._task.done()):
            raise _gone()
        try:
            self._queue.put_nowait((key, grammar))
        except asyncio.QueueFull as error:
            raise QueueFull("too many grammars wait to be compiled", retry_after=1.0) from error
        loop = asyncio.get_running_loop()
        future = self._pending[key] = loop.create_future()
        if self._task is None:
            self._task = loop.create_task(self._run(), name="grammars")
        return future

    async def _run(self) -> None:
        try:
            while True:
                key, grammar = await self._queue.get()
                result = await self._result(key, grammar)
                self._pending.pop(key).set_result(result)
        finally:
            self._abandon()

    def _abandon(self) -> None:
        """Nobody will answer those who wait."""
        for future in self._pending.values():
            future.set_result(Checked("", _gone().info()))
        self._pending.clear()

    async def _result(self, key: bytes, grammar: Grammar) -> Checked:
        try:
            result = await self._checked(grammar)
        except TrunklineError as error:
            # A fault of ours; the next one may have more luck.
            return Checked("", error.info())
        self._results.put(key, result)
        return result

    async def _checked(self, grammar: Grammar) -> Checked:
        """One exchange. A worker that dies of a grammar is buried; the next call starts one."""
        if self._process is not None and self._process.returncode is not None:
            # It died while it had nothing to do, so this grammar is not to blame.
            await self._end()
        process = self._process or await self._spawn()
        try:
            return await self._exchange(process, Check(grammar), _WALL_SECONDS)
        except (EOFError, OSError, TimeoutError, msgspec.DecodeError) as error:
            code = await self._end()
            if code == -signal.SIGPROF or isinstance(error, TimeoutError):
                why = f"takes more than {self._cpu_seconds:g} s to compile"
            else:
                why = "takes too much memory, or nests too deeply, to be compiled"
            return Checked("", _too_much(grammar, why))

    async def _spawn(self) -> asyncio.subprocess.Process:
        if self._configure is None:
            outline = await asyncio.to_thread(self._outline)
            self._configure = Configure(outline, self._cpu_seconds, self._memory_bytes)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "trunkline.engine.grammar.worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, "RAYON_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise InternalError(f"the grammar worker cannot start: {error}") from error
        self._process = process
        try:
            await self._exchange(process, self._configure, _START_SECONDS)
        except (EOFError, OSError, TimeoutError, msgspec.DecodeError) as error:
            code = await self._end()
            raise InternalError(f"the grammar worker ended with status {code}") from error
        return process

    async def _exchange(
        self, process: asyncio.subprocess.Process, message: ToWorker, seconds: float
    ) -> Checked:
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(seconds):
            process.stdin.write(pack(self._encoder.encode(message)))
            await process.stdin.drain()
            size = int.from_bytes(await process.stdout.readexactly(4), "little")
            if size > MAX_FRAME:
                raise EOFError("the worker's answer is too large")
            return self._decoder.decode(await process.stdout.readexactly(size))

    async def _end(self) -> int:
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


def _key(grammar: Grammar) -> bytes:
    try:
        text = f"{grammar.kind}\0{grammar.value}".encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"the {grammar.kind} is not valid Unicode: it has a lone surrogate", param=grammar.kind
        ) from error
    return hashlib.blake2b(text, digest_size=16).digest()


def _gone() -> TrunklineError:
    return Unavailable("the grammar compiler has ended")


def _too_much(grammar: Grammar, why: str) -> ErrorInfo:
    return InvalidRequest(f"the {grammar.kind} {why}", param=grammar.kind).info()
