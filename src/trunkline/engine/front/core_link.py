"""The core seen from the front: its process, the socket to it, and its restarts."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from trunkline.core.errors import InternalError, TrunklineError, from_info
from trunkline.core.supervise import Backoff, Child
from trunkline.core.types import Health
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import (
    CoreFailed,
    CoreLoading,
    CoreReady,
    FrameTooLarge,
    Framing,
    FromCore,
    StepFrame,
    StopCore,
    ToCore,
    pack,
)

log = logging.getLogger("trunkline.front")

# Seconds that loading a model may take.
_LOAD_TIMEOUT = 1800.0
# Deaths without a word before the first `CoreReady`, after which loading counts as impossible.
_FIRST_TRIES = 3
# Seconds for the rest of a dead core's messages, and for a core without a socket to end.
_DRAIN = 1.0
# Seconds that a core may take to end in good order.
_STOP_GRACE = 2.0
# Seconds that the watchdog may look too late. Later than that, this process had no processor.
_LATE = 1.0


class CoreHandler(Protocol):
    """What the link tells its owner, on the event loop."""

    def on_step(self, frame: StepFrame) -> None:
        """The core finished a step."""

    def on_core_lost(self, reason: str) -> None:
        """The core died; groups it had are gone. `reason` is half a sentence."""

    def on_health(self) -> None:
        """`CoreLink.health` changed."""

    @property
    def busy(self) -> bool:
        """True while the core has work."""


class CoreLoadFailed(Exception):
    """The model cannot be loaded; starting again would not help."""

    def __init__(self, error: TrunklineError) -> None:
        super().__init__(error.message)
        self.error = error


def core_argv(fd: int, config: EngineConfig) -> Sequence[str]:
    """Command line of the core."""
    config_json = msgspec.json.encode(config).decode()
    return (
        *(sys.executable, "-m", "trunkline.engine.core_process"),
        *("--fd", str(fd), "--config", config_json),
    )


class _Socket(asyncio.Protocol):
    """Frames from the core, handed to the link."""

    def __init__(self, link: CoreLink) -> None:
        self._link = link
        self._framing = Framing()
        self._decoder: msgspec.msgpack.Decoder[FromCore] = msgspec.msgpack.Decoder(FromCore)
        self.closed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._framing.feed(data):
                self._link.on_message(self._decoder.decode(payload))
        except (FrameTooLarge, msgspec.DecodeError) as error:
            self._link.on_nonsense(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()


class CoreLink:
    """Starts the core, restarts it with back-off, watches its progress.

    `run` is the task that owns all of it. `ready` is None whenever no request can be sent.
    """

    def __init__(
        self,
        config: EngineConfig,
        handler: CoreHandler,
        argv: Callable[[int, EngineConfig], Sequence[str]] = core_argv,
    ) -> None:
        self._config = config
        self._handler = handler
        self._argv = argv
        self._backoff = Backoff()
        self._child: Child | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._encoder = msgspec.msgpack.Encoder()
        self._failure: TrunklineError | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        # When the watchdog looks next, by the monotonic clock.
        self._due = 0.0
        self._progress = 0.0
        self._step = -1
        self._unanswered = False
        self._changed = asyncio.Event()
        self.ready: CoreReady | None = None
        # What the last core said when it had loaded the model; outlives that core.
        self.loaded: CoreReady | None = None
        self.health = Health("starting", "the engine is starting")
        self.restarts = 0
        # Seconds that the last load took, with the pause before it; 0 before the first.
        self.start_seconds = 0.0

    @property
    def pid(self) -> int:
        """Process id of the core; 0 when there is none."""
        child = self._child
        return child.pid if child is not None and child.returncode is None else 0

    async def run(self) -> None:
        """Keep a core running until cancelled. Raises `CoreLoadFailed`."""
        tries = 0
        try:
            while True:
                begun = time.monotonic()
                code = await self._one_life()
                tries += 1
                self._give_up_if_hopeless(code, tries)
                delay = self._backoff.after(time.monotonic() - begun)
                reason = self._reason(code)
                log.error("core of %s: %s; again in %.1f s", self._config.name, reason, delay)
                self._failure = None
                self.restarts += 1
                self._set_health(Health("restarting", reason))
                self._handler.on_core_lost(reason)
                await asyncio.sleep(delay)
        finally:
            self._disarm()

    async def wait_ready(self, timeout: float) -> CoreReady | None:
        """Wait, at most `timeout` seconds, until requests can be sent; None when they cannot."""
        try:
            async with asyncio.timeout(timeout):
                while self.ready is None and self.health.state != "failed":
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.ready

    def send(self, message: ToCore) -> None:
        """Send one message; it is lost when the core is gone (as its groups are)."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(pack(self._encoder.encode(message)))
        if not (self._unanswered or self._handler.busy):
            # The clock starts with the first thing there is to do.
            self._progress = time.monotonic()
        self._unanswered = True
        if self._watchdog is None:
            self._arm(self._config.step_timeout)

    async def stop(self) -> None:
        """End the core in good order, or by force after a moment. `run` must be cancelled first."""
        self.ready = None
        child = self._child
        self.send(StopCore())
        self._disarm()
        if child is not None and child.returncode is None:
            try:
                async with asyncio.timeout(_STOP_GRACE):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()
        if self._transport is not None:
            self._transport.abort()

    # one life

    async def _one_life(self) -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            child = Child(self._argv(theirs.fileno(), self._config), pass_fds=(theirs.fileno(),))
            self._child = child
            try:
                await child.start()
            except OSError as error:
                ours.close()
                self._failure = InternalError(f"the engine process cannot start: {error}")
                return -1
        loop = asyncio.get_running_loop()
        # The limit covers loading; afterwards the watchdog takes over.
        load_limit = loop.call_later(_LOAD_TIMEOUT, self._kill_unless_ready, child)
        transport, protocol = await loop.create_unix_connection(lambda: _Socket(self), sock=ours)
        self._transport = transport
        socket_gone = loop.create_task(protocol.closed.wait())
        exited = loop.create_task(child.wait())
        try:
            await asyncio.wait((socket_gone, exited), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((socket_gone, exited), timeout=_DRAIN)
            child.kill()
            return await exited
        finally:
            load_limit.cancel()
            self.ready = None
            socket_gone.cancel()
            # Not done: this task was cancelled, and `stop` still has something to say.
            if not exited.cancel():
                transport.abort()

    def _kill_unless_ready(self, child: Child) -> None:
        if self.ready is None:
            log.error("core of %s did not load in %g s", self._config.name, _LOAD_TIMEOUT)
            child.kill()

    def _reason(self, code: int) -> str:
        if self.health.state == "stalled":
            return self.health.detail
        if self._failure is not None:
            return f"the engine failed: {self._failure.message}"
        if code < 0:
            return f"the engine process was killed by signal {-code}"
        return f"the engine process ended with status {code}"

    def _give_up_if_hopeless(self, code: int, tries: int) -> None:
        if self.loaded is not None:
            return
        error = self._failure
        if error is None and tries >= _FIRST_TRIES:
            error = InternalError(
                f"{self._reason(code)} while it loaded the model, {tries} times in a row"
            )
        if error is not None:
            self._set_health(Health("failed", error.message))
            raise CoreLoadFailed(error)

    # messages

    def on_message(self, message: FromCore) -> None:
        """Called by the socket."""
        match message:
            case StepFrame():
                self._note_progress(message)
                self._handler.on_step(message)
            case CoreReady():
                self.ready = self.loaded = message
                self.start_seconds = message.load_seconds
                self._set_health(Health("ready"))
            case CoreLoading():
                state = self.health.state
                self._set_health(Health(state, f"loading the model, {message.progress:.0%}"))
            case CoreFailed():
                self._failure = from_info(message.error)

    def on_nonsense(self, error: Exception) -> None:
        """Called by the socket: what the core says cannot be read, so it is of no use."""
        log.critical("bad message from the core of %s: %s", self._config.name, error)
        self.ready = None
        if self._child is not None:
            self._child.kill()

    def _set_health(self, health: Health) -> None:
        if health != self.health:
            self.health = health
            self._changed.set()
            self._handler.on_health()

    # progress

    def _note_progress(self, frame: StepFrame) -> None:
        self._unanswered = False
        # A core that cannot plan reports the same step again and again.
        if frame.step != self._step or not self._handler.busy:
            self._step = frame.step
            self._progress = time.monotonic()

    def _arm(self, delay: float) -> None:
        self._due = time.monotonic() + delay
        self._watchdog = asyncio.get_running_loop().call_later(delay, self._check)

    def _disarm(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _check(self) -> None:
        self._watchdog = None
        if self.ready is None or not (self._unanswered or self._handler.busy):
            return
        now = time.monotonic()
        late = now - self._due
        if late > _LATE:
            # This process was stopped, and maybe the core as well: that time does not count, and
            # what the core has said meanwhile is read first.
            self._progress += late
        left = self._progress + self._config.step_timeout - now
        if left > 0 or late > _LATE:
            self._arm(max(left, _LATE))
            return
        detail = f"the engine made no progress for {self._config.step_timeout:g} s"
        log.critical("core of %s: %s; killing it", self._config.name, detail)
        self.ready = None
        self._set_health(Health("stalled", detail))
        assert self._child is not None
        self._child.kill()
