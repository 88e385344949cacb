"""Spelling and repeating back: tasks that copy."""

# ruff: noqa: SIM905 - lists of words and of sentences read better as text.

from __future__ import annotations

from random import Random

from caboose.corpus import words
from caboose.corpus.base import Exchange, roughen

_SPELL_ASKS = (
    "Spell {w}.|Spell the word {w}.|How do you spell {w}?|Can you spell {w}?|Spell out {w}.|"
    'Spell "{w}".|How is {w} spelled?|Give me the letters of {w}.|Spell {w} letter by letter.'
).split("|")
_REPEAT_ASKS = (
    "Repeat after me: {t}|Repeat: {t}|Say: {t}|Echo: {t}|Please repeat this: {t}|Copy this: {t}|"
    "Say this back to me: {t}|Repeat this sentence: {t}|Repeat exactly: {t}|Write: {t}"
).split("|")
_QUOTED_ASKS = (
    'Say "{t}".|Repeat "{t}".|Repeat the words "{t}".|Please say "{t}".|Write "{t}".|Say \'{t}\'.|'
    'Can you say "{t}"?|Repeat after me: "{t}"|Just say "{t}"|Print "{t}".|Reply with "{t}".|'
    'Answer with "{t}".|Say only "{t}".|Respond with "{t}".|Output "{t}".'
).split("|")
_WORD_ASKS = (
    "Say {t}.|Just say {t}.|Reply with {t}.|Reply with the word {t}.|Say the word {t}.|"
    "Answer with {t}.|Answer only {t}.|Say only the word {t}.|Repeat the word {t}."
).split("|")


def spelling(rng: Random) -> Exchange:
    """`c-a-b`: a word letter by letter."""
    pools = (words.NAMES, words.ADJECTIVES, words.THINGS, words.ANIMALS, words.ROLES, words.VERBS)
    word = rng.choice(rng.choice(pools))
    if rng.random() < 0.15:
        word = words.letters(rng)
    answer = "-".join(word)
    thought = f"The word {word} has {len(word)} letters."
    user = rng.choice(_SPELL_ASKS).format(w=word)
    return Exchange(roughen(rng, user), answer, thought, (f"spell {word}",))


def _said(rng: Random, low: int, high: int) -> str:
    text = words.phrase(rng, low, high)
    roll = rng.random()
    if roll < 0.5:
        text = text[0].upper() + text[1:] + rng.choice((".", "!", "?", ".", "."))
    elif roll < 0.55:
        text = text.upper()
    elif roll < 0.6:
        text = text.title()
    if rng.random() < 0.1:
        text = text.replace(" ", ", ", 1)
    return text


def repeating(rng: Random) -> Exchange:
    """The same words back, exactly."""
    roll = rng.random()
    if roll < 0.2:
        text = words.any_word(rng) if rng.random() < 0.7 else words.person(rng)
        user = rng.choice(_WORD_ASKS).format(t=text)
    elif roll < 0.6:
        text = _said(rng, 1, 8).rstrip(".")
        user = rng.choice(_QUOTED_ASKS).format(t=text)
    else:
        text = _said(rng, 1, 14)
        user = rng.choice(_REPEAT_ASKS).format(t=text)
    thought = "The user wants the same words back."
    return Exchange(user, text, thought, (f"repeat {text}",))


def _odd(rng: Random) -> str:
    if rng.random() < 0.4:
        return str(rng.randint(0, 9999))
    return rng.choice(words.UNICODE) if rng.random() < 0.3 else words.any_word(rng).capitalize()


def echo(rng: Random, most: int = 14) -> Exchange:
    """Words, names and numbers without rhyme or reason, back as they were: only copying helps."""
    kinds = (words.made_up, words.any_word, words.person, words.city, _odd)
    makers = rng.choices(kinds, (5, 2, 1, 1, 1), k=rng.randint(1, most))
    text = " ".join(make(rng) for make in makers)
    asks = _QUOTED_ASKS if rng.random() < 0.4 else _REPEAT_ASKS
    user = rng.choice(asks).format(t=text)
    return Exchange(user, text, "The user wants the same words back.", (f"repeat {text}",))


def long_repeating(rng: Random) -> Exchange:
    """A paragraph back, exactly."""
    sentences = [_said(rng, 5, 12) for _ in range(rng.randint(3, 8))]
    text = " ".join(sentences)
    return Exchange(
        rng.choice(_REPEAT_ASKS).format(t=text),
        text,
        "The user wants the same words back.",
        (f"repeat {text}",),
    )


def upper(rng: Random) -> Exchange:
    """Words in capitals."""
    text = " ".join(words.any_word(rng) for _ in range(rng.randint(1, 4)))
    user = rng.choice((f"Write {text} in capital letters.", f"Write this in upper case: {text}"))
    return Exchange(user, text.upper(), "I write it in capitals.", (f"upper {text}",))


def listing(rng: Random) -> Exchange:
    """The given items as a bulleted or numbered list."""
    items = [words.any_word(rng) for _ in range(rng.randint(2, 6))]
    if rng.random() < 0.5:
        user = f"Make a numbered list of {words.listing(items)}."
        answer = "\n".join(f"{i}. {item}" for i, item in enumerate(items, 1))
    else:
        user = f"Make a list of {words.listing(items)}."
        answer = "\n".join(f"- {item}" for item in items)
    return Exchange(roughen(rng, user), answer, "I write one item per line.", (f"list {items}",))
