"""What is sent, as far as AWS's own service model can judge it."""

from __future__ import annotations

import functools
import re
from typing import Any

import botocore.session
from botocore.model import Shape
from botocore.validate import ParamValidator

from tests.wire.speaking import body, terms
from trunkline.core.types import Request
from trunkline.wire.bedrock.client import CONVERSE

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ADAPTIVE = "us.anthropic.claude-opus-4-6-v1"
NEWEST = "global.anthropic.claude-opus-4-8"
NOVA = "us.amazon.nova-pro-v1:0"


@functools.cache
def _shape() -> Any:
    session = botocore.session.get_session()
    return (
        session.get_service_model("bedrock-runtime").operation_model("ConverseStream").input_shape
    )


def sent(request: Request, model: str = CLAUDE, **given: Any) -> tuple[Any, tuple[str, ...]]:
    """The body for `model`, which botocore would send too, and what is told of as left out."""
    outgoing = CONVERSE.encode(request, terms(model=model, **given))
    found = body(outgoing)
    report = ParamValidator().validate({"modelId": model, **found}, _shape())
    assert not report.has_errors(), report.generate_report()
    _check(found, _shape())
    return found, outgoing.dropped


def _check(value: Any, shape: Shape) -> None:
    """The enumerations, patterns and most lengths, which botocore leaves to the service."""
    kind = shape.type_name
    if kind == "structure" and not shape.metadata.get("document"):
        for name, one in value.items():
            _check(one, shape.members[name])
    elif kind == "list":
        assert len(value) <= shape.metadata.get("max", len(value))
        for one in value:
            _check(one, shape.member)
    elif kind == "map":
        assert len(value) <= shape.metadata.get("max", len(value))
        for name, one in value.items():
            _check(name, shape.key)
            _check(one, shape.value)
    elif kind == "string":
        assert not shape.enum or value in shape.enum
        assert len(value) <= shape.metadata.get("max", len(value))
        pattern = shape.metadata.get("pattern")
        assert pattern is None or re.fullmatch(pattern, value)
    elif kind in ("integer", "float"):
        assert value <= shape.metadata.get("max", value)
