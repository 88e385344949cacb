"""Grammars that hold a model to its own tool-call dialect, in llguidance's Lark syntax.

Syntax: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md. A tag that is one
token of the model is written as that token (`<[id]>`), any other as text. Arguments follow the
tool's JSON schema; where a dialect writes them one by one, each follows its own part of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from trunkline.core.types import Json
from trunkline.text.tool_calls.tools import Tool

# The token that a string is, None where it is not exactly one special token.
Special: TypeAlias = Callable[[str], int | None]
Choice: TypeAlias = Literal["auto", "required", "named"]
Body: TypeAlias = "Callable[[Lark, Tool], str]"
# The expression of what comes before everything else.
Before: TypeAlias = "Callable[[Lark], str]"

# What may be a special token: <tag>, <|"|>, [TAG], and within DeepSeek's tags ｜DSML｜.
_TAG = re.compile(r"(<(?!/?｜DSML)[^<>\s]{1,40}>|\[/?[A-Z_]{2,}\]|｜DSML｜)")
# A little whitespace is what models write; without a bound a weak one writes nothing else.
_GUIDANCE = {"whitespace_pattern": r"[ \t\n]{1,40}"}


class Lark:
    """Rules under construction."""

    def __init__(self, special: Special) -> None:
        self._special = special
        self._rules: list[str] = []
        self._known: dict[str, str] = {}

    def text(self, text: str) -> str:
        """An expression for exactly `text`."""
        parts = []
        for part in _TAG.split(text):
            token = self._special(part) if _TAG.fullmatch(part) else None
            if token is not None:
                parts.append(f"<[{token}]>")
            elif part and parts and parts[-1].startswith('"'):
                parts[-1] = json.dumps(json.loads(parts[-1]) + part)
            elif part:
                parts.append(json.dumps(part))
        return " ".join(parts)

    def json(self, schema: Json) -> str:
        """An expression for JSON text that follows `schema`, which has been checked."""
        return f"%json {json.dumps({**schema, 'x-guidance': _GUIDANCE})}"

    def rule(self, body: str, *, lazy: bool = False, terminal: bool = False) -> str:
        """A rule of that body; equal ones are made once. Returns its name.

        A terminal is one lexeme; a lazy one ends where it can first.
        """
        key = f"{lazy}{terminal}{body}"
        if key not in self._known:
            self._known[key] = f"{'T' if terminal else 'r'}{len(self._known)}"
            self._rules.append(f"{self._known[key]}{'[lazy]' if lazy else ''}: {body}")
        return self._known[key]

    def named(self, name: str, body: str) -> None:
        """A rule (or terminal) of that name, made once; for those that refer to each other."""
        if name not in self._known:
            self._known[name] = name
            self._rules.append(f"{name}: {body}")

    def upto(self, tag: str) -> str:
        """An expression for any text up to the first `tag`, and the tag."""
        for part in _TAG.findall(tag):
            token = self._special(part)
            if token is None:
                continue
            # The token cannot be in the text, so that its text needs no lazy end.
            before, _, behind = tag.partition(part)
            text = self.rule(f"TEXT {json.dumps(before)}", terminal=True) if before else "TEXT"
            return f"{text} <[{token}]> {self.text(behind)}".rstrip()
        return self.rule(f"TEXT {json.dumps(tag)}", lazy=True)

    def done(self, start: str) -> str:
        """The whole grammar."""
        rules = "\n".join(self._rules)
        return f"%llguidance {{}}\nstart: {start}\n{rules}\nTEXT: /(.|\\n)*/\n"


class Frame(NamedTuple):
    """What stands around the calls of one answer."""

    # Before the first call.
    begin: str = ""
    # Before and behind each.
    open: str = ""
    close: str = ""
    # Between two.
    between: str = ""
    # Behind the last.
    end: str = ""


def grammar(
    lark: Lark,
    frame: Frame,
    tools: Sequence[Tool],
    body: Body,
    *,
    free: bool,
    parallel: bool,
    before: str = "",
) -> str:
    """Calls of `tools` within `frame`; with `free`, text in which there may be such calls.

    `before` is an expression for what comes first.
    """
    head = frame.begin + frame.open
    trigger = next((tag for tag in _TAG.findall(head)), head) if free else ""
    prefix, _, rest = head.partition(trigger) if free else ("", "", head)
    each = lark.rule(" | ".join(lark.rule(body(lark, tool)) for tool in tools))
    more = f"{lark.text(frame.close + frame.between + frame.open)} {each}"
    calls = f"{lark.text(rest)} {each}"
    if parallel:
        calls += f" ( {more} )*"
    calls += f" {lark.text(frame.close + frame.end)}"
    if not free:
        return lark.done(f"{before} {calls}")
    calls = lark.rule(f"{lark.upto(prefix + trigger)} {calls}")
    return lark.done(f"{before} {calls}* TEXT" if parallel else f"{before} ( {calls} | TEXT )")


def json_body(before: str, after: str) -> Body:
    """The body of a call whose arguments are one JSON object.

    In `before`, NAME stands for the tool's name and "NAME" for the name as a JSON string.
    """

    def body(lark: Lark, tool: Tool) -> str:
        head = before.replace('"NAME"', json.dumps(tool.name)).replace("NAME", tool.name)
        schema = {"type": "object", **tool.parameters}
        return f"{lark.text(head)} {lark.json(schema)} {lark.text(after)}"

    return body


def each_argument(
    lark: Lark, tool: Tool, one: Callable[[str, Json], str], separator: str = ""
) -> str:
    """Arguments one by one: the required ones in the schema's order, then any of the others.

    `one` gives the expression of an argument from its name and schema.
    """
    rules = {
        name: lark.rule(one(name, _rooted(schema, tool.parameters)))
        for name, schema in tool.properties.items()
    }
    needed = [rule for name, rule in rules.items() if name in tool.required]
    others = [rule for name, rule in rules.items() if name not in tool.required]
    comma = lark.text(separator) + " " if separator else ""
    if needed or not comma:
        tail = "".join(f" ( {comma}{rule} )?" for rule in others)
        return f" {comma}".join(needed) + tail or '""'
    # With separators and nothing required: begin with any, go on with those behind it.
    starts = [
        rule + "".join(f" ( {comma}{later} )?" for later in others[index + 1 :])
        for index, rule in enumerate(others)
    ]
    return " | ".join(['""', *starts])


def _rooted(schema: Any, root: Json) -> Json:
    """A part of a schema that still finds what its references name."""
    if not isinstance(schema, dict):
        return {}
    return {**{key: root[key] for key in ("$defs", "definitions") if key in root}, **schema}


def is_text(schema: Json) -> bool:
    """The argument is a string of any content."""
    return schema.get("type") == "string" and not {"enum", "const", "pattern"} & schema.keys()


def choices(schema: Json) -> list[str]:
    """The strings that the argument may be, if it may only be one of some."""
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list) and values and all(isinstance(value, str) for value in values):
        return values
    return []
