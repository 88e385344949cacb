#!/usr/bin/env python3
"""Writes docs/api: which endpoints and parameters each format has.

    scripts/docs.py            writes the pages
    scripts/docs.py --check    fails where one of them is stale

The pages are made of `trunkline.wire.pages`, of the routes, and of what the codecs answer to the
examples. Run it with the Python of .venv, from anywhere.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from trunkline.core.errors import TrunklineError, Unsupported  # noqa: E402 - found beside this script
from trunkline.wire.codec import Incoming  # noqa: E402
from trunkline.wire.pages import PAGES  # noqa: E402
from trunkline.wire.reference import Body, Page, Parameter  # noqa: E402
from trunkline.wire.table import ROUTES  # noqa: E402

FOLDER = ROOT / "docs/api"
_MARK = "<!-- Made by scripts/docs.py; do not edit. -->"
_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object"}
# Bounds from here on are those of the machine.
_LARGE = 2**30
_SUPPORT = {
    "yes": "yes",
    "handed on": "handed on",
    "ignored": "accepted and ignored",
}


def pages() -> dict[str, str]:
    """File name -> text of all pages."""
    found = {f"{page.name}.md": "\n".join(_page(page)) + "\n" for page in PAGES}
    return {**found, "README.md": "\n".join(_index()) + "\n"}


def stale() -> list[str]:
    """Names of the files that are not as they would be written, or should not be there."""
    wanted = pages()
    there = {path.name for path in FOLDER.glob("*")}
    changed = [
        name
        for name, text in wanted.items()
        if name not in there or (FOLDER / name).read_text() != text
    ]
    return sorted({*changed, *(there - set(wanted))})


def _index() -> Iterator[str]:
    yield "# The APIs"
    yield ""
    yield _MARK
    yield ""
    yield "Which endpoints and parameters each format has. A path that several formats share is"
    yield "decided by the fields of the body, or by who asks."
    yield ""
    yield "A parameter that is *refused* fails where it asks for something: null, false and what is"
    yield "empty do not. So does one that is *refused here*; but a request that is translated for"
    yield "another server goes without it where `unsupported: drop` says so, and a `warning` names"
    yield "it. One that is *handed on* goes to servers that know it when a request is translated"
    yield "for them, else a `warning` names it; a model that runs here does without."
    yield "Every example behind these tables is sent by the tests."
    yield ""
    for page in PAGES:
        yield f"- [{page.title}]({page.name}.md)"


def _page(page: Page) -> Iterator[str]:
    yield f"# {page.title}"
    yield ""
    yield _MARK
    yield ""
    yield page.about
    yield ""
    yield "## Endpoints"
    yield ""
    yield "| endpoint | does |"
    yield "| --- | --- |"
    for name, does in page.endpoints.items():
        paths = [
            f"`{route.method} {re.sub(r':path}', '}', route.path)}`"
            for route in ROUTES
            if route.name == name
        ]
        yield f"| {'<br>'.join(paths)} | {does} |"
    for body in page.bodies:
        yield ""
        yield f"## {body.title}"
        yield ""
        if body.inside:
            yield f"Within `{body.inside}`."
            yield ""
        yield "| parameter | type | supported | |"
        yield "| --- | --- | --- | --- |"
        for parameter in body.parameters:
            yield _row(body, parameter)


def _row(body: Body, parameter: Parameter) -> str:
    support = _SUPPORT.get(parameter.support) or f"{parameter.support}: {_refusal(body, parameter)}"
    note = parameter.note
    if parameter.instead_of:
        note = f"Instead of `{parameter.instead_of}`. {note}"
    return f"| `{parameter.name}` | {_type(body, parameter)} | {support} | {note} |"


def _type(body: Body, parameter: Parameter) -> str:
    """As the decoder declares it; where it takes whatever comes, that of the example."""
    if not isinstance(body.fields, frozenset):
        for field in msgspec.structs.fields(body.fields):
            if field.encode_name == parameter.name:
                told = _told(msgspec.inspect.type_info(field.type))
                return told or _kind(parameter.example)
    return _kind(parameter.example)


def _told(kind: msgspec.inspect.Type) -> str:
    """A decoder's type in words; "" for one that says nothing."""
    match kind:
        case msgspec.inspect.UnionType():
            told = [
                _told(one) for one in kind.types if not isinstance(one, msgspec.inspect.NoneType)
            ]
            return " or ".join(one for one in told if one) if all(told) else ""
        case msgspec.inspect.IntType():
            return "integer" + _bounds(kind)
        case msgspec.inspect.FloatType():
            return "number" + _bounds(kind)
        case msgspec.inspect.StrType():
            return "string"
        case msgspec.inspect.BoolType():
            return "boolean"
        case msgspec.inspect.LiteralType():
            return " or ".join(f"`{value}`" for value in kind.values)
        case msgspec.inspect.ListType():
            item = _told(kind.item_type)
            return f"list of {_plural(item)}" if item else ""
        case msgspec.inspect.StructType() | msgspec.inspect.DictType():
            return "object"
    return ""


def _bounds(kind: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    least = kind.ge if kind.gt is None else kind.gt
    most = kind.le if kind.le is None or abs(kind.le) < _LARGE else None
    if least is None or abs(least) >= _LARGE:
        return "" if most is None else f", at most {most:g}"
    word = "from" if kind.gt is None else "above"
    return f", {word} {least:g}" if most is None else f", {word} {least:g} to {most:g}"


def _plural(kind: str) -> str:
    word, *rest = kind.split(" ", 1)
    word, comma = word.rstrip(","), "," if word.endswith(",") else ""
    return " ".join([f"{word}s{comma}", *rest])


def _kind(example: object) -> str:
    if isinstance(example, list):
        return f"list of {_plural(_kind(example[0]))}" if example else "list"
    return _KINDS[type(example)]


def _refusal(body: Body, parameter: Parameter) -> str:
    """Status and words of the error that the example gets."""
    fields = {**parameter.needs, parameter.name: parameter.example}
    sent = {**body.least, body.inside: fields} if body.inside else {**body.least, **fields}
    error: TrunklineError
    try:
        asked: Any = body.codec.decode(Incoming(msgspec.json.encode(sent), path=body.path))
        (request,) = asked.requests("r", "m", "")
        error = Unsupported(request.beyond[parameter.name])
    except TrunklineError as raised:
        error = raised
    words = error.message.replace("|", "\\|")
    return f"{body.codec.status(error)}, {words}"


def main() -> int:
    """Exit status: 1 where `--check` finds a stale page."""
    if sys.argv[1:] == ["--check"]:
        found = stale()
        for name in found:
            print(f"docs/api/{name} is stale: run scripts/docs.py")
        return 1 if found else 0
    if sys.argv[1:]:
        print(__doc__)
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for path in FOLDER.glob("*"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
