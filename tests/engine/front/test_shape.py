from __future__ import annotations

from typing import cast

import pytest

from trunkline.core.errors import InvalidRequest, TrunklineError
from trunkline.core.types import ChatInput, Grammar, Message, Request
from trunkline.engine.front.shape import Shaper
from trunkline.engine.grammar.compiler import GrammarCompiler
from trunkline.text.byte_tokenizer import ByteTokenizer
from trunkline.text.output import OutputFormat

TOOL = {"type": "function", "function": {"name": "ping", "parameters": {"type": "object"}}}


class Refusing:
    """A compiler that no grammar pleases."""

    async def check(self, grammar: Grammar) -> str:
        raise InvalidRequest(f"the {grammar.kind} is too complex", param=grammar.kind)


def request(**fields: object) -> Request:
    chat = ChatInput((Message("user", "hi"),), (TOOL,))
    return Request(id="r", model="m", input=chat, **fields)  # type: ignore[arg-type]


async def refusal(one: Request) -> TrunklineError:
    format_ = OutputFormat.of("", tool_call_parser="hermes")
    compiler = cast(GrammarCompiler, Refusing())
    with pytest.raises(InvalidRequest) as caught:
        await Shaper(format_, ByteTokenizer(), compiler).shape(one, "hi")
    return caught.value


async def test_what_is_wrong_with_the_grammar_of_calls_is_said_of_the_tools() -> None:
    error = await refusal(request(tool_choice="required"))
    assert (error.message, error.param) == ("the schema of the tools is too complex", "tools")


async def test_what_is_wrong_with_the_clients_own_grammar_is_said_of_that() -> None:
    error = await refusal(request(grammar=Grammar("lark", "x")))
    assert (error.message, error.param) == ("the lark is too complex", "lark")
