"""The tools of one request, as the dialects look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trunkline.core.types import Json
from trunkline.text.json_schema import checked_schema

# Steps from a schema to the types it allows: $ref and anyOf may go round in circles.
_MAX_DEPTH = 8

_TYPE_OF = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    dict: "object",
    list: "array",
    type(None): "null",
}


class Tool:
    """One tool: its name and the JSON schema of its arguments."""

    def __init__(self, name: str, parameters: Json, *, strict: bool = False) -> None:
        self.name = name
        # An object schema; {"type": "object"} where the request gives none.
        self.parameters = parameters
        # The arguments must follow the schema, even where the model was free not to call.
        self.strict = strict

    @property
    def properties(self) -> Json:
        """The schemas of the arguments by name."""
        found = self.parameters.get("properties")
        return found if isinstance(found, dict) else {}

    @property
    def required(self) -> frozenset[str]:
        """Names of the arguments that must be there."""
        found = self.parameters.get("required")
        if not isinstance(found, list):
            return frozenset()
        return frozenset(name for name in found if isinstance(name, str))

    def checked(self) -> Tool:
        """The same with a schema that can be enforced (`json_schema.checked_schema`).

        Unless it is strict, what cannot be enforced is passed over. Raises `InvalidRequest`.
        """
        name = f"the schema of tool {self.name!r}"
        lenient = not self.strict
        found = checked_schema(self.parameters, lenient=lenient, name=name, param="tools")
        return Tool(self.name, found, strict=self.strict)

    def types(self, argument: str) -> frozenset[str]:
        """The JSON types that an argument may have; none where the schema does not say."""
        return _types(self.properties.get(argument), self.parameters, _MAX_DEPTH)


class Tools:
    """All tools of a request. What is not a function tool with a name is passed over."""

    def __init__(self, definitions: Sequence[Json] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        for definition in definitions:
            function = definition.get("function")
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                continue
            parameters = function.get("parameters")
            if not isinstance(parameters, dict):
                parameters = {"type": "object"}
            tool = Tool(function["name"], parameters, strict=function.get("strict") is True)
            self._tools[tool.name] = tool

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __bool__(self) -> bool:
        return bool(self._tools)

    @property
    def all(self) -> tuple[Tool, ...]:
        """The tools in the request's order."""
        return tuple(self._tools.values())

    def get(self, name: str) -> Tool:
        """The tool of that name, or one of which nothing is known."""
        return self._tools.get(name) or Tool(name, {})


def _types(schema: Any, root: Json, depth: int) -> frozenset[str]:
    if not isinstance(schema, dict) or depth == 0:
        return frozenset()
    named = schema.get("type")
    if isinstance(named, str):
        return frozenset({named})
    if isinstance(named, list):
        return frozenset(name for name in named if isinstance(name, str))
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list):
        return frozenset(_TYPE_OF[type(value)] for value in values if type(value) in _TYPE_OF)
    if isinstance(schema.get("$ref"), str):
        return _types(_target(schema["$ref"], root), root, depth - 1)
    found: frozenset[str] = frozenset()
    for key in ("anyOf", "oneOf", "allOf"):
        options = schema.get(key)
        for option in options if isinstance(options, list) else ():
            found |= _types(option, root, depth - 1)
    return found


def _target(reference: str, root: Json) -> Any:
    """What a reference within the same document points to; None if nothing."""
    node: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if not isinstance(node, dict):
            return None
        node = node.get(step)
    return node
