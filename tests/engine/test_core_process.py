"""The core's loop over a real socket: steps, grammars, refusals, the end of its front."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from trunkline.core.types import Grammar, SamplingParams
from trunkline.engine.core_process import Core, FrontLink
from trunkline.engine.executors.scripted import Rule, Script, ScriptedExecutor
from trunkline.engine.frames import (
    AbortRows,
    AddGroup,
    Framing,
    FromCore,
    GroupFailed,
    RowGrammar,
    RowOutput,
    StepFrame,
    StopCore,
    ToCore,
    pack,
)
from trunkline.engine.scheduler import Scheduler, SchedulerLimits
from trunkline.text.byte_tokenizer import ByteTokenizer
from trunkline.text.grammar import to_llguidance

RULES = (
    Rule(contains="json", text='{"a": 12} and more that the grammar forbids'),
    Rule(contains="prose", text="not json at all"),
    Rule(contains="think", text="hmm, let me see</think>{}"),
    Rule(contains="endless", text="abc", action="endless", ms_per_token=1),
)
OBJECT = Grammar("json_schema", '{"type": "object", "properties": {"a": {"type": "integer"}}}')


class Front:
    """The other end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.settimeout(60)
        self._framing = Framing()
        self._decoder: msgspec.msgpack.Decoder[FromCore] = msgspec.msgpack.Decoder(FromCore)
        self.outputs: list[RowOutput] = []
        self.failed: list[GroupFailed] = []
        self.last: StepFrame | None = None

    def send(self, message: ToCore) -> None:
        self._socket.sendall(pack(msgspec.msgpack.encode(message)))

    def ask(self, number: int, prompt: str, **fields: object) -> None:
        ids = np.asarray(ByteTokenizer().encode(prompt, add_special=False, parse_special=False))
        params = SamplingParams(max_tokens=200, seed=1)
        group = AddGroup(number, ids.astype("<i4").tobytes(), 1, params, 0, "", b"", 0.0)
        self.send(msgspec.structs.replace(group, **fields))

    def receive(self) -> None:
        data = self._socket.recv(1 << 16)
        assert data, "the core hung up"
        for payload in self._framing.feed(data):
            frame = self._decoder.decode(payload)
            assert isinstance(frame, StepFrame)
            self.last = frame
            self.outputs += frame.outputs
            self.failed += frame.failed

    def finish(self, number: int, row: int = 0) -> str:
        """Wait for the end of a row; its text, end-of-text token left out."""
        while not any(one.finish and (one.group, one.row) == (number, row) for one in self.outputs):
            assert not self.failed, self.failed
            self.receive()
        tokens = [one.token for one in self.outputs if (one.group, one.row) == (number, row)]
        return bytes(token for token in tokens if token < 256).decode()

    def hang_up(self) -> None:
        self._socket.close()


@pytest.fixture
def front() -> Iterator[Front]:
    ours, theirs = socket.socketpair()
    executor = ScriptedExecutor(Script(rules=RULES, context=512))
    limits = SchedulerLimits(max_num_seqs=8, max_queue=8, max_step_seconds=0.25, prefix_cache=True)
    core = Core(executor, Scheduler(executor.capabilities, limits), FrontLink(theirs))
    thread = threading.Thread(target=core.run)
    thread.start()
    front = Front(ours)
    yield front
    front.send(StopCore())
    thread.join(60)
    assert not thread.is_alive()
    ours.close()
    theirs.close()


def _grammar(grammar: Grammar = OBJECT, after: str = "") -> RowGrammar:
    return RowGrammar(to_llguidance(grammar), after_text=after)


def test_a_group_gets_its_tokens_in_order(front: Front) -> None:
    front.ask(1, "hello")
    assert front.finish(1) == "Hello from the scripted executor."
    assert [one.sequence for one in front.outputs] == list(range(len(front.outputs)))


def test_a_complete_grammar_ends_its_row(front: Front) -> None:
    front.ask(1, "json", grammar=_grammar())
    assert front.finish(1) == '{"a": 12}'
    assert front.outputs[-1].finish == "stop"


def test_what_the_grammar_forbids_is_never_said(front: Front) -> None:
    front.ask(1, "prose", grammar=_grammar(Grammar("choice", '["yes", "no"]')))
    assert front.finish(1) in ("yes", "no")


def test_rows_of_a_group_each_follow_it_and_others_do_not(front: Front) -> None:
    front.ask(1, "json", grammar=_grammar(), n=3)
    front.ask(2, "prose")
    assert [front.finish(1, row) for row in range(3)] == ['{"a": 12}'] * 3
    assert front.finish(2) == "not json at all"


def test_thinking_is_free_until_its_end(front: Front) -> None:
    front.ask(1, "think", grammar=_grammar(after="</think>"))
    assert front.finish(1) == "hmm, let me see</think>{}"


def test_an_aborted_group_says_no_more_also_while_its_grammar_is_compiled(front: Front) -> None:
    front.ask(1, "json", grammar=_grammar())
    front.send(AbortRows(1))
    front.ask(2, "endless")
    while not any(one.group == 2 for one in front.outputs):
        front.receive()
    front.send(AbortRows(2))
    deadline = time.monotonic() + 60
    while front.last is None or front.last.stats.running:
        front.receive()
        assert time.monotonic() < deadline
    assert not any(one.group == 1 for one in front.outputs)


def test_a_group_that_cannot_fit_is_refused(front: Front) -> None:
    front.ask(1, "x" * 600)
    while not front.failed:
        front.receive()
    assert front.failed[0].error.kind == "context_overflow"


def test_the_core_ends_with_its_front() -> None:
    ours, theirs = socket.socketpair()
    executor = ScriptedExecutor(Script())
    limits = SchedulerLimits(max_num_seqs=8, max_queue=8, max_step_seconds=0.25, prefix_cache=True)
    core = Core(executor, Scheduler(executor.capabilities, limits), FrontLink(theirs))
    ours.close()
    with pytest.raises(EOFError):
        core.run()
    theirs.close()
