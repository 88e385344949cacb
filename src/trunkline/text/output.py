"""From the text of one row to what a client gets: thinking, answer and tool calls.

    detokenizer -> stop strings -> thinking -> tool calls

Stop strings cut the raw text before anything here sees it, as in vLLM: one inside a tool call or
inside the thinking ends the row there. What was read of the call has been sent by then, and
`finish` adds nothing to it: the client gets arguments that break off.

Tags that are special tokens must come as text: rows with a `RowOutput` are detokenized with
special tokens shown (except those that end a text).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ChatInput, FinishReason, Request, ToolCallDelta
from trunkline.text import reasoning, tool_calls
from trunkline.text.reasoning import Thinking
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.harmony import HARMONY
from trunkline.text.tool_calls.lark import Special
from trunkline.text.tool_calls.reader import (
    Arguments,
    CallStart,
    Parser,
    Piece,
    Reasoning,
    Text,
)
from trunkline.text.tool_calls.tools import Tools

# Override names that switch the parsing off.
_OFF = frozenset({"none", "off"})


class Output(NamedTuple):
    """More output of one row, in the order of the fields."""

    reasoning: str = ""
    text: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()


class OutputFormat(NamedTuple):
    """How one model writes what is not plain text."""

    dialect: Dialect | None = None
    thinking: Thinking | None = None

    @classmethod
    def of(
        cls, template: str, *, tool_call_parser: str = "", reasoning_parser: str = ""
    ) -> OutputFormat:
        """The format of a model with this chat template.

        The names override what the template tells; "none" switches off. Raises `InvalidRequest`,
        with the names there are, for one that is unknown.
        """
        dialect = tool_calls.for_template(template)
        thinking = reasoning.for_template(template)
        if tool_call_parser:
            dialect = _dialect(tool_call_parser)
        if reasoning_parser == "openai_gptoss":
            dialect = HARMONY
        elif reasoning_parser:
            thinking = _thinking(reasoning_parser)
        return cls(dialect, None if dialect is not None and dialect.reasons else thinking)

    def row(
        self,
        request: Request,
        tools: Tools,
        prompt_end: str,
        new_id: Callable[[], str] | None = None,
    ) -> RowOutput | None:
        """What reads one row of the answer to `request`; None where all of it is plain text.

        `tools` are those of the request, `prompt_end` is the end of its rendered prompt (200
        characters will do). `new_id` makes call ids in place of the dialect's own way.
        """
        if not isinstance(request.input, ChatInput):
            return None
        dialect = self.dialect
        if dialect is not None and not dialect.reasons:
            dialect = dialect if tools and request.tool_choice != "none" else None
        if dialect is None and self.thinking is None:
            return None
        ends = dialect.ends_reasoning if dialect is not None else ()
        thoughts = self.thinking.parser(prompt_end, ends) if self.thinking is not None else None
        calls = dialect.parser(tools) if dialect is not None else None
        make_id = new_id or (dialect.new_id if dialect is not None else str)
        return RowOutput(thoughts, calls, make_id, parallel=request.parallel_tool_calls)

    def grammar(
        self, request: Request, tools: Tools, prompt_end: str, special: Special
    ) -> str | None:
        """llguidance's Lark for each row of the answer, thinking included; None: all is allowed.

        `special` gives the token that a string is, where it is one special token. Raises
        `InvalidRequest` where the model's dialect is not known and calls are required, or a tool
        is named that is not there.
        """
        choice = request.tool_choice
        if choice == "none" or (choice == "auto" and (self.dialect is None or not tools)):
            return None
        if self.dialect is None:
            raise InvalidRequest(
                "the way in which this model calls tools is not known; name it with "
                "--tool-call-parser, or leave tool_choice at auto",
                param="tool_choice",
            )
        return self.dialect.grammar(
            tools,
            choice,
            special,
            name=request.tool_name,
            parallel=request.parallel_tool_calls,
            before=self.thinking.grammar(prompt_end) if self.thinking is not None else None,
        )


def _dialect(name: str) -> Dialect | None:
    if name in _OFF:
        return None
    found = tool_calls.by_name(name)
    if found is None:
        names = sorted(dialect.name for dialect in tool_calls.DIALECTS)
        raise InvalidRequest(
            f"there is no tool-call parser {name!r}; there are {', '.join(names)}, none",
            param="tool_call_parser",
        )
    return found


def _thinking(name: str) -> Thinking | None:
    if name in _OFF:
        return None
    found = reasoning.by_name(name)
    if found is None:
        names = [known for family in reasoning.FAMILIES for known in (family.name, *family.aliases)]
        raise InvalidRequest(
            f"there is no reasoning parser {name!r}; there are "
            f"{', '.join(sorted([*names, 'openai_gptoss']))}, none",
            param="reasoning_parser",
        )
    return found


class RowOutput:
    """One row's text on its way to the client."""

    def __init__(
        self,
        thoughts: Parser | None,
        calls: Parser | None,
        new_id: Callable[[], str],
        *,
        parallel: bool = True,
    ) -> None:
        self._thoughts = thoughts
        self._calls = calls
        self._new_id = new_id
        # Calls beyond this many are dropped.
        self._most = None if parallel else 1
        self._started = 0
        self._ended = 0

    def feed(self, text: str) -> list[Output]:
        """Take more text, cut before any stop string; what may go out now, in order."""
        pieces = self._thoughts.feed(text) if self._thoughts else [Text(text)]
        return self._outputs(self._read(pieces))

    def finish(self) -> list[Output]:
        """The row has ended: the rest."""
        pieces = self._thoughts.finish() if self._thoughts else []
        rest = self._read(pieces)
        if self._calls is not None:
            rest += self._calls.finish()
        return self._outputs(rest)

    def reason(self, reason: FinishReason) -> FinishReason:
        """The finish reason to show, after `finish`.

        "stop" becomes "tool_calls" where calls were made and the last of them is complete.
        """
        if reason == "stop" and self._started and self._ended == self._started:
            return "tool_calls"
        return reason

    def _read(self, pieces: Iterable[Piece]) -> list[Piece]:
        if self._calls is None:
            return list(pieces)
        read: list[Piece] = []
        for piece in pieces:
            read += self._calls.feed(piece.text) if isinstance(piece, Text) else [piece]
        return read

    def _outputs(self, pieces: Iterable[Piece]) -> list[Output]:
        outputs: list[Output] = []
        current = Output()
        for piece in pieces:
            if not _follows(current, piece):
                outputs.append(current)
                current = Output()
            current = self._with(current, piece)
        if current != Output():
            outputs.append(current)
        return outputs

    def _with(self, output: Output, piece: Piece) -> Output:
        match piece:
            case Reasoning(text):
                return output._replace(reasoning=output.reasoning + text)
            case Text(text):
                return output._replace(text=output.text + text)
            case CallStart(name, call_id):
                self._started += 1
                delta = ToolCallDelta(self._started - 1, call_id or self._new_id(), name, "")
            case Arguments(text):
                delta = ToolCallDelta(self._started - 1, None, None, text)
            case _:
                self._ended += 1
                return output
        if self._most is not None and self._started > self._most:
            return output
        return output._replace(tool_calls=_joined(output.tool_calls, delta))


def _follows(output: Output, piece: Piece) -> bool:
    """Whether a piece may be added to an output without going back in the order."""
    if isinstance(piece, Reasoning):
        return not output.text and not output.tool_calls
    return not (isinstance(piece, Text) and output.tool_calls)


def _joined(calls: tuple[ToolCallDelta, ...], delta: ToolCallDelta) -> tuple[ToolCallDelta, ...]:
    if calls and calls[-1].index == delta.index:
        last = calls[-1]
        joined = ToolCallDelta(last.index, last.id, last.name, last.arguments + delta.arguments)
        return (*calls[:-1], joined)
    return (*calls, delta)
