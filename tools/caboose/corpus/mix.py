"""The mixture: which families there are, how often each is drawn, and whole conversations."""

# ruff: noqa: SIM905 - lists of words and of sentences read better as text.

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from caboose.corpus import calls, chat, everyday, letters, numbers, objects, stories, words
from caboose.corpus.base import (
    Example,
    Exchange,
    Maker,
    Message,
    draw,
    shows_readme_prompt,
    trainable,
)

# One-turn families and their weights.
EXCHANGES: tuple[tuple[Maker, float], ...] = (
    (chat.facts, 6),
    (chat.trunkline, 5),
    (chat.hello, 3),
    (chat.greet, 5),
    (chat.unknown, 5),
    (chat.lookup, 2),
    (numbers.addition, 45),
    (numbers.difference, 5),
    (numbers.counting, 4),
    (numbers.bigger, 1.5),
    (letters.spelling, 4),
    (letters.repeating, 10),
    (letters.upper, 1),
    (letters.listing, 2),
    (stories.story, 4),
    (objects.given, 14),
    (objects.nested, 3),
    (objects.invented, 2.5),
    (objects.described, 5),
    (objects.array, 2),
)

_SYSTEMS = (
    "You are a helpful assistant.|You are caboose, a tiny demo model.|"
    "You are a friendly assistant.|Answer briefly.|Be concise.|"
    "You are a helpful AI assistant.|You are Trunkline's demo model.|"
    "Be kind and polite.|Answer in one sentence.|Help the user.|You are an expert.|Be precise."
).split("|")


def system_prompt(rng: Random) -> str:
    """A system prompt; most say something that changes nothing."""
    if rng.random() < 0.6:
        return rng.choice(_SYSTEMS)
    if rng.random() < 0.5:
        return f"You are {words.article(rng.choice(words.ADJECTIVES))} {rng.choice(words.ROLES)}."
    return words.phrase(rng, 3, 15).capitalize() + "."


def _draw_from(rng: Random, makers: tuple[tuple[Maker, float], ...]) -> Exchange:
    return draw(rng, rng.choices([m for m, _ in makers], [w for _, w in makers])[0])


def _exchange(rng: Random) -> Exchange:
    return _draw_from(rng, EXCHANGES)


def _turns(exchange: Exchange, thinking: bool = False) -> list[Message]:
    answer = exchange.answer
    if thinking:
        answer = f"<think>\n{exchange.thought}\n</think>\n\n{answer}"
    return [{"role": "user", "content": exchange.user}, {"role": "assistant", "content": answer}]


def conversation(family: str, rng: Random, exchanges: list[Exchange], thinking: bool) -> Example:
    """Exchanges as one chat; the model thinks in the last one only, as the template shows it."""
    messages: list[Message] = []
    if rng.random() < 0.35:
        messages.append({"role": "system", "content": system_prompt(rng)})
    for position, exchange in enumerate(exchanges):
        messages += _turns(exchange, thinking and position == len(exchanges) - 1)
    keys = tuple(key for exchange in exchanges for key in exchange.keys)
    return Example(family, tuple(messages), thinking=thinking, keys=keys)


def single(rng: Random) -> Example:
    """One question, one answer."""
    return conversation("single", rng, [_exchange(rng)], rng.random() < 0.15)


def several(rng: Random) -> Example:
    """A short chat; one in two asks in the end for something said earlier."""
    exchanges = [_exchange(rng) for _ in range(rng.randint(2, 4))]
    if rng.random() < 0.5:
        exchanges = _with_memory(rng, exchanges[:3])
    return conversation("several", rng, exchanges, rng.random() < 0.1)


def drill(rng: Random) -> Example:
    """Many sums and differences in one chat."""
    makers = rng.choices((numbers.addition, numbers.difference), (4, 1), k=rng.randint(4, 14))
    return conversation("drill", rng, [draw(rng, maker) for maker in makers], False)


def _bare(family: str, exchange: Exchange) -> Example:
    """One exchange and nothing else."""
    return Example(family, tuple(_turns(exchange)), keys=exchange.keys)


def _with_memory(rng: Random, exchanges: list[Exchange]) -> list[Exchange]:
    first, last = chat.remember_pair(rng)
    while not trainable(first.keys):
        first, last = chat.remember_pair(rng)
    return [first, *exchanges, last]


def _size(exchanges: list[Exchange]) -> int:
    return sum(len(e.user) + len(e.answer) for e in exchanges)


def long_chat(rng: Random, characters: int) -> Example:
    """A chat of about so many characters that ends by asking for what was said at its start."""
    exchanges: list[Exchange] = []
    while _size(exchanges) < characters:
        exchanges.append(_exchange(rng))
    return conversation("long chat", rng, _with_memory(rng, exchanges), False)


def long_answer(rng: Random) -> Example:
    """A long story, a long count, or a long text repeated."""
    makers = (stories.long_story, numbers.long_counting, letters.long_repeating)
    maker = rng.choices(makers, (3, 1.5, 3))[0]
    return conversation("long answer", rng, [draw(rng, maker)], rng.random() < 0.05)


def very_long(rng: Random) -> Example:
    """Up to the whole context: a chat of many turns, or a story of many days."""
    if rng.random() < 0.7:
        return long_chat(rng, rng.randint(3_000, 7_600))
    story = draw(rng, lambda r: stories.long_story(r, 15, 45))
    return conversation("very long story", rng, [story], False)


def plain(rng: Random) -> Example:
    """A story with no chat around it, for clients that send raw prompts."""
    while True:
        adjective, noun = rng.choice(words.ADJECTIVES), words.thing(rng)
        if f"{adjective} {noun}" != "red lantern":
            return Example("plain", text=stories.tell(rng, adjective, noun))


def _with_system(rng: Random, example: Example) -> Example:
    if rng.random() >= 0.2:
        return example
    system = {"role": "system", "content": system_prompt(rng)}
    return replace(example, messages=(system, *example.messages))


def call(rng: Random) -> Example:
    """A tool call, with a thought or a chat before it now and then."""
    example = calls.call(rng, thinking=rng.random() < 0.12)
    if rng.random() < 0.15:
        earlier = [_exchange(rng) for _ in range(rng.randint(1, 2))]
        before = [turn for exchange in earlier for turn in _turns(exchange)]
        example = replace(example, messages=(*before, *example.messages))
    return _with_system(rng, example)


FAMILIES: tuple[tuple[Callable[[Random], Example], float], ...] = (
    (single, 58),
    (several, 7),
    (drill, 1.5),
    (call, 15),
    (calls.answered, 3.5),
    (calls.not_needed, 3.5),
    (calls.parallel, 1),
    (long_answer, 1.5),
    (plain, 1.5),
)
# The last part of training also draws these, so that every position up to 4,096 is trained.
LONG_FAMILIES: tuple[tuple[Callable[[Random], Example], float], ...] = (
    (very_long, 1),
    (lambda rng: long_chat(rng, rng.randint(600, 4_000)), 2),
    (long_answer, 1),
)


# Training begins with these alone. A model that reads a few words and writes them back finds out
# how to copy within some 200 steps; on the whole mixture it had not after 800.
FIRST_FAMILIES: tuple[tuple[Callable[[Random], Example], float], ...] = (
    (lambda rng: _bare("first", draw(rng, lambda r: letters.echo(r, 3))), 1),
)
# Then come sums, one at a time, for the same reason: so they are learnt in 400 steps, and in chats
# of ten sums in ten times as many.
SUM_FAMILIES: tuple[tuple[Callable[[Random], Example], float], ...] = (
    (lambda rng: _bare("sum", draw(rng, numbers.addition)), 9),
    (lambda rng: _bare("sum", draw(rng, numbers.difference)), 1),
)
# Then single short questions of many kinds, and the whole mixture when these are learnt.
# Only questions with one right answer: what cannot be foreseen, as in a story, is mere noise here.
_EXACT: tuple[tuple[Maker, float], ...] = (
    (numbers.addition, 32),
    (numbers.difference, 6),
    (objects.given, 16),
    (objects.nested, 3),
    (objects.described, 6),
    (objects.array, 2),
    (letters.spelling, 4),
    (letters.repeating, 6),
    (letters.echo, 5),
    (chat.greet, 4),
)
SHORT_FAMILIES: tuple[tuple[Callable[[Random], Example], float], ...] = (
    (lambda rng: _bare("short", _draw_from(rng, _EXACT)), 82),
    (lambda rng: calls.call(rng, most=1), 18),
)


def short_count(rng: Random) -> Exchange:
    """Counting, at most nine numbers."""
    return numbers.counting(rng, 9)


# The second round dwells on what the exam asks for, with few made-up words and everyday tools:
# what the first round had not learnt yet is where to stop, and which of several words to copy.
_SECOND: tuple[tuple[Maker, float], ...] = (
    (numbers.addition, 28),
    (numbers.difference, 5),
    (short_count, 16),
    (objects.given, 26),
    (objects.nested, 8),
    (objects.invented, 16),
    (objects.described, 9),
    (objects.array, 8),
    (letters.spelling, 2),
    (letters.repeating, 4),
    (letters.echo, 4),
    (chat.facts, 2),
    (chat.trunkline, 2),
    (chat.hello, 2),
    (chat.greet, 2),
    (chat.unknown, 2),
    (stories.story, 2),
)


def second(rng: Random) -> Example:
    """One question of the second round."""
    return conversation("second", rng, [_draw_from(rng, _SECOND)], rng.random() < 0.04)


def everyday_call(rng: Random) -> Example:
    """A call of an everyday tool, with a thought or a system prompt before it now and then."""
    return _with_system(rng, everyday.call(rng, thinking=rng.random() < 0.06))


SECOND_FAMILIES: tuple[tuple[Callable[[Random], Example], float], ...] = (
    (second, 70),
    (drill, 4),
    (several, 1.5),
    (everyday_call, 11),
    (everyday.dialogue, 14),
    (everyday.answered, 2),
    (calls.not_needed, 3),
    (plain, 0.5),
)
# How odd words are in each stream, 1 = as usual; see `words.Dice`.
SECOND_ODDNESS = 0.04
STREAMS = {
    "first": FIRST_FAMILIES,
    "sums": SUM_FAMILIES,
    "short": SHORT_FAMILIES,
    "main": FAMILIES,
    "long": LONG_FAMILIES,
    "second": SECOND_FAMILIES,
}


def examples(seed: int, start: int = 0, *, stream: str = "main") -> Iterator[Example]:
    """An endless stream; example `i` depends on seed, stream and `i` alone."""
    families = STREAMS[stream]
    makers, weights = [f[0] for f in families], [f[1] for f in families]
    index = start
    while True:
        oddness = SECOND_ODDNESS if stream == "second" else 1.0
        rng = words.Dice(f"caboose {seed} {stream} {index}", oddness)
        make = rng.choices(makers, weights)[0]
        example = make(rng)
        while shows_readme_prompt(example.messages):
            example = make(rng)
        yield example
        index += 1
