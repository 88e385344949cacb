"""The chat at the terminal, with an engine that repeats what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trunkline.cli.chat import Chat, ChatOptions
from trunkline.cli.engine import Answer
from trunkline.cli.repl import Repl
from trunkline.core.errors import ContextOverflow
from trunkline.core.types import ChatInput, Message, Request, Timing, Usage


class EchoEngine:
    """Answers with the last message in capitals; keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def ask(self, request: Request, write: Callable[[str], None]) -> Answer:
        self.requests.append(request)
        content = self.turns[-1].content
        assert isinstance(content, str)
        if content == "too long":
            raise ContextOverflow("5000 tokens, and the context has 4096")
        write(content.upper())
        if content == "stop me":
            return Answer("STOP")
        return Answer(content.upper(), "stop", Usage(9, 4, 3), Timing(0.0, 0.5, 1.5))

    @property
    def turns(self) -> tuple[Message, ...]:
        given = self.requests[-1].input
        assert isinstance(given, ChatInput)
        return given.messages


Talk = Callable[..., int]


@pytest.fixture
def engine() -> EchoEngine:
    return EchoEngine()


@pytest.fixture
def chat(engine: EchoEngine) -> Chat:
    return Chat(engine, "wagon", ChatOptions())


@pytest.fixture
def talk(chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Types the lines, then Ctrl-D. An exception among them is raised instead."""
    monkeypatch.setenv("TRUNKLINE_HOME", str(tmp_path / "home"))

    def talk(*lines: str | BaseException, verbose: bool = False) -> int:
        typed: Iterator[str | BaseException] = iter(lines)

        def read(prompt: str) -> str:
            item = next(typed, EOFError())
            if isinstance(item, BaseException):
                raise item
            return item

        return Repl(chat, verbose, read).run()

    return talk


def test_turns_add_up(talk: Talk, engine: EchoEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert talk("hello", "", "again") == 0
    assert engine.turns == (
        Message("user", "hello"),
        Message("assistant", "HELLO"),
        Message("user", "again"),
    )
    assert len({request.id for request in engine.requests}) == 2
    out = capsys.readouterr().out
    assert "HELLO\n\nAGAIN\n\n" in out


def test_several_lines_between_quotes(talk: Talk, engine: EchoEngine) -> None:
    talk('"""one', "  two", 'three"""')
    assert engine.turns[-1].content == "one\n  two\nthree"
    talk('"""all on one"""')
    assert engine.turns[-1].content == "all on one"


@pytest.mark.parametrize("word", ["/bye", "/exit", "/quit"])
def test_leaving(talk: Talk, engine: EchoEngine, word: str) -> None:
    assert talk(word, "never sent") == 0
    assert engine.requests == []


def test_ctrl_c_while_typing_does_not_leave(
    talk: Talk, engine: EchoEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk(KeyboardInterrupt(), "hello") == 0
    assert engine.turns[-1].content == "hello"
    assert "/bye or Ctrl-D leaves." in capsys.readouterr().out


def test_a_stopped_answer_stays_in_the_conversation(
    talk: Talk, engine: EchoEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    talk("stop me", "go on")
    assert Message("assistant", "STOP") in engine.turns
    assert " [stopped]" in capsys.readouterr().out


def test_an_error_is_shown_and_leaves_no_trace(
    talk: Talk, engine: EchoEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert talk("too long", "hello") == 0
    assert engine.turns == (Message("user", "hello"),)
    assert "error: 5000 tokens, and the context has 4096" in capsys.readouterr().err


def test_clear_forgets_the_turns_and_keeps_the_options(talk: Talk, engine: EchoEngine) -> None:
    talk("/set system Be brief.", "hello", "/clear", "again")
    assert engine.turns == (Message("system", "Be brief."), Message("user", "again"))


def test_set(talk: Talk, chat: Chat, engine: EchoEngine) -> None:
    talk("/set temperature 0", "/set max_tokens 12", "/set seed 5", '/set system "Hi there."', "x")
    assert chat.options == ChatOptions(system="Hi there.", temperature=0, max_tokens=12, seed=5)
    sampling = engine.requests[-1].sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.seed) == (0, 12, 5)
    talk("/set temperature", "/set system")
    assert chat.options.temperature == ChatOptions().temperature
    assert chat.options.system is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/set warmth 1", "no option 'warmth'; there are: system, temperature, "),
        ("/set temperature hot", "temperature: expected a number of at least 0, not 'hot'"),
        ("/set top_p 2", "top_p: expected "),
        ("/fly", "no command /fly; /? lists them"),
        ("/?", "/set NAME VALUE"),
        ("/show", "temperature 0.7"),
    ],
)
def test_commands_answer(
    talk: Talk, engine: EchoEngine, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    talk(line)
    assert message in capsys.readouterr().out
    assert engine.requests == []


def test_verbose_counts(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    talk("hello", verbose=True)
    assert capsys.readouterr().err == (
        "prompt: 9 tokens, 3 of them cached, 0.50 s, 12 tokens/s\n"
        "answer: 4 tokens, 1.50 s, 2 tokens/s, ended by stop\n"
    )


def test_default_options_are_neutral_requests(talk: Talk, engine: EchoEngine) -> None:
    talk("hello")
    request = engine.requests[-1]
    assert (request.model, request.overflow, request.n) == ("wagon", "cap", 1)
    assert request.sampling.max_tokens is None
    assert request.sampling.seed is None
