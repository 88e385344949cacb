"""The front's side of the grammar worker: bounded, cached, and one worker for all requests."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable

from trunkline.core.errors import (
    InternalError,
    InvalidRequest,
    QueueFull,
    TrunklineError,
    Unavailable,
    from_info,
)
from trunkline.core.types import Grammar
from trunkline.engine.bounded_worker import Answer, BoundedWorker, Died, Limits, TooSlow
from trunkline.engine.grammar.messages import Check, Configure, Outline

# Processor seconds for one grammar; a large schema takes some 0.1 s.
_CPU_SECONDS = 2.0
# Address space of the worker; an idle one uses 40 MB of it.
_MEMORY_BYTES = 1 << 30
_WALL_SECONDS = 20.0
# Grammars that may wait; about 2 s each at worst.
_MAX_WAITING = 64
# Of the cache: results, and characters of source in all.
_CACHE_RESULTS = 512
_CACHE_CHARACTERS = 16 * 1024 * 1024


class _Results:
    """The results used last, good and bad."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Answer] = OrderedDict()
        self._characters = 0

    def get(self, key: bytes) -> Answer | None:
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def put(self, key: bytes, result: Answer) -> None:
        self._known[key] = result
        self._characters += len(result.text)
        while len(self._known) > _CACHE_RESULTS or self._characters > _CACHE_CHARACTERS:
            _, old = self._known.popitem(last=False)
            self._characters -= len(old.text)


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
        self._worker = BoundedWorker(
            "trunkline.engine.grammar.worker",
            self._greeting,
            Limits(cpu_seconds, memory_bytes, _WALL_SECONDS),
            env={"RAYON_NUM_THREADS": "1"},
        )
        self._configure: Configure | None = None
        self._results = _Results()
        self._queue: asyncio.Queue[tuple[bytes, Grammar]] = asyncio.Queue(max_waiting)
        self._pending: dict[bytes, asyncio.Future[Answer]] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def worker_pid(self) -> int:
        """Process id of the worker; 0 while there is none."""
        return self._worker.pid

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
        return result.text

    async def close(self) -> None:
        """End the worker; checks under way fail with `Unavailable`, and so do later ones."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._abandon()
        await self._worker.end()

    def _enqueue(self, key: bytes, grammar: Grammar) -> asyncio.Future[Answer]:
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
            future.set_result(Answer("", _gone().info()))
        self._pending.clear()

    async def _result(self, key: bytes, grammar: Grammar) -> Answer:
        try:
            result = Answer(await self._checked(grammar))
        except InvalidRequest as error:
            result = Answer("", error.info())
        except TrunklineError as error:
            # A fault of ours; the next one may have more luck.
            return Answer("", error.info())
        self._results.put(key, result)
        return result

    async def _checked(self, grammar: Grammar) -> str:
        """The source. A worker that dies of a grammar is buried; the next call starts one."""
        try:
            await self._worker.start()
        except (TooSlow, Died) as error:
            raise InternalError(f"the grammar worker {error}") from error
        try:
            return await self._worker.ask(Check(grammar))
        except TooSlow as error:
            raise _too_much(grammar, f"{error} to compile") from error
        except Died as error:
            why = "takes too much memory, or nests too deeply, to be compiled"
            raise _too_much(grammar, why) from error

    async def _greeting(self) -> Configure:
        if self._configure is None:
            self._configure = Configure(await asyncio.to_thread(self._outline))
        return self._configure


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


def _too_much(grammar: Grammar, why: str) -> InvalidRequest:
    return InvalidRequest(f"the {grammar.kind} {why}", param=grammar.kind)
