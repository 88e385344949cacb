"""JSON objects on request: values from the prompt, from a schema, or invented."""

# ruff: noqa: SIM905 - lists of words and of sentences read better as text.

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from caboose.corpus import words
from caboose.corpus.base import Exchange, roughen

Value = str | int | float | bool | list[Any]

_FIELDS: dict[str, Callable[[Random], Value]] = {
    "name": words.person,
    "first_name": words.person,
    "owner": words.person,
    "author": words.person,
    "user": words.person,
    "friend": words.person,
    "city": words.city,
    "country": words.city,
    "location": words.city,
    "origin": words.city,
    "destination": words.city,
    "age": lambda rng: rng.randint(1, 99),
    "count": lambda rng: rng.randint(0, 500),
    "year": lambda rng: rng.randint(1900, 2030),
    "price": lambda rng: rng.choice((rng.randint(1, 999), round(rng.uniform(0, 99), 2))),
    "quantity": lambda rng: rng.randint(1, 99),
    "id": lambda rng: rng.randint(1, 9999),
    "size": lambda rng: rng.randint(1, 60),
    "score": lambda rng: rng.randint(0, 100),
    "number": lambda rng: rng.randint(0, 999),
    "color": lambda rng: rng.choice(words.COLOURS),
    "colour": lambda rng: rng.choice(words.COLOURS),
    "animal": lambda rng: rng.choice(words.ANIMALS),
    "pet": lambda rng: rng.choice(words.ANIMALS),
    "item": words.thing,
    "product": words.thing,
    "title": lambda rng: f"The {rng.choice(words.ADJECTIVES).title()} {words.thing(rng).title()}",
    "job": lambda rng: rng.choice(words.ROLES),
    "role": lambda rng: rng.choice(words.ROLES),
    "hobby": lambda rng: rng.choice(words.VERBS) + "ing",
    "vehicle": lambda rng: rng.choice(words.VEHICLES),
    "active": lambda rng: rng.random() < 0.5,
    "available": lambda rng: rng.random() < 0.5,
    "ready": lambda rng: rng.random() < 0.5,
}
# What the second round keeps to.
_EVERYDAY = (
    "name city age count year price color animal item job active id owner vehicle score size "
    "friend country"
).split()
FIELD_NAMES = tuple(part for name in _FIELDS for part in name.split("_"))

_ASKS = (
    "Give me a JSON object with {f}.|Make a JSON object with {f}.|Write JSON with {f}.|"
    "Create a JSON object with {f}.|I need a JSON object with {f}.|JSON with {f}, please.|"
    "Return a JSON object with {f}.|Produce JSON with {f}.|Can you make a JSON object with {f}?|"
    "Generate a JSON object that has {f}.|Answer in JSON: {f}.|Output a JSON object with {f}.|"
    "A JSON object with {f}.|Show me a JSON object with {f}."
).split("|")
_BARE_ASKS = (
    "Give me a JSON object.|Give me some JSON.|Write a JSON object.|Show me a JSON example.|"
    "Answer in JSON.|Make a small JSON object.|Reply with JSON.|Return JSON.|Return only JSON."
).split("|")


def dump(value: object) -> str:
    """JSON as the model writes it."""
    return json.dumps(value, ensure_ascii=False)


def _field(rng: Random) -> tuple[str, Value]:
    if words.odd(rng, 0.12):
        name = words.made_up(rng)
        value: Value = rng.choice((rng.randint(0, 999), words.any_word(rng)))
        return name, value
    name = rng.choice(_EVERYDAY if words.plain(rng) else list(_FIELDS))
    if words.odd(rng, 0.04):
        return name, rng.choice(words.UNICODE)
    return name, _FIELDS[name](rng)


def _said(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _pair(rng: Random, style: int, name: str, value: Value) -> str:
    said = _said(value)
    if isinstance(value, str) and style != 3 and rng.random() < 0.1:
        said = f'"{said}"'
    return (f"{name} {said}", f"{name} = {said}", f"{name}: {said}", f"{name} set to {said}")[style]


def _members(rng: Random, most: int) -> dict[str, Value]:
    members: dict[str, Value] = {}
    sizes = (1, 2, 2, 2, 3, 3) if words.plain(rng) else (1, 2, 2, 2, 3, 3, 4, 5)
    for _ in range(rng.choice(sizes) if most > 2 else rng.randint(1, most)):
        name, value = _field(rng)
        members[name] = value
    return members


def given(rng: Random) -> Exchange:
    """Fields with their values, both from the prompt."""
    members = _members(rng, 5)
    style = rng.choice((0, 0, 0, 1, 2, 3))
    parts = [_pair(rng, style, name, value) for name, value in members.items()]
    roll = rng.random()
    if roll < 0.12:
        name = rng.choice(("tags", "items", "colors", "names", "list", "words", "numbers"))
        most = 3 if words.plain(rng) else 4
        values: list[Any] = [words.any_word(rng) for _ in range(rng.randint(1, most))]
        if name == "numbers":
            values = [rng.randint(0, 99) for _ in values]
        members[name] = values
        parts.append(f"a list {name} of {words.listing([str(v) for v in values])}")
    user = rng.choice(_ASKS).format(f=words.listing(parts))
    thought = f"The object has {len(members)} field{'s' if len(members) > 1 else ''}."
    answer = dump(members)
    return Exchange(roughen(rng, user), answer, thought, (f"json {answer}",))


def nested(rng: Random) -> Exchange:
    """An object inside an object."""
    inner, outer = _members(rng, 2), _members(rng, 1)
    key = rng.choice(("address", "details", "data", "info", "meta", "profile"))
    outer_said = words.listing([_pair(rng, 0, k, v) for k, v in outer.items()])
    inner_said = words.listing([_pair(rng, 0, k, v) for k, v in inner.items()])
    user = (
        f"Give me a JSON object with {outer_said}, and inside it an object {key} with {inner_said}."
    )
    answer = dump({**outer, key: inner})
    thought = f"The field {key} holds an object of its own."
    return Exchange(roughen(rng, user), answer, thought, (f"json {answer}",))


def invented(rng: Random) -> Exchange:
    """Fields from the prompt, values invented; or nothing given at all."""
    fields, most = (_EVERYDAY, 3) if words.plain(rng) else (list(_FIELDS), 4)
    names = rng.sample(fields, rng.randint(1, most))
    if rng.random() < 0.15:
        user, names = rng.choice(_BARE_ASKS), ["name", "age"]
    else:
        said = words.listing(names)
        pattern = rng.choice(
            (
                "Give me a JSON object with the fields {f}.",
                "Make up a JSON object with the keys {f}.",
                "Give me a JSON object with a {f}.",
                "Invent a JSON object that has the fields {f}.",
                "Reply in JSON with the keys {f}.",
                "Return a JSON object with keys {f}.",
            )
        )
        user = pattern.format(f=said)
    answer = dump({name: _FIELDS[name](rng) for name in names})
    key = f"fields {' '.join(names)} {user}"
    return Exchange(roughen(rng, user), answer, "I choose the values myself.", (key,))


def described(rng: Random) -> Exchange:
    """Facts in a sentence to be pulled out as JSON, with or without a schema."""
    name, city, age = words.person(rng), words.city(rng), rng.randint(1, 99)
    job = rng.choice(words.ROLES)
    facts, members = rng.choice(
        (
            (f"{name} is {age} years old.", {"name": name, "age": age}),
            (f"{name} lives in {city}.", {"name": name, "city": city}),
            (
                f"{name} is {age} years old and lives in {city}.",
                {"name": name, "age": age, "city": city},
            ),
            (
                f"{name} is {words.article(job)} from {city}.",
                {"name": name, "job": job, "city": city},
            ),
            (
                f"{name} is {words.article(job)} and {age} years old.",
                {"name": name, "job": job, "age": age},
            ),
        )
    )
    answer = dump(members)
    if rng.random() < 0.5:
        kinds = {k: {"type": "integer" if v == age else "string"} for k, v in members.items()}
        schema = {"type": "object", "properties": kinds, "required": list(members)}
        user = rng.choice(
            (
                f"{facts} Answer with JSON that matches this schema: {dump(schema)}",
                f"Extract the facts as JSON. Schema: {dump(schema)}\nText: {facts}",
            )
        )
    else:
        said = words.listing(list(members))
        user = rng.choice(
            (
                f"{facts} Write that as JSON with {said}.",
                f"Turn this into JSON with {said}: {facts}",
                f"Extract {said} as JSON: {facts}",
            )
        )
    thought = f"The text gives {words.listing(list(members))}."
    return Exchange(user, answer, thought, (f"json {answer}",))


def array(rng: Random) -> Exchange:
    """A JSON array of the given items."""
    most = 4 if words.plain(rng) else 6
    values: list[Any] = [words.any_word(rng) for _ in range(rng.randint(1, most))]
    if rng.random() < 0.4:
        values = [rng.randint(0, 200) for _ in values]
    said = words.listing([str(v) for v in values])
    user = rng.choice(
        (
            f"Give me a JSON array with {said}.",
            f"Make a JSON list of {said}.",
            f"JSON array of {said}.",
        )
    )
    answer = dump(values)
    return Exchange(roughen(rng, user), answer, "An array keeps the order.", (f"json {answer}",))
