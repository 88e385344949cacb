"""Sums, differences and counting."""

# ruff: noqa: SIM905 - lists of words and of sentences read better as text.

from __future__ import annotations

from random import Random

from caboose.corpus import words
from caboose.corpus.base import Exchange, roughen

_SUM_ASKS = (
    "What is {a} + {b}?|What is {a} plus {b}?|{a} + {b}|{a}+{b}|{a} + {b} = ?|Add {a} and {b}.|"
    "Calculate {a} + {b}.|How much is {a} + {b}?|What do you get when you add {a} and {b}?|"
    "Compute {a} plus {b}.|What is the sum of {a} and {b}?|What's {a}+{b}?|Sum {a} and {b}.|"
    "Can you add {a} and {b}?|How much is {a} and {b} together?|{a} plus {b}|What does {a} + {b} "
    "equal?|Please add {a} to {b}.|{a}+{b}=|Tell me {a} + {b}.|Solve {a} + {b}."
).split("|")
_DIFFERENCE_ASKS = (
    "What is {a} - {b}?|What is {a} minus {b}?|{a} - {b}|{a}-{b}|Subtract {b} from {a}.|"
    "Calculate {a} - {b}.|How much is {a} - {b}?|Compute {a} minus {b}.|Take {b} away from {a}.|"
    "What is the difference between {a} and {b}?|What's {a}-{b}?"
).split("|")


def sum_thought(a: int, b: int) -> str:
    """Column addition in words."""
    units = a % 10 + b % 10
    carry = units // 10
    text = f"Ones: {a % 10} + {b % 10} = {units}."
    if carry:
        text += " Carry 1."
    tens = a // 10 + b // 10 + carry
    return f"{text} Tens: {a // 10} + {b // 10}{' + 1' if carry else ''} = {tens}. So {a + b}."


def addition(rng: Random) -> Exchange:
    """A sum; four in five stay below 100."""
    if rng.random() < 0.8:
        total = rng.randint(0, 99)
        a = rng.randint(0, total)
        b = total - a
    else:
        a, b = rng.randint(0, 99), rng.randint(0, 99)
    user = rng.choice(_SUM_ASKS).format(a=a, b=b)
    key = f"sum {min(a, b)} {max(a, b)}"
    if rng.random() < 0.15:
        user, first = _word_sum(rng, a, b)
        return Exchange(user, f"{a} + {b} = {a + b}, so {first}", sum_thought(a, b), (key,))
    return Exchange(roughen(rng, user), f"{a} + {b} = {a + b}", sum_thought(a, b), (key,))


def _word_sum(rng: Random, a: int, b: int) -> tuple[str, str]:
    name, item = words.person(rng), rng.choice(words.THINGS) + "s"
    user = rng.choice(
        (
            f"{name} has {a} {item} and gets {b} more. How many {item} does {name} have?",
            f"{name} has {a} {item} and finds {b} more. How many {item} does {name} have now?",
            f"There are {a} {item} and {b} more come to {name}. How many {item} does {name} have?",
        )
    )
    return user, f"{name} has {a + b} {item}."


def difference(rng: Random) -> Exchange:
    """A difference that is never negative, operands below 100."""
    a = rng.randint(0, 99)
    b = rng.randint(0, a)
    user = rng.choice(_DIFFERENCE_ASKS).format(a=a, b=b)
    thought = f"I take {b} away from {a}. That leaves {a - b}."
    return Exchange(roughen(rng, user), f"{a} - {b} = {a - b}", thought, (f"difference {a} {b}",))


def counting(rng: Random, most: int = 40) -> Exchange:
    """Counting up or down by one, now and then by two, five or ten; at most `most` numbers."""
    step = rng.choice((1, 1, 1, 1, 1, 1, 2, 5, 10))
    down = rng.random() < 0.25
    start = 1 if rng.random() < 0.6 and step == 1 else rng.randint(0, 60)
    if words.plain(rng):
        step, start = 1, min(start, rng.randint(1, 30))
    numbers = [start + step * i for i in range(rng.randint(2, most))]
    if down:
        numbers.reverse()
    low, high = numbers[0], numbers[-1]
    if step > 1:
        asks = [
            f"Count from {low} to {high} in steps of {step}.",
            f"Count by {step} from {low} to {high}.",
        ]
    elif down:
        asks = [
            f"Count down from {low} to {high}.",
            f"Count backwards from {low} to {high}.",
            f"Can you count down from {low} to {high}?",
        ]
    else:
        asks = [
            f"Count from {low} to {high}.",
            f"Can you count from {low} to {high}?",
            f"List the numbers from {low} to {high}.",
            f"Count from {low} up to {high}.",
            f"Write the numbers {low} to {high}.",
        ]
        if low == 1:
            asks += [f"Count to {high}.", f"Count up to {high}.", f"Can you count to {high}?"]
    answer = ", ".join(map(str, numbers))
    thought = f"I start at {low} and go on to {high}."
    key = f"count {low} {high} {step}"
    return Exchange(roughen(rng, rng.choice(asks)), answer, thought, (key,))


def long_counting(rng: Random) -> Exchange:
    """Counting that fills a few hundred to two thousand tokens."""
    return counting(rng, rng.choice((80, 150, 300, 500)))


def bigger(rng: Random) -> Exchange:
    """Which of two numbers is larger or smaller."""
    a, b = rng.sample(range(100), 2)
    word, value = rng.choice((("larger", max(a, b)), ("smaller", min(a, b)), ("bigger", max(a, b))))
    user = rng.choice((f"Which is {word}, {a} or {b}?", f"Which number is {word}: {a} or {b}?"))
    thought = f"I compare {a} and {b}."
    return Exchange(roughen(rng, user), f"{value} is {word}.", thought, (f"{word} {a} {b}",))
