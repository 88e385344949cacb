"""Thinking before the answer: told apart while it streams.

Only thinking at the very beginning counts: tags later on are part of the answer, which may well be
about such tags. A template that opens the thinking itself makes the output begin within it, which
the end of the prompt shows. Whitespace around the thinking is dropped. Thinking that is never
closed is thinking to the end.

gpt-oss is not here: its channels are read by `tool_calls.harmony`. The forms and names are those
of https://github.com/vllm-project/vllm/tree/main/vllm/reasoning.
"""

from __future__ import annotations

from typing import NamedTuple

from trunkline.text.tool_calls.lark import Before, Lark
from trunkline.text.tool_calls.reader import (
    Malformed,
    Marks,
    Parser,
    Program,
    Reader,
    Reasoning,
    Step,
)
from trunkline.text.tool_calls.tools import Tools

# Whitespace around the thinking, in a grammar.
_SPACE = r"/[ \n]{0,4}/"


class Thinking(NamedTuple):
    """How a family of models marks its thinking."""

    name: str
    opens: tuple[str, ...]
    closes: tuple[str, ...]
    # The chat template is of this family if it has one of these strings.
    marks: tuple[str, ...]
    # Other names for the override flag.
    aliases: tuple[str, ...] = ()

    def parser(self, prompt_end: str, also_closes: tuple[str, ...] = ()) -> Parser:
        """A parser for one row, whose prompt ends with `prompt_end`.

        Tags in `also_closes` end the thinking too, and stay in the answer.
        """
        return Parser(self._program(self.begins_inside(prompt_end), also_closes), Tools())

    def grammar(self, prompt_end: str) -> Before:
        """The thinking as a grammar: whole, the rest of it, or none at all."""

        def before(lark: Lark) -> str:
            ends = " | ".join(lark.upto(tag) for tag in self.closes)
            inside = f"( {ends} ) {_SPACE}"
            if self.begins_inside(prompt_end):
                return inside
            opens = " | ".join(lark.text(tag) for tag in self.opens)
            return f"{_SPACE} ( ( {opens} ) {inside} )?"

        return before

    def begins_inside(self, prompt_end: str) -> bool:
        """Whether the output begins within the thinking, after this end of the prompt."""
        opens = tuple(tag.rstrip() for tag in self.opens)
        return prompt_end.rstrip().endswith(opens)

    def _program(self, inside: bool, also_closes: tuple[str, ...]) -> Program:
        marks = Marks(*self.closes, *also_closes)

        def program(reader: Reader) -> Step[None]:
            if inside or (yield from _opened(reader, self.opens)):
                ended = yield from _thought(reader, marks)
                if ended in also_closes:
                    reader.position -= len(ended)
                else:
                    yield from reader.space()
            while True:
                reader.text(len(reader.buffer))
                if not (yield from reader.more()):
                    return

        return program


def _opened(reader: Reader, opens: tuple[str, ...]) -> Step[bool]:
    """Read the opening tag, if the output begins with one."""
    reader.hold()
    try:
        yield from reader.space()
        yield from reader.expect(*opens)
    except Malformed:
        reader.rewind()
        return False
    reader.release()
    return True


def _thought(reader: Reader, marks: Marks) -> Step[str]:
    """Pass the thinking on; the tag that ended it, "" at the end of the output."""
    yield from reader.space()
    try:
        return (yield from reader.stream(marks, lambda t: reader.emit(Reasoning(t)), trim=True))
    except Malformed:
        return ""


FAMILIES: tuple[Thinking, ...] = (
    Thinking(
        "gemma4", ("<|channel>thought\n",), ("<channel|>",), ("<|channel>thought", "<|think|>")
    ),
    Thinking("mistral", ("[THINK]",), ("[/THINK]",), ("[THINK]",)),
    Thinking("seed_oss", ("<seed:think>",), ("</seed:think>",), ("<seed:think>",)),
    Thinking(
        "granite",
        ("Here is my thought process:", "Here's my thought process:"),
        ("Here is my response:", "Here's my response:"),
        ("Here is my thought process:", "Here's my thought process:"),
    ),
    Thinking(
        "think",
        ("<think>",),
        ("</think>",),
        ("<think>", "</think>"),
        (
            "deepseek_r1",
            "deepseek_v3",
            "deepseek_v4",
            "glm45",
            "glm47",
            "holo2",
            "kimi_k2",
            "mimo",
            "minimax_m2",
            "nemotron_v3",
            "olmo3",
            "qwen3",
            "step3",
            "step3p5",
        ),
    ),
)


def for_template(template: str) -> Thinking | None:
    """The family of a model with this chat template; None where it does not think."""
    for family in FAMILIES:
        if any(mark in template for mark in family.marks):
            return family
    return None


def by_name(name: str) -> Thinking | None:
    """The family of that name or alias (vLLM's --reasoning-parser names are among them)."""
    for family in FAMILIES:
        if name in (family.name, *family.aliases):
            return family
    return None
