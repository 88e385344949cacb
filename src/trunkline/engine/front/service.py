"""The front: requests come in over connections, groups go to the core, events go back."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from trunkline.core.errors import (
    Cancelled,
    EngineCrashed,
    InternalError,
    InvalidRequest,
    QueueFull,
    TrunklineError,
    Unavailable,
)
from trunkline.core.types import Event, Failed, Request
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import (
    AbortRows,
    CancelRequest,
    CoreReady,
    CoreStats,
    CountTokens,
    DetokenizeIds,
    FrontStatus,
    GroupStarted,
    PromptScores,
    RowOutput,
    StepFrame,
    StopFront,
    Submit,
    ToFront,
    TokenizePrompt,
)
from trunkline.engine.front.connection import GatewayConnection
from trunkline.engine.front.core_link import CoreLink, CoreLoadFailed, core_argv
from trunkline.engine.front.model_file import Reading, begin
from trunkline.engine.front.model_text import ModelText, load_model_text
from trunkline.engine.front.prepare import Preparer
from trunkline.engine.front.questions import Question, Questions
from trunkline.engine.front.requests import GroupState

log = logging.getLogger("trunkline.front")

# What a core tells of a group.
_Note = GroupStarted | PromptScores | RowOutput
# Seconds that a request waits for a core that is starting; a longer start is refused at once.
_PATIENCE = 5.0
# Seconds between two statuses that differ in counters only.
_STATUS_PERIOD = 1.0
# Threads that tokenize long prompts.
_TOKENIZING_THREADS = 2
# Seconds for the last bytes to a gateway when the front ends.
_GOODBYE = 1.0


class _Entry:
    """A request from its arrival to its last event."""

    def __init__(self, connection: GatewayConnection, request: Request) -> None:
        self.connection = connection
        self.request = request
        self.arrived = time.monotonic()
        # Until the core has it.
        self.task: asyncio.Task[None] | None = None
        # From then on.
        self.number = -1
        self.state: GroupState | None = None


class Front:
    """Implements `CoreHandler` and `ConnectionHandler`; `run` owns everything.

    Invariants: an entry is in its connection's table until its last event has been delivered, and
    in `_groups` while the core has it.
    """

    def __init__(
        self,
        config: EngineConfig,
        argv: Callable[[int, EngineConfig], Sequence[str]] = core_argv,
        reading: Reading | None = None,
    ) -> None:
        """`reading`: of the model's file, where that has begun already."""
        self._config = config
        self._reading = reading
        self._link = CoreLink(config, self, argv)
        self._threads = ThreadPoolExecutor(_TOKENIZING_THREADS, "tokenize")
        self._text: ModelText | None = None
        self._preparer: Preparer | None = None
        self._questions = Questions(self._loaded)
        self._text_loaded = asyncio.Event()
        self._connections: dict[GatewayConnection, dict[str, _Entry]] = {}
        self._groups: dict[int, _Entry] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stats = CoreStats()
        self._stats_timer: asyncio.TimerHandle | None = None
        self._draining = False
        self._failure: TrunklineError | None = None
        self._stop = asyncio.Event()
        self._grace = 0.0
        self._emptied = asyncio.Event()
        self._met = asyncio.Event()

    # life

    def connection(self) -> GatewayConnection:
        """A new connection; the protocol factory of the listening socket."""
        return GatewayConnection(self, self._config.max_stream_buffer)

    async def run(self) -> None:
        """Serve until `stop`. Raises `TrunklineError` when the model cannot be loaded."""
        link = asyncio.create_task(self._link.run(), name="core")
        text = asyncio.create_task(self._load_text(), name="text")
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            # The core's task only ends by failing; that of the text only matters if it fails.
            await asyncio.wait((link, text, stop), return_when=asyncio.FIRST_COMPLETED)
            if text.done() and text.exception() is None:
                await asyncio.wait((link, stop), return_when=asyncio.FIRST_COMPLETED)
            for task in (link, text):
                if task.done():
                    self._note_failure(task.exception())
            if self._failure is None:
                await self._drain()
        finally:
            await self._end((link, text, stop))
        if self._failure is not None:
            raise self._failure

    def stop(self, grace: float) -> None:
        """Finish what is in flight for at most `grace` seconds, then end `run`."""
        if not self._draining:
            self._draining = True
            self._grace = grace
            self._stop.set()
            self._tell_status()

    async def _load_text(self) -> None:
        text = await load_model_text(self._config, self._reading or begin(self._config))
        self._text = text
        self._preparer = Preparer(self._config, text, self._threads)
        self._text_loaded.set()
        self._tell_status()

    def _note_failure(self, error: BaseException | None) -> None:
        if error is None:
            return
        if isinstance(error, CoreLoadFailed):
            error = error.error
        if not isinstance(error, TrunklineError):
            log.critical("the front failed", exc_info=error)
            error = InternalError(f"the front failed: {type(error).__name__}: {error}")
        self._failure = self._failure or error

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._grace):
                while any(self._connections.values()):
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            log.info("requests in flight are cut off: the time to finish them is over")

    async def _end(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        self._draining = True
        error = self._failure or Unavailable("the server is shutting down", retry_after=1.0)
        self._fail_all(error)
        for task in (*tasks, *self._tasks):
            task.cancel()
        await asyncio.gather(*tasks, *self._tasks, return_exceptions=True)
        await self._link.stop()
        if self._text is not None:
            await self._text.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        """Let the last status and events reach a gateway, also one that is about to connect."""
        try:
            async with asyncio.timeout(_GOODBYE):
                if self._failure is not None:
                    await self._met.wait()
                self._tell_status()
                for connection in self._connections:
                    connection.close()
                while self._connections:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.abort()
        if self._stats_timer is not None:
            self._stats_timer.cancel()

    # status

    def status(self) -> FrontStatus:
        """What gateways are told."""
        state, detail = self._state()
        core = self._link.loaded
        card = None
        if core is not None and self._text is not None:
            card = self._text.card(self._config, core)
        return FrontStatus(
            state,
            detail,
            card,
            self._stats,
            self._link.restarts,
            core.executor if core is not None else "",
            self._link.pid,
        )

    def _state(self) -> tuple[str, str]:
        if self._failure is not None:
            return "failed", self._failure.message
        if self._draining:
            return "draining", "the server is shutting down"
        if self._link.ready is not None and self._text is None:
            return "starting", "loading the tokenizer"
        return self._link.health.state, self._link.health.detail

    def _tell_status(self) -> None:
        if self._stats_timer is not None:
            self._stats_timer.cancel()
            self._stats_timer = None
        status = self.status()
        for connection in self._connections:
            connection.tell(status)

    # CoreHandler

    @property
    def busy(self) -> bool:
        """True while the core has groups of ours."""
        return bool(self._groups)

    def on_health(self) -> None:
        """Starting, ready, stalled, restarting."""
        self._tell_status()

    def on_core_lost(self, reason: str) -> None:
        """Fail what the core had; what it had not yet seen waits for the next core."""
        self._stats = CoreStats()
        error = EngineCrashed(
            f"{reason}; this request was in flight. The engine is being restarted, try again",
            retry_after=1.0,
        )
        for entry in tuple(self._groups.values()):
            self._fail(entry, error)
        self._tell_status()

    def on_step(self, frame: StepFrame) -> None:
        """One step's tokens to events: one batch for each connection."""
        now = time.monotonic()
        batches: dict[GatewayConnection, list[Event]] = {}
        notes: list[_Note] = [*frame.started, *frame.prompts, *frame.outputs]
        for note in notes:
            entry = self._groups.get(note.group)
            if entry is not None:
                batches.setdefault(entry.connection, []).extend(self._take(entry, note, now))
        for gone in frame.failed:
            entry = self._groups.pop(gone.group, None)
            if entry is not None:
                self._forget(entry)
                event = Failed(entry.request.id, gone.error)
                batches.setdefault(entry.connection, []).append(event)
        for connection, events in batches.items():
            if events:
                connection.deliver(events)
        self._note_stats(frame.stats)

    def _take(self, entry: _Entry, note: _Note, now: float) -> Sequence[Event]:
        """Events of one request; whatever goes wrong fails this one and no other."""
        state = entry.state
        assert state is not None
        try:
            if isinstance(note, GroupStarted):
                return state.started(note)
            if isinstance(note, PromptScores):
                return state.scored(note)
            taken = state.take(note, now)
        except Exception as problem:
            error = problem
            if not isinstance(error, TrunklineError):
                log.exception("request %s", entry.request.id)
                error = InternalError(f"the output cannot be shown: {problem}")
            self._link.send(AbortRows(entry.number))
            self._forget(entry)
            return (Failed(entry.request.id, error.info()),)
        if taken.abort:
            self._link.send(AbortRows(note.group, note.row))
        if state.finished:
            self._forget(entry)
        return taken.events

    def _note_stats(self, stats: CoreStats) -> None:
        if stats != self._stats:
            self._stats = stats
            if self._stats_timer is None:
                loop = asyncio.get_running_loop()
                self._stats_timer = loop.call_later(_STATUS_PERIOD, self._tell_status)

    # ConnectionHandler

    def on_connected(self, connection: GatewayConnection) -> None:
        """Greet with the status."""
        self._connections[connection] = {}
        self._met.set()
        connection.tell(self.status())

    def on_disconnected(self, connection: GatewayConnection) -> None:
        """Nobody waits for its requests any more."""
        for entry in tuple(self._connections[connection].values()):
            self._abort(entry)
        del self._connections[connection]
        self._emptied.set()

    def on_overflow(self, connection: GatewayConnection, request_id: str) -> None:
        """A reader is too slow: its request ends."""
        entry = self._connections[connection].get(request_id)
        error = Cancelled(
            f"the reader fell more than {self._config.max_stream_buffer} bytes behind"
        )
        if entry is not None:
            self._fail(entry, error)
        else:
            connection.deliver((Failed(request_id, error.info()),))

    def on_message(self, connection: GatewayConnection, message: ToFront) -> None:
        """Begin, cancel, count or stop."""
        match message:
            case Submit(request):
                self._submit(connection, request)
            case CancelRequest(request_id):
                entry = self._connections[connection].get(request_id)
                if entry is not None:
                    self._abort(entry)
                    connection.drop(request_id)
            case CountTokens() | TokenizePrompt() | DetokenizeIds():
                self._own(self._answer(connection, message))
            case StopFront(grace):
                self.stop(grace)

    # requests

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _submit(self, connection: GatewayConnection, request: Request) -> None:
        entries = self._connections[connection]
        problem = self._refusal(entries, request)
        if problem is not None:
            connection.deliver((Failed(request.id, problem.info()),))
            return
        entry = entries[request.id] = _Entry(connection, request)
        entry.task = self._own(self._begin(entry))

    def _refusal(self, entries: dict[str, _Entry], request: Request) -> TrunklineError | None:
        if self._draining:
            return Unavailable("the server is shutting down", retry_after=1.0)
        if request.id in entries:
            return InvalidRequest(f"request id {request.id!r} is in use")
        most = self._config.max_queue + self._config.max_num_seqs
        if sum(map(len, self._connections.values())) >= most:
            return QueueFull(f"{most} requests are under way; try again", retry_after=1.0)
        return None

    async def _begin(self, entry: _Entry) -> None:
        """Render, tokenize, check, and hand to the core."""
        try:
            preparer = await self._loaded()
            core = await self._core()
            prompt = await preparer.prompt(entry.request, core.context)
            shape = await preparer.shaper.shape(entry.request, prompt.text)
            number = next(self._numbers)
            message = preparer.group(
                number, entry.request, prompt.token_ids, core, entry.arrived, shape.grammar
            )
            tokens = len(prompt.token_ids)
            state = GroupState(
                entry.request, preparer.tokenizer, tokens, entry.arrived, shape, prompt.token_ids
            )
        except TrunklineError as error:
            self._fail(entry, error)
        except Exception as error:
            log.exception("request %s", entry.request.id)
            self._fail(entry, InternalError(f"the request cannot be prepared: {error}"))
        else:
            # Sent first: the link takes note whether the core was idle before.
            self._link.send(message)
            entry.number, entry.state, entry.task = number, state, None
            self._groups[number] = entry

    async def _loaded(self) -> Preparer:
        if self._preparer is None:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._text_loaded.wait()
            except TimeoutError:
                raise self._unavailable() from None
        assert self._preparer is not None
        return self._preparer

    async def _core(self) -> CoreReady:
        ready = self._link.ready
        if ready is None and self._link.start_seconds < _PATIENCE:
            ready = await self._link.wait_ready(_PATIENCE)
        if ready is None:
            raise self._unavailable()
        return ready

    def _unavailable(self) -> Unavailable:
        state, detail = self._state()
        return Unavailable(
            f"model {self._config.name!r} is {state}: {detail}",
            retry_after=max(1.0, float(round(self._link.start_seconds))),
        )

    async def _answer(self, connection: GatewayConnection, question: Question) -> None:
        connection.tell(await self._questions.answer(question))

    def _fail(self, entry: _Entry, error: TrunklineError) -> None:
        """The last event of a request that does not succeed."""
        self._abort(entry)
        entry.connection.deliver((Failed(entry.request.id, error.info()),))

    def _fail_all(self, error: TrunklineError) -> None:
        for entries in self._connections.values():
            for entry in tuple(entries.values()):
                self._fail(entry, error)

    def _abort(self, entry: _Entry) -> None:
        """Stop the work for a request, wherever it is."""
        if entry.number in self._groups:
            self._link.send(AbortRows(entry.number))
        self._forget(entry)

    def _forget(self, entry: _Entry) -> None:
        if entry.task is not None and entry.task is not asyncio.current_task():
            entry.task.cancel()
        self._groups.pop(entry.number, None)
        entries = self._connections.get(entry.connection, {})
        entries.pop(entry.request.id, None)
        self._emptied.set()
