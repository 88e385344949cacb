"""Tool calls in the Hermes form: which tool, with which values, and when none fits."""

# ruff: noqa: SIM905 - lists of words and of sentences read better as text.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from caboose.corpus import chat, numbers, objects, words
from caboose.corpus.base import Example, Exchange, Message, held_out, roughen, trainable


@dataclass(frozen=True)
class Parameter:
    """One argument of a tool and how its values are made."""

    name: str
    # JSON schema type.
    type: str
    description: str
    make: Callable[[Random], Any]
    enum: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tool:
    """A tool, and how users ask for it: `{0}`, `{1}` stand for the arguments' values."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    asks: tuple[str, ...]
    # What the tool answers, and the sentence made of it; `{r}` is the result.
    result: Callable[[Random], Any]
    report: str

    def schema(self, rng: Random) -> dict[str, Any]:
        """The tool as OpenAI clients send it."""
        properties: dict[str, Any] = {}
        described = rng.random() < 0.5
        for parameter in self.parameters:
            entry: dict[str, Any] = {"type": parameter.type}
            if described:
                entry["description"] = parameter.description
            if parameter.enum:
                entry["enum"] = list(parameter.enum)
            properties[parameter.name] = entry
        function: dict[str, Any] = {"name": self.name}
        if rng.random() < 0.85:
            function["description"] = self.description
        function["parameters"] = {"type": "object", "properties": properties}
        if rng.random() < 0.7:
            function["parameters"]["required"] = [p.name for p in self.parameters]
        return {"type": "function", "function": function}


_PLACE_NAMES = "city location place town where city location".split()
_QUERY_NOUNS = (
    "weather temperature time news traffic forecast timetable population rain humidity wind "
    "sunrise price recipe song film book contact file note photo customer order invoice ticket "
    "hotel flight restaurant museum user account event meeting product article"
).split()


def _noun(rng: Random) -> str:
    return words.made_up(rng) if words.odd(rng, 0.25) else rng.choice(_QUERY_NOUNS)


def _subject(rng: Random) -> Any:
    adjective = f"{rng.choice(words.ADJECTIVES)} " if rng.random() < 0.5 else ""
    return adjective + words.thing(rng)


def _number(rng: Random) -> Any:
    return rng.randint(0, 200)


def _place_tool(rng: Random, noun: str) -> Tool:
    where = Parameter(rng.choice(_PLACE_NAMES), "string", "Name of the city", words.city)
    name = rng.choice(
        ("get_{n}", "{n}", "get_current_{n}", "lookup_{n}", "{n}_lookup", "fetch_{n}")
    )
    parameters: tuple[Parameter, ...] = (where,)
    asks: tuple[str, ...] = (
        f"What is the {noun} in {{0}}?",
        f"What's the {noun} in {{0}}?",
        f"Tell me the {noun} in {{0}}.",
        f"How is the {noun} in {{0}} today?",
        f"Look up the {noun} in {{0}}.",
        f"I want to know the {noun} in {{0}}.",
        f"What is the {noun} like in {{0}}?",
        f"{noun} in {{0}}?",
        f"What is the {noun} in {{0}} now? Use a tool.",
    )
    if rng.random() < 0.3:
        units = rng.choice((("celsius", "fahrenheit"), ("metric", "imperial"), ("short", "full")))
        kind = rng.choice(("unit", "units", "format", "mode"))
        parameters = (
            where,
            Parameter(kind, "string", "How to show it", lambda r: r.choice(units), units),
        )
        asks = (
            f"What is the {noun} in {{0}} in {{1}}?",
            f"Tell me the {noun} in {{0}}, {kind} {{1}}.",
            f"Give me the {noun} in {{0}} in {{1}}.",
        )

    def result(r: Random) -> Any:
        return r.choice((_number(r), r.choice(words.ADJECTIVES)))

    return Tool(
        name.format(n=noun), f"Get the {noun} in a city", parameters, asks, result,
        f"The {noun} in {{0}} is {{r}}.",
    )  # fmt: skip


def _search_tool(rng: Random, noun: str) -> Tool:
    query = Parameter(
        rng.choice(("query", "q", "text", "term", "name")), "string", "What to search for",
        _subject,
    )  # fmt: skip
    parameters: tuple[Parameter, ...] = (query,)
    asks: tuple[str, ...] = (
        f"Search the {noun}s for {{0}}.",
        f"Find a {noun} about {{0}}.",
        f"Search for a {noun} about {{0}}.",
        f"Look for {noun}s about {{0}}.",
        f"Can you find a {noun} about {{0}}?",
    )
    if rng.random() < 0.35:
        limit = rng.choice(("limit", "count", "max_results", "top"))
        parameters = (query, Parameter(limit, "integer", "How many", lambda r: r.randint(1, 20)))
        asks = (
            f"Find {{1}} {noun}s about {{0}}.",
            f"Search the {noun}s for {{0}}, at most {{1}}.",
            f"Show me {{1}} {noun}s about {{0}}.",
        )
    name = rng.choice(("search_{n}s", "find_{n}", "{n}_search", "search_{n}", "query_{n}s"))
    return Tool(
        name.format(n=noun), f"Search for a {noun}", parameters, asks,
        lambda r: f"{r.choice(words.ADJECTIVES)} {words.thing(r)}", f"I found this {noun}: {{r}}.",
    )  # fmt: skip


def _send_tool(rng: Random, noun: str) -> Tool:
    to = Parameter(rng.choice(("to", "recipient", "person", "name")), "string", "Who", words.person)
    text = Parameter(
        rng.choice(("text", "message", "body", "content")), "string", "What to say",
        lambda r: words.phrase(r, 1, 5),
    )  # fmt: skip
    asks = (
        f'Send a {noun} to {{0}}: "{{1}}"',
        f'Send {{0}} a {noun} that says "{{1}}".',
        f"Send a {noun} to {{0}} with the text {{1}}",
        f"Write a {noun} to {{0}} saying: {{1}}",
    )
    name = rng.choice(("send_{n}", "write_{n}", "{n}_send", "post_{n}"))
    return Tool(
        name.format(n=noun), f"Send a {noun} to a person", (to, text), asks,
        lambda r: r.choice(("ok", "sent", "done")), f"I sent the {noun} to {{0}}.",
    )  # fmt: skip


def _set_tool(rng: Random, noun: str) -> Tool:
    value = Parameter(
        rng.choice(("value", "level", "amount", "number", "minutes")),
        "integer",
        "New value",
        _number,
    )
    if rng.random() < 0.3:
        value = Parameter(
            rng.choice(("on", "enabled", "state")),
            "boolean",
            "On or off",
            lambda r: r.random() < 0.5,
        )
        asks: tuple[str, ...] = (f"Set the {noun} to {{0}}.", f"The {noun} should be {{0}}.")
    else:
        asks = (
            f"Set the {noun} to {{0}}.",
            f"Please set the {noun} to {{0}}.",
            f"Change the {noun} to {{0}}.",
            f"Put the {noun} at {{0}}.",
        )
    name = rng.choice(("set_{n}", "change_{n}", "{n}_set", "update_{n}"))
    return Tool(
        name.format(n=noun), f"Set the {noun}", (value,), asks,
        lambda r: r.choice(("ok", "done", "true")), f"The {noun} is set to {{0}}.",
    )  # fmt: skip


def _math_tool(rng: Random, noun: str) -> Tool:
    one, two = rng.choice((("a", "b"), ("x", "y"), ("first", "second"), ("left", "right")))
    verb = (
        rng.choice(("add", "multiply", "divide", "subtract", "compare"))
        if rng.random() < 0.7
        else noun
    )
    return Tool(
        rng.choice((verb, f"{verb}_numbers", f"{verb}_two")), f"{verb.capitalize()} two numbers",
        (
            Parameter(one, "integer", "One number", _number),
            Parameter(two, "integer", "Another number", _number),
        ),
        (f"{verb.capitalize()} {{0}} and {{1}}.", f"Use the tool to {verb} {{0}} and {{1}}.",
         f"Can you {verb} {{0}} and {{1}}?"),
        _number, "The result is {r}.",
    )  # fmt: skip


def _plain_tool(rng: Random, noun: str) -> Tool:
    return Tool(
        rng.choice(("list_{n}s", "get_{n}s", "show_{n}s")).format(n=noun), f"List all {noun}s", (),
        (f"List all {noun}s.", f"Show me the {noun}s.", f"Which {noun}s are there?"),
        lambda r: [words.thing(r) for _ in range(r.randint(1, 3))], f"Here are the {noun}s: {{r}}.",
    )  # fmt: skip


_SET_NOUNS = "volume brightness temperature timer alarm speed heating light fan channel".split()
_SEND_NOUNS = "message mail letter postcard note telegram text reminder".split()
# With the nouns: words of tools' names and parameters, which questions use as well.
_PARAMETER_WORDS = (
    "city location place town where unit units format mode celsius fahrenheit metric imperial "
    "short full query text term name limit count max results top to recipient person message body "
    "content value level amount number minutes on enabled state add multiply divide subtract "
    "compare numbers get set find search send list show look lookup change update write post"
).split()
TOOL_WORDS = (*_QUERY_NOUNS, *_SET_NOUNS, *_SEND_NOUNS, *_PARAMETER_WORDS)


def random_tool(rng: Random) -> Tool:
    """A tool of any kind; about one in three is about something made up."""
    kind = rng.choices(
        (_place_tool, _search_tool, _send_tool, _set_tool, _math_tool, _plain_tool),
        (5, 3, 2, 2, 1.5, 0.7),
    )[0]
    noun = _noun(rng)
    if noun in _QUERY_NOUNS and kind is _set_tool:
        noun = rng.choice(_SET_NOUNS)
    if noun in _QUERY_NOUNS and kind is _send_tool:
        noun = rng.choice(_SEND_NOUNS)
    tool = kind(rng, noun)
    if rng.random() < 0.1:
        parts = tool.name.split("_")
        camel = parts[0] + "".join(part.capitalize() for part in parts[1:])
        tool = Tool(camel, tool.description, tool.parameters, tool.asks, tool.result, tool.report)
    return tool


def tool_named(rng: Random, unseen: bool) -> Tool:
    """A tool whose name training may see, or (unseen) may not."""
    while True:
        tool = random_tool(rng)
        if held_out(f"tool {tool.name}") == unseen:
            return tool


def gather(count: int, make: Callable[[], Tool]) -> list[Tool]:
    """At most `count` tools, less those that do what another one does."""
    box: list[Tool] = []
    for _ in range(count):
        tool = make()
        if all(t.name != tool.name and t.description != tool.description for t in box):
            box.append(tool)
    return box


def _toolbox(rng: Random, unseen: bool, most: int) -> list[Tool]:
    count = rng.choice((1, 1, 1, 1, 2, 2, 2, 3, 4)) if most > 1 else 1
    return gather(count, lambda: tool_named(rng, unseen))


def _said(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def ask(rng: Random, tool: Tool) -> tuple[str, dict[str, Any]]:
    """A question that this tool answers, and the arguments."""
    values = [parameter.make(rng) for parameter in tool.parameters]
    said = [_said(v) for v in values]
    user = rng.choice(tool.asks).format(*said)
    user = user[0].upper() + user[1:]
    if "text {1}" not in user and "saying" not in user:
        user = roughen(rng, user)
    return user, dict(zip((p.name for p in tool.parameters), values, strict=True))


def call(rng: Random, *, unseen: bool = False, thinking: bool = False, most: int = 4) -> Example:
    """One question and the tool call that answers it, among one to `most` tools."""
    box = _toolbox(rng, unseen, most)
    tool = rng.choice(box)
    user, arguments = ask(rng, tool)
    expected = {"name": tool.name, "arguments": arguments}
    answer: Message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": expected}],
    }
    if thinking:
        answer["content"] = f"<think>\nThe tool {tool.name} can do that.\n</think>\n\n"
    return Example(
        "call",
        ({"role": "user", "content": user}, answer),
        tuple(t.schema(rng) for t in box),
        thinking,
        (f"tool {tool.name}",),
        expected=expected,
    )


def parallel(rng: Random) -> Example:
    """Two calls of the same tool in one answer."""
    tool = tool_named(rng, False)
    while len(tool.parameters) != 1 or tool.parameters[0].type != "string":
        tool = tool_named(rng, False)
    one, two = tool.parameters[0].make(rng), tool.parameters[0].make(rng)
    user = rng.choice(tool.asks).format(f"{one} and {two}")
    calls = [
        {
            "type": "function",
            "function": {"name": tool.name, "arguments": {tool.parameters[0].name: v}},
        }
        for v in (one, two)
    ]
    messages = (
        {"role": "user", "content": user},
        {"role": "assistant", "content": "", "tool_calls": calls},
    )
    return Example("parallel", messages, (tool.schema(rng),), keys=(f"tool {tool.name}",))


def result_and_report(
    rng: Random, tool: Tool, arguments: dict[str, Any]
) -> tuple[Message, Message]:
    """What the tool answers, and the sentence made of it."""
    result = tool.result(rng)
    key = rng.choice(("result", "value", "answer", tool.name.split("_")[-1]))
    content = _said(result) if rng.random() < 0.4 else chat_json({key: result})
    if isinstance(result, list):
        content = chat_json(result)
    shown = words.listing([str(r) for r in result]) if isinstance(result, list) else _said(result)
    report = tool.report.format(*[_said(v) for v in arguments.values()], r=shown)
    return {"role": "tool", "content": content}, {"role": "assistant", "content": report}


def answered(rng: Random, unseen: bool = False) -> Example:
    """The whole round: question, call, the tool's result, and the sentence made of it."""
    others = [t for t in _toolbox(rng, unseen, 3) if rng.random() < 0.5]
    tool = tool_named(rng, unseen)
    user, arguments = ask(rng, tool)
    told, report = result_and_report(rng, tool, arguments)
    function = {"name": tool.name, "arguments": arguments}
    messages = (
        {"role": "user", "content": user},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": function}],
        },
        told,
        report,
    )
    tools = [t.schema(rng) for t in (tool, *others) if t is tool or t.name != tool.name]
    rng.shuffle(tools)
    keys = (f"tool {tool.name}",)
    return Example("answered", messages, tuple(tools), keys=keys, expected=report["content"])


def chat_json(value: Any) -> str:
    """A tool's result as JSON text."""
    return objects.dump(value)


def not_needed(rng: Random, unseen: bool = False) -> Example:
    """Tools are there, but the question needs none of them."""
    makers = (chat.hello, chat.facts, chat.facts, chat.greet, numbers.counting, chat.lookup)
    while True:
        exchange: Exchange = rng.choice(makers)(rng)
        if trainable(exchange.keys):
            break
    box = _toolbox(rng, unseen, 3)
    if exchange.keys and exchange.keys[0].startswith("lookup"):
        _, what, where = exchange.keys[0].split(" ", 2)
        if any(what in t.name or what in t.description for t in box):
            return not_needed(rng, unseen)
        answer = f"I cannot look up the {what} in {where}: I have no tool for that."
        exchange = Exchange(exchange.user, answer, exchange.thought, exchange.keys)
    messages = (
        {"role": "user", "content": exchange.user},
        {"role": "assistant", "content": exchange.answer},
    )
    tools = tuple(t.schema(rng) for t in box)
    return Example("no call", messages, tools, keys=exchange.keys)
