"""`trunkline run` up to the engine: arguments, standard input, streaming and cancelling."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from trunkline.cli.engine import stream_answer
from trunkline.cli.errors import UsageError
from trunkline.cli.run import piped_text, split_words
from trunkline.cli.terminal import write_text
from trunkline.core.errors import EngineCrashed
from trunkline.core.types import (
    Call,
    Completed,
    Delta,
    Event,
    EventSink,
    Failed,
    Request,
    RowFinished,
    TextInput,
    Timing,
    Usage,
)

REQUEST = Request(id="r", model="m", input=TextInput("hi"))


class FakeBackend:
    """Answers with the events given; counts cancellations."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.cancelled = 0

    def submit(self, request: Request, sink: EventSink) -> Call:
        asyncio.get_running_loop().call_soon(sink.on_events, self.events)
        return self

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("caboose", "")),
        (["caboose"], ("caboose", "")),
        (["m.gguf", "What", "is", "it?"], ("m.gguf", "What is it?")),
        (["What is it?"], ("caboose", "What is it?")),
    ],
)
def test_words(words: list[str], expected: tuple[str, str]) -> None:
    assert split_words(words) == expected


def test_a_file_with_a_space_in_its_name_is_a_model(tmp_path: Path) -> None:
    file = tmp_path / "my model.gguf"
    file.touch()
    assert split_words([str(file), "hi"]) == (str(file), "hi")


def test_piped_text(tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_bytes("  grüße\n".encode())
    with file.open() as stream:
        assert piped_text(stream) == "grüße"
    with Path("/dev/null").open() as stream:
        assert piped_text(stream) == ""


@pytest.mark.parametrize(
    ("data", "message"), [(b"\xff\xfe", "not UTF-8"), (b"x" * ((16 << 20) + 1), "16 MiB")]
)
def test_input_that_cannot_be_a_prompt(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "in"
    file.write_bytes(data)
    with file.open() as stream, pytest.raises(UsageError, match=message):
        piped_text(stream)


async def test_an_answer_is_streamed() -> None:
    usage, timing = Usage(3, 2), Timing(0.0, 0.1, 0.2)
    backend = FakeBackend(
        (Delta("r", 0, "a"), Delta("r", 0, "b"), RowFinished("r", 0, "length"),
         Completed("r", usage, timing))
    )  # fmt: skip
    pieces: list[str] = []
    answer = await stream_answer(backend, REQUEST, pieces.append)
    assert pieces == ["a", "b"]
    assert (answer.text, answer.finish_reason, answer.usage) == ("ab", "length", usage)
    assert not answer.interrupted


async def test_a_failure_is_raised_as_what_it_was() -> None:
    error = EngineCrashed("it died")
    backend = FakeBackend((Delta("r", 0, "a"), Failed("r", error.info())))
    with pytest.raises(EngineCrashed, match="it died"):
        await stream_answer(backend, REQUEST, lambda text: None)


async def test_cancelling_stops_the_work_and_keeps_the_text() -> None:
    backend = FakeBackend((Delta("r", 0, "half"),))
    task = asyncio.create_task(stream_answer(backend, REQUEST, lambda text: None))
    await asyncio.sleep(0.01)
    assert backend.cancelled == 0
    task.cancel()
    answer = await task
    assert (answer.text, answer.interrupted, backend.cancelled) == ("half", True, 1)


def test_a_terminal_gets_no_control_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text("a\x1b[2Jb\n")
    assert capsys.readouterr().out == "a\x1b[2Jb\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    write_text("a\x1b[2J\x9bb\tc\n")
    assert capsys.readouterr().out == "a[2Jb\tc\n"
