"""What shape an answer has: tools, thinking and grammars of a request, before the core gets it."""

from __future__ import annotations

from typing import NamedTuple

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ChatInput, Grammar, Request
from trunkline.engine.frames import RowGrammar
from trunkline.engine.grammar.compiler import GrammarCompiler
from trunkline.text.output import OutputFormat, RowOutput
from trunkline.text.tokenizer import Tokenizer
from trunkline.text.tool_calls.tools import Tools

# Characters of the prompt's end that tell whether the model begins within its thinking.
_END = 200


class Shape(NamedTuple):
    """How the rows of one request are constrained and read."""

    output_format: OutputFormat
    tools: Tools
    prompt_end: str
    grammar: RowGrammar | None = None

    def reader(self, request: Request) -> RowOutput | None:
        """What reads one row; None where all of it is plain text."""
        return self.output_format.row(request, self.tools, self.prompt_end)


class Shaper:
    """Knows the model's way of calling tools and of thinking."""

    def __init__(
        self, output_format: OutputFormat, tokenizer: Tokenizer, compiler: GrammarCompiler
    ) -> None:
        self._format = output_format
        self._tokenizer = tokenizer
        self._compiler = compiler

    async def shape(self, request: Request, prompt: str) -> Shape:
        """The shape of the answers to `request`, whose prompt reads `prompt`.

        Required or named tools are enforced by their own grammar; else the request's holds, from
        the end of the thinking on. Raises `InvalidRequest` for a grammar that is malformed.
        """
        chat = request.input if isinstance(request.input, ChatInput) else None
        tools = Tools(chat.tools if chat is not None and request.tool_choice != "none" else ())
        end = prompt[-_END:]
        shape = Shape(self._format, tools, end)
        calls = None
        if chat is not None and (request.grammar is None or request.tool_choice != "auto"):
            calls = self._format.grammar(request, tools, end, self._special)
        if calls is not None:
            source = await self._of_calls(calls)
            return shape._replace(grammar=RowGrammar(source))
        if request.grammar is not None:
            source = await self._compiler.check(request.grammar)
            return shape._replace(grammar=RowGrammar(source, after_text=self._thinking_end(end)))
        return shape

    async def _of_calls(self, calls: str) -> str:
        """The source of the grammar of calls. Its author is us, so that an error names the tools
        that it was made of."""
        try:
            return await self._compiler.check(Grammar("lark", calls))
        except InvalidRequest as error:
            why = error.message.removeprefix("the lark ")
            raise InvalidRequest(f"the schema of the tools {why}", param="tools") from error

    def _thinking_end(self, prompt_end: str) -> str:
        """The tag after which the answer begins, where the prompt leaves the model thinking."""
        thinking = self._format.thinking
        if thinking is None or not thinking.begins_inside(prompt_end):
            return ""
        return thinking.closes[0]

    def _special(self, text: str) -> int | None:
        """The token that `text` is, where it is one special token."""
        ids = self._tokenizer.encode(text, add_special=False, parse_special=True)
        return ids[0] if len(ids) == 1 and self._tokenizer.is_special(ids[0]) else None
