"""What docs/api says of endpoints and parameters is so: every example is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.wire.support import ANSWER, TIMING, USAGE, is_refused_here, token
from trunkline.core.errors import TrunklineError, Unsupported
from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    Json,
    RowFinished,
    Tokenization,
    ToolCallDelta,
)
from trunkline.wire.codec import Incoming
from trunkline.wire.pages import PAGES
from trunkline.wire.reference import Body, Parameter
from trunkline.wire.table import ROUTES

BODIES = [(page.name, body) for page in PAGES for body in page.bodies]
ROWS = [
    pytest.param(body, parameter, id=f"{name}-{body.title}-{parameter.name}")
    for name, body in BODIES
    for parameter in body.parameters
]
CALL = ToolCallDelta(0, "call_1", "f", "{}")


def events() -> Iterator[Event]:
    """An answer with all that an answer can have."""
    ids = tuple(range(3))
    tokens = tuple(token(text, number, top=3) for number, text in enumerate(("So", "Yes", "f")))
    yield Delta("r", 0, "", ids[:1], tokens[:1], reasoning="So")
    yield Delta("r", 0, "Yes", ids[1:2], tokens[1:2])
    yield Delta("r", 0, "", ids[2:], tokens[2:], tool_calls=(CALL,))
    yield RowFinished("r", 0, "tool_calls", None, 9, token("", 9, top=3))
    yield Completed("r", USAGE, TIMING, (5, 6, 7))


def body_of(body: Body, fields: Json, parameter: Parameter | None = None) -> Json:
    """The least body with `fields`, and an example; within the object that holds them."""
    found = {
        name: value
        for name, value in body.least.items()
        if parameter is None or name != parameter.instead_of
    }
    more = {parameter.name: parameter.example} if parameter is not None else {}
    if body.inside:
        return {**found, body.inside: {**found.get(body.inside, {}), **fields, **more}}
    found |= fields
    if "messages" in more and "messages" in fields:
        del more["messages"]
    return {**found, **more}


def observed(body: Body, sent: Json, *, notes: bool = True) -> Any:
    """All that a body asks for: the model's name, requests, and what an answer looks like.

    `notes`: with what is for other servers alone.
    """
    incoming = Incoming(msgspec.json.encode(sent), path=body.path)
    asked: Any = body.codec.decode(incoming)
    if body.codec.looks_up:
        shown = asked.render(Tokenization("Hi", (1, 2), (b"H", b"i"), 16))
        return asked.model, asked.question("r", "m", ""), shown
    recall = getattr(asked, "recall", None)
    if recall is not None:
        return recall
    requests = asked.requests("r", "m", "")
    if not notes:
        requests = [msgspec.structs.replace(one, notes={}) for one in requests]
    renderer = asked.renderer(ANSWER)
    shown = b"".join(renderer.take(0, (event,)) for event in events())
    shown += renderer.finish(USAGE, TIMING)
    # Items of a response are named at random.
    return asked.model, asked.stream, requests, re.sub(rb"_[0-9a-f]{24,}", b"", shown)


@pytest.mark.parametrize(("body", "parameter"), ROWS)
def test_a_parameter_does_what_its_page_says(body: Body, parameter: Parameter) -> None:
    without = body_of(body, parameter.needs)
    sent = body_of(body, parameter.needs, parameter)
    if parameter.support == "refused":
        with pytest.raises(TrunklineError) as caught:
            observed(body, sent)
        # llama.cpp's server has 501 for what it does not support; Ollama names no field of images.
        assert body.codec.status(caught.value) in (400, 422, 501)
        shown = body.codec.error(caught.value).decode()
        assert parameter.name in shown or caught.value.param == parameter.name == "images"
        return
    if parameter.support == "refused here":
        _is_refused_here(body, sent, parameter.name)
        return
    same = [
        observed(body, without, notes=notes) == observed(body, sent, notes=notes)
        for notes in (True, False)
    ]
    expected = {"ignored": [True, True], "handed on": [False, True]}
    if parameter.support in expected:
        assert same == expected[parameter.support]
    else:
        assert not same[1]


def _is_refused_here(body: Body, sent: Json, name: str) -> None:
    asked: Any = body.codec.decode(Incoming(msgspec.json.encode(sent), path=body.path))
    is_refused_here(asked, name)
    for request in asked.requests("r", "m", ""):
        error = Unsupported(request.beyond[name], param=name)
        assert body.codec.status(error) in (400, 422, 501)
        assert name in body.codec.error(error).decode()


@pytest.mark.parametrize(("name", "body"), BODIES, ids=lambda one: getattr(one, "title", one))
def test_every_field_of_a_decoder_is_on_its_page(name: str, body: Body) -> None:
    declared = [parameter.name for parameter in body.parameters]
    assert len(declared) == len(set(declared)), name
    assert body.known() <= set(declared), body.known() - set(declared)
    others = [one for one in body.parameters if one.name not in body.known()]
    # What no decoder looks at can only be ignored; `cache_control` is looked for in the bytes.
    assert all(one.support == "ignored" for one in others if one.name != "cache_control")


def test_every_route_is_on_a_page_and_every_endpoint_is_a_route() -> None:
    declared = {name for page in PAGES for name in page.endpoints}
    assert declared == {route.name for route in ROUTES}
    assert len({page.name for page in PAGES}) == len(PAGES)
