"""The core: one process, one model, token ids in and token ids out.

    python -m trunkline.engine.core_process --fd N --config JSON

`fd` is a connected Unix socket to the front. One thread plans, collects and sends; the executor
computes on threads of its own that hold no GIL. When there is nothing to do the core sleeps in
`select` on that socket; when the socket closes it ends.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable

import msgspec

from trunkline.core.errors import InternalError, TrunklineError
from trunkline.core.lineage import die_with_parent
from trunkline.engine.config import EngineConfig
from trunkline.engine.executors import load_executor
from trunkline.engine.frames import (
    AbortRows,
    AddGroup,
    CoreFailed,
    CoreLoading,
    CoreReady,
    Framing,
    FromCore,
    GroupFailed,
    StepFrame,
    StopCore,
    ToCore,
    pack,
)
from trunkline.engine.grammar.gate import GrammarGate
from trunkline.engine.scheduler import Outcome, Scheduler, SchedulerLimits
from trunkline.engine.seam import Executor, ExecutorFailed, StepLost, Ticket

log = logging.getLogger("trunkline.core")

# Seconds between two looks at the process's memory.
_MEMORY_PERIOD = 1.0
# Seconds to wait when there is work but nothing can be planned (memory held by open tickets).
_BLOCKED_WAIT = 0.01


class FrontLink:
    """The socket to the front: blocking writes, reads that wait only as long as asked."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._framing = Framing()
        self._decoder = msgspec.msgpack.Decoder(ToCore)
        self._encoder = msgspec.msgpack.Encoder()

    def send(self, message: FromCore) -> None:
        """Write one frame. Raises OSError when the front is gone."""
        self._socket.sendall(pack(self._encoder.encode(message)))

    def receive(self, timeout: float | None) -> list[ToCore]:
        """All messages at hand, after waiting at most `timeout` seconds (None: for ever).

        Raises `EOFError` when the front has closed.
        """
        messages: list[ToCore] = []
        while select.select([self._socket], [], [], timeout)[0]:
            data = self._socket.recv(1 << 20)
            if not data:
                raise EOFError
            messages += [self._decoder.decode(payload) for payload in self._framing.feed(data)]
            timeout = 0.0 if messages else timeout
        return messages


class Core:
    """Scheduler, executor and link, and the loop that ties them."""

    def __init__(self, executor: Executor, scheduler: Scheduler, link: FrontLink) -> None:
        self._executor = executor
        self._scheduler = scheduler
        self._link = link
        capabilities = executor.capabilities
        self._grammars = GrammarGate(executor.tokenizer, capabilities.max_outputs)
        self._runs_ahead = capabilities.run_ahead > 0
        # Launched and not collected.
        self._ticket: Ticket | None = None
        self._refused: list[GroupFailed] = []
        self._steps = 0
        # Steps at the last look at the accounts.
        self._checked = 0
        self._resident = (0.0, 0)

    def run(self) -> None:
        """Serve until the front says stop. Raises `ExecutorFailed`, `EOFError`, OSError."""
        blocked = False
        while True:
            self._check_when_idle()
            messages = self._link.receive(self._patience(blocked))
            if not self._apply(messages):
                return
            blocked = not self.step() and not messages

    def _check_when_idle(self) -> None:
        """Memory adds up, or this core ends: what it holds cannot be trusted any more."""
        idle = self._ticket is None and not self._scheduler.has_work
        if not idle or self._steps == self._checked:
            return
        self._checked = self._steps
        try:
            self._scheduler.check()
        except AssertionError as error:
            raise ExecutorFailed(f"the memory accounts are wrong: {error}") from error

    def _patience(self, blocked: bool) -> float | None:
        if self._ticket is not None:
            return 0.0
        if self._scheduler.has_work:
            return _BLOCKED_WAIT if blocked else 0.0
        return _BLOCKED_WAIT if self._grammars.parked else None

    def step(self) -> bool:
        """Launch what can be planned, collect what is due, tell the front. False: nothing to do.

        Masks come after the plan before has been collected, beside the pass that was launched.
        """
        for group in self._grammars.ready():
            self._add(group)
        plan = self._scheduler.plan()
        launched = self._executor.launch(plan) if plan is not None else None
        outcome = self._collect()
        if plan is not None and launched is not None:
            self._executor.sample(launched, self._grammars.masks(plan))
            self._ticket = launched
            if not self._runs_ahead:
                outcome = self._collect()
        self._report(outcome)
        return plan is not None or bool(outcome.outputs)

    def _collect(self) -> Outcome:
        """What came of the plan that is under way, if there is one."""
        ticket, self._ticket = self._ticket, None
        if ticket is None:
            return Outcome()
        self._steps += 1
        try:
            outcome = self._scheduler.update(self._executor.collect(ticket))
        except StepLost as lost:
            log.warning("step %d lost: %s", ticket.step, lost)
            outcome = self._scheduler.lost(lost.keys)
        return self._grammars.follow(outcome, self._scheduler.abort)

    def _add(self, group: AddGroup) -> None:
        error = self._scheduler.add(group)
        if error is not None:
            self._grammars.forget(group.group)
            self._refused.append(GroupFailed(group.group, error))

    def _apply(self, messages: list[ToCore]) -> bool:
        for message in messages:
            match message:
                case AddGroup(grammar=None):
                    self._add(message)
                case AddGroup():
                    error = self._grammars.park(message)
                    if error is not None:
                        self._refused.append(GroupFailed(message.group, error))
                case AbortRows():
                    self._grammars.forget(message.group, message.row)
                    self._scheduler.abort(message.group, message.row)
                case StopCore():
                    return False
        return True

    def _report(self, outcome: Outcome) -> None:
        failed = (*self._refused, *outcome.failed)
        self._refused.clear()
        stats = msgspec.structs.replace(
            self._scheduler.stats(), steps=self._steps, resident_bytes=self._memory()
        )
        self._link.send(
            StepFrame(self._steps, outcome.outputs, outcome.started, failed, stats, outcome.prompts)
        )

    def _memory(self) -> int:
        now = time.monotonic()
        if now - self._resident[0] > _MEMORY_PERIOD:
            self._resident = (now, resident_bytes())
        return self._resident[1]


def resident_bytes() -> int:
    """Resident memory of this process in bytes; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _progress(link: FrontLink) -> Callable[[float], None]:
    """Report each full twentieth once."""
    sent = 0

    def report(progress: float) -> None:
        nonlocal sent
        if int(progress * 20) > sent:
            sent = int(progress * 20)
            link.send(CoreLoading(progress))

    return report


def _start(config: EngineConfig, link: FrontLink) -> Core:
    begun = time.monotonic()
    executor = load_executor(config, _progress(link))
    capabilities = executor.capabilities
    limits = SchedulerLimits(
        max_num_seqs=min(config.max_num_seqs, capabilities.max_outputs, capabilities.sequences),
        max_queue=config.max_queue,
        max_step_seconds=config.max_step_ms / 1000,
        prefix_cache=config.prefix_cache,
    )
    scheduler = Scheduler(capabilities, limits)
    link.send(
        CoreReady(
            context=scheduler.context,
            kv_tokens=capabilities.kv_tokens,
            sequences=capabilities.sequences,
            kv_bytes_per_token=capabilities.kv_bytes_per_token,
            executor=type(executor).__name__,
            load_seconds=time.monotonic() - begun,
        )
    )
    return Core(executor, scheduler, link)


def main() -> int:
    """Entry of the process; the return value is its exit status."""
    parser = argparse.ArgumentParser(prog="trunkline-core", description=__doc__)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--config", required=True)
    arguments = parser.parse_args()
    die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=os.environ.get("TRUNKLINE_LOG_LEVEL", "WARNING"))
    config = msgspec.json.decode(arguments.config, type=EngineConfig)
    link = FrontLink(socket.socket(fileno=arguments.fd))
    try:
        _start(config, link).run()
    except TrunklineError as error:
        link.send(CoreFailed(error.info()))
        return 1
    except ExecutorFailed as error:
        log.critical("the executor cannot go on: %s", error)
        link.send(CoreFailed(InternalError(f"the engine failed: {error}").info()))
        return 1
    except (EOFError, BrokenPipeError, ConnectionResetError):
        log.info("the front is gone")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
