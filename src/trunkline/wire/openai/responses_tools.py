"""Tools of the Responses API.

Functions stand at the top level of a definition there, alone or in a namespace. A custom tool
takes text that is not JSON: the model sees a function with one argument, `input`. Built-in tools
(web search and the like) are not offered to the model, and become notes; everything else of the
request works.

Shapes: the official client's `types/responses/tool_param.py`, `namespace_tool_param.py`,
`custom_tool_param.py` and `tool_choice_*_param.py` (openai 3.52, read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Json
from trunkline.wire.openai.fields import asks, decode
from trunkline.wire.openai.tools import MAX_TOOLS, Tools, check_function, choose, text_function

_tools = msgspec.json.Decoder(Annotated[list[Raw], Meta(max_length=MAX_TOOLS)])
_choice = msgspec.json.Decoder(str | dict[str, Any])


class _Kind(msgspec.Struct):
    type: str
    strict: bool | UnsetType | None = UNSET


class _Format(msgspec.Struct):
    type: str = "text"
    syntax: str = ""
    definition: str = ""


class _Tool(msgspec.Struct):
    type: str
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    # Of a custom tool.
    format: _Format | None = None


class _Namespace(msgspec.Struct):
    name: str
    tools: list[Raw]


_kind = msgspec.json.Decoder(_Kind)
_tool = msgspec.json.Decoder(_Tool)
_namespace = msgspec.json.Decoder(_Namespace)


class Called(msgspec.Struct, frozen=True):
    """How a tool that the model calls is named to the client."""

    name: str
    namespace: str | None = None
    custom: bool = False


class ResponseTools(msgspec.Struct, frozen=True):
    """The tools of a request."""

    tools: Tools
    # Function name -> the tool.
    called: Mapping[str, Called]
    # What the response says of them.
    shown: Sequence[Raw]
    # Types of the others: nobody runs them.
    others: Sequence[str] = ()

    def find(self, name: str) -> Called:
        """The tool behind a function name; one that nobody defined is a function."""
        return self.called.get(name) or Called(name)


def tool_name(namespace: str | None, name: str) -> str:
    """The name that the model sees."""
    return f"{namespace}__{name}" if namespace else name


def response_tools(tools: Raw, choice: Raw) -> ResponseTools:
    """`tools` and `tool_choice`. Raises `InvalidRequest` and `Unsupported`."""
    sent = decode(_tools, tools, "tools") if asks(tools) else []
    definitions: list[Json] = []
    called: dict[str, Called] = {}
    others: list[str] = []
    for index, raw in enumerate(sent):
        others += _add(raw, f"tools[{index}]", None, definitions, called)
    wanted = decode(_choice, choice, "tool_choice") if asks(choice) else None
    if wanted == "none":
        others = []
    tools_ = choose(tuple(definitions), wanted)
    return ResponseTools(tools_, called, [_shown(one) for one in sent], others)


def _add(
    raw: Raw, where: str, namespace: str | None, into: list[Json], called: dict[str, Called]
) -> list[str]:
    """Put a function into `into` and `called`; returns the type of what is none."""
    kind = decode(_kind, raw, where).type
    if kind == "namespace" and namespace is None:
        inner = decode(_namespace, raw, where)
        others: list[str] = []
        for index, one in enumerate(inner.tools):
            others += _add(one, f"{where}.tools[{index}]", inner.name, into, called)
        return others
    if kind not in ("function", "custom"):
        return [kind]
    tool = decode(_tool, raw, where)
    name = tool_name(namespace, tool.name)
    if name in called:
        raise InvalidRequest(f"Two tools are called '{name[:64]}'.", param=f"{where}.name")
    function: Json = {"name": name}
    if kind == "custom":
        form = tool.format or _Format()
        function |= text_function(tool.description, form.syntax, form.definition)
    else:
        if tool.description is not None:
            function["description"] = tool.description
        function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
        if tool.strict is not None:
            function["strict"] = tool.strict
    check_function(function, where)
    called[name] = Called(tool.name, namespace, kind == "custom")
    into.append({"type": "function", "function": function})
    if len(into) > MAX_TOOLS:
        raise InvalidRequest(f"More than {MAX_TOOLS} tools.", param="tools")
    return []


def _shown(raw: Raw) -> Raw:
    """A definition as it is sent back: `strict` is not optional there."""
    kind = decode(_kind, raw)
    if kind.type != "function" or kind.strict is not UNSET:
        return raw
    return Raw(b'%b,"strict":false}' % bytes(raw).rstrip()[:-1])
