"""The second round's tools: names as most people choose them, so that each is met often.

`calls` makes tools with any name and any parameters, which teaches to read the definition; a model
this small then still mixes up what it has seen twice. Here a kind of tool always has the same
parameters, and chats ask for several calls, so a definition that is read once is used more often.
"""

# ruff: noqa: SIM905 - lists of words and of sentences read better as text.

from __future__ import annotations

from random import Random

from caboose.corpus import calls, words
from caboose.corpus.base import Example, Message, held_out
from caboose.corpus.calls import Parameter, Tool

_PLACE_NOUNS = "weather temperature time news traffic forecast population rain wind".split()
_SEARCH_NOUNS = "recipe song film book photo hotel restaurant museum".split()
_SEND_NOUNS = "message mail letter note".split()
_SET_NOUNS = "volume brightness timer alarm speed heating light".split()
_LIST_NOUNS = "customer order invoice ticket event meeting account file".split()
_VERBS = "add multiply divide subtract compare".split()
_TEXTS = (
    "see you at {t}|the {w} is late|I am in {c}|bring the {w}|happy birthday|dinner is ready|"
    "call me at {t}|meet me in {c}|the {w} is broken|good luck|thank you for the {w}|"
    "I found a {w}|where is the {w}|come home soon|the {w} is here"
).split("|")
_TIMES = "noon night five six seven eight nine ten".split()
# Training sees other tools now and then, as `calls` makes them.
_OTHER_SHARE = 0.06


def _text(rng: Random) -> str:
    return rng.choice(_TEXTS).format(
        t=rng.choice(_TIMES), w=rng.choice(words.THINGS), c=rng.choice(words.CITIES)
    )


def _subject(rng: Random) -> str:
    adjective = f"{rng.choice(words.ADJECTIVES)} " if rng.random() < 0.4 else ""
    return adjective + rng.choice(words.THINGS)


def _place(rng: Random) -> Tool:
    noun = rng.choice(_PLACE_NOUNS)
    parameters: tuple[Parameter, ...] = (
        Parameter("city", "string", "Name of the city", words.city),
    )
    asks: tuple[str, ...] = (
        f"What is the {noun} in {{0}}?",
        f"What's the {noun} in {{0}}?",
        f"Tell me the {noun} in {{0}}.",
        f"How is the {noun} in {{0}} today?",
        f"Look up the {noun} in {{0}}.",
        f"{noun} in {{0}}?",
    )
    if noun == "temperature" and rng.random() < 0.6:
        units = ("celsius", "fahrenheit")
        parameters += (
            Parameter("unit", "string", "How to show it", lambda r: r.choice(units), units),
        )
        asks = ("What is the temperature in {0} in {1}?", "Tell me the temperature in {0} in {1}.")
    return Tool(
        f"get_{noun}", f"Get the {noun} in a city", parameters, asks,
        lambda r: r.choice((r.randint(0, 99), r.choice(words.ADJECTIVES))),
        f"The {noun} in {{0}} is {{r}}.",
    )  # fmt: skip


def _search(rng: Random) -> Tool:
    noun = rng.choice(_SEARCH_NOUNS)
    parameters: tuple[Parameter, ...] = (
        Parameter("query", "string", "What to search for", _subject),
    )
    asks: tuple[str, ...] = (
        f"Search the {noun}s for {{0}}.",
        f"Find a {noun} about {{0}}.",
        f"Search for a {noun} about {{0}}.",
        f"Can you find a {noun} about {{0}}?",
    )
    if rng.random() < 0.25:
        parameters += (Parameter("limit", "integer", "How many", lambda r: r.randint(1, 20)),)
        asks = (f"Find {{1}} {noun}s about {{0}}.", f"Search the {noun}s for {{0}}, at most {{1}}.")
    return Tool(
        f"search_{noun}s", f"Search for a {noun}", parameters, asks, _subject,
        f"I found this {noun}: {{r}}.",
    )  # fmt: skip


def _send(rng: Random) -> Tool:
    noun = rng.choice(_SEND_NOUNS)
    asks = (
        f'Send a {noun} to {{0}}: "{{1}}"',
        f'Send {{0}} a {noun} that says "{{1}}".',
        f"Write a {noun} to {{0}} saying: {{1}}",
    )
    return Tool(
        f"send_{noun}", f"Send a {noun} to a person",
        (
            Parameter("to", "string", "Who", words.person),
            Parameter("text", "string", "What to say", _text),
        ),
        asks, lambda r: r.choice(("ok", "sent", "done")), f"I sent the {noun} to {{0}}.",
    )  # fmt: skip


def _set(rng: Random) -> Tool:
    noun = rng.choice(_SET_NOUNS)
    return Tool(
        f"set_{noun}", f"Set the {noun}",
        (Parameter("value", "integer", "New value", lambda r: r.randint(0, 100)),),
        (
            f"Set the {noun} to {{0}}.",
            f"Change the {noun} to {{0}}.",
            f"Put the {noun} at {{0}}.",
        ),
        lambda r: r.choice(("ok", "done")), f"The {noun} is set to {{0}}.",
    )  # fmt: skip


def _math(rng: Random) -> Tool:
    verb = rng.choice(_VERBS)
    number = lambda r: r.randint(0, 99)  # noqa: E731 - one for both
    return Tool(
        verb, f"{verb.capitalize()} two numbers",
        (
            Parameter("a", "integer", "One number", number),
            Parameter("b", "integer", "Another number", number),
        ),
        (f"{verb.capitalize()} {{0}} and {{1}}.", f"Use the tool to {verb} {{0}} and {{1}}."),
        number, "The result is {r}.",
    )  # fmt: skip


def _list(rng: Random) -> Tool:
    noun = rng.choice(_LIST_NOUNS)
    return Tool(
        f"list_{noun}s", f"List all {noun}s", (),
        (f"List all {noun}s.", f"Show me the {noun}s.", f"Which {noun}s are there?"),
        lambda r: [r.choice(words.THINGS) for _ in range(r.randint(1, 3))],
        f"Here are the {noun}s: {{r}}.",
    )  # fmt: skip


def tool(rng: Random) -> Tool:
    """A tool of any kind."""
    if rng.random() < _OTHER_SHARE:
        return calls.tool_named(rng, False)
    kinds = (_place, _search, _send, _set, _math, _list)
    return rng.choices(kinds, (5, 3, 2.5, 2, 1.5, 0.5))[0](rng)


def toolbox(rng: Random) -> list[Tool]:
    """One to three tools that do different things."""
    return calls.gather(rng.choice((1, 1, 1, 2, 2, 3)), lambda: tool(rng))


def _key(name: str, arguments: dict[str, object]) -> str:
    return " ".join(("call", name, *map(str, arguments.values())))


def _asked(
    rng: Random, box: list[Tool], unseen: bool
) -> tuple[Tool, str, dict[str, object]] | None:
    """A tool of the box, a question for it, and the arguments; None where all is held out."""
    for _ in range(200):
        chosen = rng.choice(box)
        user, arguments = calls.ask(rng, chosen)
        if held_out(_key(chosen.name, arguments)) == unseen:
            return chosen, user, arguments
    return None


def _turn(user: str, name: str, arguments: dict[str, object], thinking: bool) -> list[Message]:
    content = f"<think>\nThe tool {name} can do that.\n</think>\n\n" if thinking else ""
    function = {"name": name, "arguments": arguments}
    calling = [{"type": "function", "function": function}]
    return [
        {"role": "user", "content": user},
        {"role": "assistant", "content": content, "tool_calls": calling},
    ]


def call(rng: Random, *, unseen: bool = False, thinking: bool = False) -> Example:
    """One question and the call that answers it."""
    box = toolbox(rng)
    asked = _asked(rng, box, unseen)
    if asked is None:
        return call(rng, unseen=unseen, thinking=thinking)
    chosen, user, arguments = asked
    return Example(
        "call",
        tuple(_turn(user, chosen.name, arguments, thinking)),
        tuple(t.schema(rng) for t in box),
        thinking,
        (_key(chosen.name, arguments),),
        expected={"name": chosen.name, "arguments": arguments},
    )


def answered(rng: Random, *, unseen: bool = False) -> Example:
    """The whole round: question, call, the tool's result, and the sentence made of it."""
    box = toolbox(rng)
    asked = _asked(rng, box, unseen)
    if asked is None:
        return answered(rng, unseen=unseen)
    chosen, user, arguments = asked
    told = calls.result_and_report(rng, chosen, arguments)
    return Example(
        "answered",
        (*_turn(user, chosen.name, arguments, False), *told),
        tuple(t.schema(rng) for t in box),
        keys=(_key(chosen.name, arguments),),
        expected=told[1]["content"],
    )


def dialogue(rng: Random) -> Example:
    """Two to five questions to the same tools, with what the tools answer now and then."""
    box = toolbox(rng)
    messages: list[Message] = []
    keys: list[str] = []
    for _ in range(rng.randint(2, 5)):
        asked = _asked(rng, box, False)
        if asked is None:
            return dialogue(rng)
        chosen, user, arguments = asked
        messages += _turn(user, chosen.name, arguments, False)
        keys.append(_key(chosen.name, arguments))
        if rng.random() < 0.3:
            messages += calls.result_and_report(rng, chosen, arguments)
    return Example("dialogue", tuple(messages), tuple(t.schema(rng) for t in box), keys=tuple(keys))
