from __future__ import annotations

from typing import Any

import pytest

from trunkline.core.errors import InternalError
from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    LineLimits,
    Request,
    RowFinished,
    SamplingParams,
    TextInput,
    Usage,
)
from trunkline.engine.frames import GroupStarted, RowOutput
from trunkline.engine.front.requests import GroupState
from trunkline.text.byte_tokenizer import ByteTokenizer

END = 257


def state(**options: Any) -> GroupState:
    sampling = SamplingParams(
        **{k: options.pop(k) for k in tuple(options) if k in SamplingParams.__struct_fields__}
    )
    request = Request(id="r", model="m", input=TextInput("x"), sampling=sampling, **options)
    return GroupState(request, ByteTokenizer(), 5, 10.0)


def out(
    token: int, sequence: int, finish: str | None = None, row: int = 0, epoch: int = 0
) -> RowOutput:
    return RowOutput(1, row, epoch, sequence, token, -0.5, ((token, -0.5), (66, -2.0)), finish)


def feed(group: GroupState, data: bytes, row: int = 0, finish: int | None = None) -> list[Event]:
    events: list[Event] = []
    for sequence, byte in enumerate(data):
        taken = group.take(out(byte, sequence, row=row), 11.0 + sequence)
        events += taken.events
        if taken.abort:
            return events
    if finish is not None:
        events += group.take(out(finish, len(data), "stop", row), 20.0).events
    return events


def text(events: list[Event], row: int = 0) -> str:
    return "".join(e.text for e in events if isinstance(e, Delta) and e.row == row)


def test_end_of_text_is_billed_and_not_shown() -> None:
    group = state(skip_special_tokens=False)
    group.started(GroupStarted(1, 4, 0.25))
    events = feed(group, b"Hi", finish=END)
    assert text(events) == "Hi"
    ids = [i for e in events if isinstance(e, Delta) for i in e.token_ids]
    assert ids == [72, 105]
    finished, completed = events[-2:]
    assert finished == RowFinished("r", 0, "stop", None, END)
    assert isinstance(completed, Completed)
    assert completed.usage == Usage(5, 3, 4)
    assert (completed.timing.queue, completed.timing.prefill) == (0.25, 0.75)
    assert completed.timing.decode == 9.0
    assert group.finished


def test_stop_string_ends_the_row_and_the_bill() -> None:
    group = state(stop=("END",))
    events = feed(group, b"a END more")
    assert text(events) == "a "
    assert events[-2] == RowFinished("r", 0, "stop", "END")
    assert isinstance(events[-1], Completed)
    assert events[-1].usage.completion_tokens == 5
    # What the core had sent before it knew.
    assert group.take(out(65, 5), 30.0).events == ()


def test_stop_string_on_the_last_token_needs_no_abort() -> None:
    group = state(stop=("b",))
    group.take(out(97, 0), 1.0)
    taken = group.take(out(98, 1, "length"), 1.0)
    assert not taken.abort
    assert taken.events[0] == RowFinished("r", 0, "stop", "b")


@pytest.mark.parametrize(
    ("options", "token", "expected", "stop"),
    [
        ({"stop_token_ids": (33,)}, 33, "a", 33),
        ({"stop_token_ids": (33,), "include_stop": True}, 33, "a!", 33),
        ({"stop_token_ids": (END,)}, END, "a", None),
        ({"stop_token_ids": (END,), "ignore_eos": True}, END, "a", END),
    ],
)
def test_stop_tokens(options: dict[str, Any], token: int, expected: str, stop: int | None) -> None:
    events = feed(state(**options), b"a", finish=token)
    assert text(events) == expected
    finished = events[-2]
    assert isinstance(finished, RowFinished)
    assert (finished.reason, finished.stop) == ("stop", stop)
    # Told apart from the text, where it is not part of it.
    assert finished.token_id == (None if "include_stop" in options else token)


def test_the_hidden_token_has_its_log_probability() -> None:
    events = feed(state(logprobs=1), b"a", finish=END)
    finished = events[-2]
    assert isinstance(finished, RowFinished)
    assert finished.logprob is not None
    assert (finished.logprob.token_id, finished.logprob.logprob) == (END, -0.5)
    assert [top[2] for top in finished.logprob.top] == [END]


def test_held_text_comes_out_at_the_end() -> None:
    group = state(stop=("END",))
    events = feed(group, b"a EN")
    assert text(events) == "a "
    events += group.take(out(0xC3, 4, "length"), 1.0).events
    assert text(events) == "a EN\ufffd"
    assert events[-2] == RowFinished("r", 0, "length", None)
    ids = [i for e in events if isinstance(e, Delta) for i in e.token_ids]
    assert bytes(ids) == b"a EN\xc3"


def test_end_without_a_token() -> None:
    group = state()
    group.take(out(97, 0), 1.0)
    events = group.take(out(-1, 1, "length"), 1.0).events
    assert events[0] == RowFinished("r", 0, "length", None)
    assert isinstance(events[1], Completed)
    assert events[1].usage.completion_tokens == 1


def test_rows_are_independent_and_the_bill_is_one() -> None:
    group = state(n=2, stop=("!",))
    first = feed(group, b"a!", row=0)
    assert not group.finished
    assert [type(e) for e in first] == [Delta, RowFinished]
    second = feed(group, b"bcd", row=1, finish=END)
    assert text(second, 1) == "bcd"
    assert isinstance(second[-1], Completed)
    assert second[-1].usage == Usage(5, 6, 0)


def test_logprobs_follow_the_text() -> None:
    group = state(logprobs=1)
    events = feed(group, "é".encode())
    assert len(events) == 1
    delta = events[0]
    assert isinstance(delta, Delta)
    assert delta.logprobs is not None
    assert [entry.data for entry in delta.logprobs] == [b"\xc3", b"\xa9"]
    assert [entry.token for entry in delta.logprobs] == ["\ufffd", "\ufffd"]
    assert delta.logprobs[0].top == (("\ufffd", b"\xc3", 0xC3, -0.5),)
    only = feed(state(logprobs=0), b"a")[0]
    assert isinstance(only, Delta)
    assert only.logprobs is not None
    assert only.logprobs[0].top == ()
    none = feed(state(), b"a")[0]
    assert isinstance(none, Delta)
    assert none.logprobs is None


def test_stale_and_repeated_outputs_are_dropped() -> None:
    group = state()
    group.take(out(97, 0, epoch=0), 1.0)
    assert text(list(group.take(out(98, 1, epoch=1), 1.0).events)) == "b"
    assert group.take(out(99, 2, epoch=0), 1.0).events == ()
    assert group.take(out(98, 1, epoch=1), 1.0).events == ()
    assert text(list(group.take(out(99, 2, epoch=1), 1.0).events)) == "c"


def test_a_missing_token_is_a_fault() -> None:
    with pytest.raises(InternalError, match="lost"):
        state().take(out(97, 1), 1.0)


def test_skipped_special_tokens_go_out_with_the_next_text() -> None:
    group = state()
    assert group.take(out(256, 0), 1.0).events == []
    assert group.take(out(97, 1), 1.0).events == [Delta("r", 0, "a", (256, 97), None)]


@pytest.mark.parametrize(("wanted", "expected"), [(True, (1, 2, 3, 4, 5)), (False, ())])
def test_prompt_ids_come_with_the_end_where_asked_for(
    wanted: bool, expected: tuple[int, ...]
) -> None:
    request = Request(id="r", model="m", input=TextInput("x"), return_prompt_ids=wanted)
    group = GroupState(request, ByteTokenizer(), 5, 10.0, None, [1, 2, 3, 4, 5])
    completed = feed(group, b"a", finish=END)[-1]
    assert isinstance(completed, Completed)
    assert completed.prompt_ids == expected


def test_nothing_is_generated_where_nothing_is_wanted() -> None:
    group = state(max_tokens=0, n=2)
    first = group.take(out(65, 0, "length"), 11.0)
    assert first.events == [RowFinished("r", 0, "length")]
    assert not first.abort
    finished, completed = group.take(out(66, 0, "stop", row=1), 12.0).events
    assert finished == RowFinished("r", 1, "length")
    assert isinstance(completed, Completed)
    assert completed.usage == Usage(5, 0, 0)


def test_lines_end_a_row() -> None:
    group = state(lines=LineLimits(indent=2))
    group.started(GroupStarted(1, 4, 0.25))
    events = feed(group, b"a\n  b\nc\n")
    assert text(events) == "a\n  b\n"
    assert [e.reason for e in events if isinstance(e, RowFinished)] == ["length"]
    assert isinstance(events[-1], Completed)
    late = state(lines=LineLimits(seconds=2.5))
    late.started(GroupStarted(1, 4, 0.25))
    assert text(feed(late, b"a\nb\nc\n")) == "a\nb\n"
