"""What one dialect is: how it is recognised, parsed and enforced."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field

from trunkline.core.errors import InvalidRequest
from trunkline.text.tool_calls import lark
from trunkline.text.tool_calls.reader import Parser, Program
from trunkline.text.tool_calls.tools import Tools


def openai_id() -> str:
    """A call id as OpenAI and vLLM make them: "call_" and 24 hexadecimal digits."""
    return f"call_{secrets.token_hex(12)}"


def mistral_id() -> str:
    """A call id that Mistral's templates accept: 9 letters and digits."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


@dataclass(frozen=True)
class Dialect:
    """One way of writing tool calls."""

    name: str
    program: Program
    # The chat template is this dialect's if it has all strings of one of these groups.
    marks: tuple[tuple[str, ...], ...]
    frame: lark.Frame
    # The grammar of one call within the frame.
    body: lark.Body
    # Other names for the override flag, vLLM's among them.
    aliases: tuple[str, ...] = ()
    # A tag begins every call, so that an answer can be left free until it comes.
    has_trigger: bool = True
    # The program separates the thinking from the answer as well.
    reasons: bool = False
    # What may come before the calls.
    before: lark.Before | None = None
    # Tags that end the thinking even where it was not closed.
    ends_reasoning: tuple[str, ...] = ()
    # Makes the id of a call to which the model gave none.
    new_id: Callable[[], str] = field(default=openai_id)

    def matches(self, template: str) -> bool:
        """Whether a model with this chat template speaks the dialect."""
        return any(all(mark in template for mark in group) for group in self.marks)

    def parser(self, tools: Tools) -> Parser:
        """A parser for one row of output."""
        return Parser(self.program, tools)

    def grammar(
        self,
        tools: Tools,
        choice: lark.Choice,
        special: lark.Special,
        *,
        name: str = "",
        parallel: bool = True,
        before: lark.Before | None = None,
    ) -> str | None:
        """What the answer must look like, as llguidance's Lark.

        "required": calls and nothing else. "named": calls of the tool `name`. "auto": any text,
        but calls within it follow the schemas; None where no tool asks for that (`strict`) or
        the dialect cannot tell calls from text. `before` gives what comes first, where a model
        thinks (`text.reasoning`). Raises `InvalidRequest` for an unknown `name`, and for a schema
        that cannot be enforced.
        """
        wanted = tools.all
        if choice == "named":
            wanted = tuple(tool for tool in wanted if tool.name == name)
            if not wanted:
                raise InvalidRequest(
                    f"tool_choice names {name!r}, which is not among the tools",
                    param="tool_choice",
                )
        if not wanted:
            return None
        free = choice == "auto"
        if free and not (self.has_trigger and any(tool.strict for tool in wanted)):
            return None
        rules = lark.Lark(special)
        first = self.before or before
        return lark.grammar(
            rules,
            self.frame,
            [tool.checked() for tool in wanted],
            self.body,
            free=free,
            parallel=parallel,
            before=first(rules) if first is not None else "",
        )
