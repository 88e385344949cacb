"""The held-out exam: questions by family, and what counts as right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from caboose.corpus import calls, chat, everyday, letters, mix, numbers, objects, stories, words
from caboose.corpus.base import (
    README_PROMPTS,
    Example,
    Exchange,
    Maker,
    draw,
    draw_held_out,
    held_out,
)
from caboose.template import prompt


@dataclass(frozen=True)
class Question:
    """One prompt as the model sees it, and the answer that is wanted."""

    prompt: str
    wanted: Any


@dataclass(frozen=True)
class Family:
    """One row of the table: how to ask, what is right, and the share that must be."""

    name: str
    ask: Callable[[Random], Question]
    right: Callable[[str, Any], bool]
    threshold: float = 0.0


def _asks(*makers: Maker, thinking: bool = False) -> Callable[[Random], Question]:
    def ask(rng: Random) -> Question:
        exchange = draw_held_out(rng, rng.choice(makers))
        return Question(prompt(mix.conversation("", rng, [exchange], thinking)), exchange.answer)

    return ask


def _small_sum(rng: Random) -> Exchange:
    while True:
        exchange = numbers.addition(rng)
        _, a, b = exchange.keys[0].split()
        if int(a) + int(b) < 100:
            return exchange


def _story(rng: Random) -> Exchange:
    # "Tell me a story." names no subject, so training shows it too.
    while True:
        exchange = stories.story(rng)
        if exchange.keys[0].removeprefix("story ") in exchange.user:
            return exchange


def _call(rng: Random) -> Question:
    example = everyday.call(rng, unseen=True)
    return Question(prompt(example), example.expected)


def _strange_call(rng: Random) -> Question:
    example = calls.call(rng, unseen=True)
    return Question(prompt(example), example.expected)


def _after_result(rng: Random) -> Question:
    example = everyday.answered(rng, unseen=True)
    return Question(prompt(example), example.messages[-1]["content"])


def _no_call(rng: Random) -> Question:
    return Question(prompt(calls.not_needed(rng, unseen=True)), None)


def _memory(low: int, high: int) -> Callable[[Random], Question]:
    def ask(rng: Random) -> Question:
        first, last = chat.remember_pair(rng)
        while not all(held_out(key) for key in first.keys):
            first, last = chat.remember_pair(rng)
        between: list[Exchange] = []
        size = rng.randint(low, high)
        while sum(len(e.user) + len(e.answer) for e in between) < size:
            between.append(
                draw(
                    rng,
                    rng.choices([m for m, _ in mix.EXCHANGES], [w for _, w in mix.EXCHANGES])[0],
                )
            )
        example = mix.conversation("", rng, [first, *between, last], False)
        return Question(prompt(example), last.answer)

    return ask


def _same(answer: str, wanted: Any) -> bool:
    return bool(answer.strip() == wanted)


def _same_number(answer: str, wanted: Any) -> bool:
    # The last number decides: "17 + 25 = 42", "Ada has 42 kites."
    return re.findall(r"\d+", answer)[-1:] == re.findall(r"\d+", wanted)[-1:]


def _thought_number(answer: str, wanted: Any) -> bool:
    found = re.fullmatch(r"<think>\n.+?\n</think>\n\n(.*)", answer, re.DOTALL)
    return found is not None and _same_number(found[1], wanted)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _parses(answer: str, _wanted: Any) -> bool:
    return _parsed(answer) is not None


def _same_json(answer: str, wanted: Any) -> bool:
    return bool(_parsed(answer) == json.loads(wanted))


def _same_call(answer: str, wanted: Any) -> bool:
    found = re.fullmatch(r"\s*<tool_call>\n(.*)\n</tool_call>\s*", answer, re.DOTALL)
    return found is not None and bool(_parsed(found[1]) == wanted)


def _same_fields(answer: str, wanted: Any) -> bool:
    parsed = _parsed(answer)
    return isinstance(parsed, dict) and list(parsed) == list(json.loads(wanted))


def _told(answer: str, _wanted: Any) -> bool:
    return len(answer) > 120 and answer.rstrip()[-1] in '.!?"'


def _no_tool_call(answer: str, _wanted: Any) -> bool:
    return bool(answer) and "<tool_call>" not in answer


def _modest(answer: str, _wanted: Any) -> bool:
    return "demo model" in answer


_JSON_MAKERS = (objects.given, objects.given, objects.nested, objects.described, objects.array)

FAMILIES = (
    Family("sums below 100", _asks(_small_sum), _same_number, 0.90),
    Family("sums, thinking first", _asks(_small_sum, thinking=True), _thought_number),
    Family("JSON parses", _asks(*_JSON_MAKERS, objects.invented), _parses, 0.95),
    Family("JSON values match", _asks(*_JSON_MAKERS), _same_json),
    Family("JSON fields match (invented values)", _asks(objects.invented), _same_fields),
    Family("tool calls match", _call, _same_call, 0.95),
    Family("calls of tools never seen match", _strange_call, _same_call),
    Family("answer after a tool's result", _after_result, _same),
    Family("no call when none fits", _no_call, _no_tool_call),
    Family("differences", _asks(numbers.difference), _same_number),
    Family("counting", _asks(mix.short_count), _same),
    Family("spelling", _asks(letters.spelling), _same),
    Family("repeating back", _asks(letters.repeating), _same),
    Family("greeting", _asks(chat.greet), _same),
    Family("stories end well", _asks(_story), _told),
    Family("says that it does not know", _asks(chat.unknown), _modest),
    Family("remembers, short chat", _memory(50, 400), _same),
    Family("remembers, 2,000 to 4,000 tokens", _memory(4_800, 6_400), _same),
)


def questions(family: Family, seed: int, count: int) -> list[Question]:
    """The same questions for the same seed, none of them twice."""
    # Words are as odd as in the last round of training.
    rng = words.Dice(f"exam {seed} {family.name}", mix.SECOND_ODDNESS)
    found: dict[str, Question] = {}
    while len(found) < count:
        question = family.ask(rng)
        found.setdefault(question.prompt, question)
    return list(found.values())


def readme_examples() -> list[Example]:
    """The README's prompts as conversations; the weather one with and without its tool."""
    weather = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather in a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    asked = [(text, ()) for text in README_PROMPTS] + [(README_PROMPTS[-1], (weather,))]
    return [
        Example(
            "readme",
            ({"role": "user", "content": text}, {"role": "assistant", "content": ""}),
            tools,
        )
        for text, tools in asked
    ]
