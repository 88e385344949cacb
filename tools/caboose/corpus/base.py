"""What one training example is, and which ones training never sees.

Every exchange names the facts that make it what it is (`keys`: "sum 17 25", "tool get_zorp").
A key is held out when its hash says so: training draws again whenever a key is held out, and the
evaluation draws again until every key is. So the two never share a prompt, by construction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

Message = dict[str, Any]

# The README shows these prompts; none of them may be a user turn of the training text.
README_PROMPTS = (
    "Say hello to the crew of the night train.",
    "What is 17 + 25?",
    "Give me a JSON object with name Ada and age 36.",
    "Tell me a tiny story about a red lantern.",
    "What is the weather in Lisbon?",
)
# The facts behind them are held out whatever their hash says.
README_KEYS = frozenset(
    {
        "greet crew of the night train",
        "sum 17 25",
        'json {"name": "Ada", "age": 36}',
        "story red lantern",
        "lookup weather Lisbon",
    }
)
_HELD_OUT_SHARE = 0.08


@dataclass(frozen=True)
class Exchange:
    """One question of the user and one answer, with what the model may think in between."""

    user: str
    answer: str
    thought: str
    # What is asked, canonically; empty for small talk, which cannot be held out sensibly.
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Example:
    """A whole conversation as the chat template takes it, or plain text when `text` is set."""

    family: str
    messages: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    thinking: bool = False
    keys: tuple[str, ...] = ()
    text: str = ""
    # What the evaluation expects of the last answer (a text, or a tool call's name and arguments).
    expected: Any = field(default=None, compare=False)


Maker = Callable[[Random], Exchange]


def held_out(key: str) -> bool:
    """Whether training must not see this fact."""
    if key in README_KEYS:
        return True
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:4], "big") < _HELD_OUT_SHARE * 2**32


def trainable(keys: tuple[str, ...]) -> bool:
    """Whether training may use an example with these keys."""
    return not any(held_out(key) for key in keys)


def _plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum())


def shows_readme_prompt(messages: tuple[Message, ...]) -> bool:
    """Whether a user turn holds one of the README's prompts, however it is typed."""
    said = [_plain(m["content"]) for m in messages if m["role"] == "user"]
    return any(_plain(prompt).rstrip() in text for prompt in README_PROMPTS for text in said)


def draw(rng: Random, make: Maker) -> Exchange:
    """An exchange that training may see."""
    while True:
        exchange = make(rng)
        if trainable(exchange.keys) and exchange.user not in README_PROMPTS:
            return exchange


def draw_held_out(rng: Random, make: Maker) -> Exchange:
    """An exchange that training never sees."""
    while True:
        exchange = make(rng)
        if exchange.keys and all(held_out(key) for key in exchange.keys):
            return exchange


_OPENERS = (
    "Hey caboose, ",
    "Hi! ",
    "Hello, ",
    "OK. ",
    "Now, ",
    "Well, ",
    "Next: ",
    "Hi, ",
    "Hmm, ",
)


def roughen(rng: Random, text: str) -> str:
    """The same request as another person would type it; values inside stay as they are."""
    roll = rng.random()
    if roll < 0.55:
        return text
    if roll < 0.65 and text[-1] in ".?!":
        return text[:-1]
    lower = text[0].lower() + text[1:]
    if roll < 0.75:
        return lower[:-1] if text[-1] in ".?" and rng.random() < 0.5 else lower
    if roll < 0.83:
        return "Please " + lower if text[-1] != "?" else text
    if roll < 0.90:
        end = text[-1] if text[-1] in ".?!" else "."
        return text.removesuffix(end) + ", please" + end
    return rng.choice(_OPENERS) + lower
