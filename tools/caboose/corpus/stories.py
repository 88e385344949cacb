"""Tiny stories from a small grammar, and long ones made of several days."""

# ruff: noqa: SIM905 - lists of words and of sentences read better as text.

from __future__ import annotations

from random import Random

from caboose.corpus import words
from caboose.corpus.base import Exchange, roughen

_ASKS = (
    "Tell me a tiny story about {s}.|Tell me a story about {s}.|Write a short story about {s}.|"
    "Write a tiny story about {s}.|A story about {s}, please.|Tell a little story about {s}.|"
    "Can you tell me a story about {s}?|I want a story about {s}.|Make up a story about {s}.|"
    "Tell me a short story with {s}.|Once upon a time there was {s}. Go on."
).split("|")
_BARE_ASKS = (
    "Tell me a story.|Tell me a tiny story.|Write a short story.|Tell a story.|A story, please."
).split("|")
_LONG_ASKS = (
    "Tell me a long story about {s}.|Write a long story about {s}.|A long story about {s}, please.|"
    "Write a long tale about {s}.|Tell me a very long story about {s}."
).split("|")

_OPENINGS = (
    "Once upon a time there was {s} in {place}.",
    "In {place} there was {s}.",
    "Long ago, in {place}, there was {s}.",
    "There once was {s} in {place}.",
)
_WISHES = (
    "Everybody said that the {n} was too {a} to be of any use.",
    "The {n} was {a} and wanted to see the world.",
    "Nobody knew where the {n} came from.",
    "The {n} was often {a}, because it had no friend.",
    "Every {time} the {n} waited for somebody to come by.",
    "The {n} had one secret wish: to {v} with the others.",
)
_MEETINGS = (
    "One {time} {p}, a {a} {role}, came by and stopped.",
    "One {time} a {a} {animal} called {p} knocked at the door.",
    "Then {p} the {animal} found the {n} and smiled.",
    "One {time} {p} lost the way in the dark and saw the {n}.",
)
_TROUBLES = (
    "A {a} storm came, and the bridge was gone.",
    "But the {thing} was lost, and nobody could find it.",
    "Suddenly the lights went out in the whole town.",
    "The last train to {city} was about to leave without them.",
    "A {a} {animal} had taken the {thing} and hidden it under a tree.",
)
_DEEDS = (
    "{p} took the {n} along, and together they looked for help until the {time}.",
    "The {n} did not give up. It thought hard and had a {a} idea.",
    '"Do not be afraid," said {p}. "We will do it together."',
    "So {p} and the {n} worked all day, step by step.",
    "With the help of the {n}, {p} found the {thing} at last.",
)
_ENDS = (
    "From that day on, {p} and the {n} were the best of friends.",
    "And everybody in town still tells of the {n} that saved the day.",
    "That night they all sat together, and the {n} was happy.",
    "And so the {n} found its place at last. The end.",
    "Since then {p} visits the {n} every {time}.",
)
_DAYS = (
    "The next {time}, {p} and the {n} set out for {city}.",
    "On the way they met a {a} {role} who needed a {thing}.",
    'The {role} said: "Take this {thing}, it will bring you luck."',
    "They came to a {a} {place2}, where a {a} {animal} was asleep.",
    "In the evening they rested under a {a} tree and counted the stars.",
    "{p} sang a song about the {a} {thing}, and the {n} listened.",
    "It rained for {k} days, but the two friends kept walking.",
    "At the {place2} there was a sign that said: {city}, {k} miles.",
    "They shared {k} apples with a {a} {animal} and laughed a lot.",
    'The {animal} asked: "Where are you going?" "To {city}," said {p}.',
    "A {a} {role} gave them a ride on a {a} {vehicle}.",
    "The {n} found a {a} {thing} beside the road and kept it.",
)


class _Tale:
    """One story's fixed cast; every sentence fills in the rest at random."""

    def __init__(self, rng: Random, adjective: str, noun: str) -> None:
        self._rng = rng
        self._fixed = {
            "s": words.article(f"{adjective} {noun}" if adjective else noun),
            "n": noun,
            "p": words.person(rng),
            "place": rng.choice(words.PLACES),
        }

    def sentence(self, patterns: tuple[str, ...]) -> str:
        rng = self._rng
        text = rng.choice(patterns).format(
            **self._fixed,
            a=rng.choice(words.ADJECTIVES),
            v=rng.choice(words.VERBS),
            time=rng.choice(("morning", "evening", "night", "day", "winter", "summer")),
            role=rng.choice(words.ROLES),
            animal=rng.choice(words.ANIMALS),
            thing=rng.choice(words.THINGS),
            city=rng.choice(words.CITIES),
            place2=rng.choice(("bridge", "mill", "farm", "river", "castle", "station", "lake")),
            vehicle=rng.choice(words.VEHICLES),
            k=rng.randint(2, 12),
        )
        for vowel in "aeiou":
            text = text.replace(f" a {vowel}", f" an {vowel}").replace(f"A {vowel}", f"An {vowel}")
        return text


def tell(rng: Random, adjective: str, noun: str, days: int = 0) -> str:
    """A story; each of the `days` adds a paragraph of four to six sentences."""
    tale = _Tale(rng, adjective, noun)
    parts = [tale.sentence(_OPENINGS), tale.sentence(_WISHES), tale.sentence(_MEETINGS)]
    paragraphs = [" ".join(parts)]
    paragraphs += [
        " ".join(tale.sentence(_DAYS) for _ in range(rng.randint(4, 6))) for _ in range(days)
    ]
    last = [tale.sentence(_TROUBLES), tale.sentence(_DEEDS), tale.sentence(_ENDS)]
    if not days:
        return " ".join(parts + last)
    return "\n\n".join([*paragraphs, " ".join(last)])


def _subject(rng: Random) -> tuple[str, str]:
    adjective = rng.choice(words.ADJECTIVES) if rng.random() < 0.75 else ""
    return adjective, words.thing(rng)


def story(rng: Random) -> Exchange:
    """A story of six sentences about a given thing."""
    adjective, noun = _subject(rng)
    subject = f"{adjective} {noun}".strip()
    ask = rng.choice(_BARE_ASKS if rng.random() < 0.1 else _ASKS)
    user = ask.format(s=words.article(subject))
    thought = f"I tell a story about {words.article(subject)} with a beginning and an end."
    return Exchange(roughen(rng, user), tell(rng, adjective, noun), thought, (f"story {subject}",))


def long_story(rng: Random, low: int = 2, high: int = 8) -> Exchange:
    """A story of several paragraphs, some 300 to 1,000 tokens."""
    adjective, noun = _subject(rng)
    subject = f"{adjective} {noun}".strip()
    user = rng.choice(_LONG_ASKS).format(s=words.article(subject))
    answer = tell(rng, adjective, noun, rng.randint(low, high))
    thought = f"I tell a long story about {words.article(subject)}."
    return Exchange(roughen(rng, user), answer, thought, (f"story {subject}",))
