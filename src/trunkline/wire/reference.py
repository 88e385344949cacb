"""What the pages in docs/api are made of: declared beside each codec, proved by tests.

`scripts/docs.py` writes the pages. `tests/wire/test_reference.py` sends every example: what is said
to be supported must change the request or the answer, what is said to be handed on must change
what the request notes for other servers and no more, what is said to be ignored must change
nothing, what is said to be refused must fail with a 4xx that names it, what is said to be refused
here must have the words for that in the request; and every field that a decoder knows, and every
route, must be on a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from trunkline.core.types import Json
from trunkline.wire.codec import Codec

# "yes": it does what it says. "handed on": to a server that knows it (`Request.notes`); without
# effect on a model that runs here. "ignored": accepted without effect. "refused": a 4xx that names
# it. "refused here": the same, by a model that runs here and by what translates for other servers,
# unless it is to go without (`Request.beyond`).
Support = Literal["yes", "handed on", "ignored", "refused", "refused here"]


class Parameter(msgspec.Struct, frozen=True):
    """One field of a body."""

    name: str
    support: Support
    # A JSON value that asks for something.
    example: Any
    # A sentence for the reader.
    note: str
    # Other fields without which the example makes no sense.
    needs: Json = {}
    # The field whose place it takes.
    instead_of: str = ""


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that one codec reads, or those of one object within them."""

    # What the table is called.
    title: str
    codec: Codec
    # What the codec decodes the fields to; or their names, where that is no struct.
    fields: type[msgspec.Struct] | frozenset[str]
    # The smallest body that is answered.
    least: Json
    parameters: tuple[Parameter, ...]
    # The member of the body that holds these fields; "" = they stand at its top.
    inside: str = ""
    # Variables of the route's path.
    path: Mapping[str, str] = {}

    def known(self) -> frozenset[str]:
        """All fields that the decoder knows, as they are spelled in JSON."""
        if isinstance(self.fields, frozenset):
            return self.fields
        return frozenset(field.encode_name for field in msgspec.structs.fields(self.fields))


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One format."""

    # The file's name in docs/api.
    name: str
    title: str
    about: str
    # Name of a route (`wire.table`) -> what it does.
    endpoints: Mapping[str, str]
    bodies: tuple[Body, ...] = ()


def yes(name: str, example: Any, note: str, *, instead_of: str = "", **needs: Any) -> Parameter:
    """A parameter that is supported."""
    return Parameter(name, "yes", example, note, needs, instead_of)


def handed_on(name: str, example: Any, note: str = "", **needs: Any) -> Parameter:
    """A parameter for servers that know it."""
    return Parameter(name, "handed on", example, note, needs)


def ignored(name: str, example: Any, note: str = "", **needs: Any) -> Parameter:
    """A parameter that is accepted and changes nothing."""
    return Parameter(name, "ignored", example, note, needs)


def refused(name: str, example: Any, note: str = "", **needs: Any) -> Parameter:
    """A parameter that fails where it asks for something."""
    return Parameter(name, "refused", example, note, needs)


def refused_here(name: str, example: Any, note: str = "", **needs: Any) -> Parameter:
    """A parameter that fails where it asks for something, unless it is to be left out."""
    return Parameter(name, "refused here", example, note, needs)


def amended(
    parameters: tuple[Parameter, ...], *others: Parameter, without: frozenset[str] = frozenset()
) -> tuple[Parameter, ...]:
    """`parameters`, of which `others` take the place by name; those that are new come first."""
    known = {one.name for one in parameters}
    own = {one.name: one for one in others}
    new = tuple(one for one in others if one.name not in known)
    return (*new, *(own.get(one.name, one) for one in parameters if one.name not in without))
