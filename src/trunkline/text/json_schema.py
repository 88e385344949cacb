"""What of JSON Schema can be enforced while text is generated.

llguidance refuses most of what it cannot enforce but does not say where it stands, and passes over
a few old spellings. This walk names the place, and rewrites those spellings.
"""

from __future__ import annotations

from typing import Any

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Json

# Schemas within schemas within ...
MAX_DEPTH = 48

SUPPORTED = (
    *("type", "enum", "const", "properties", "required", "additionalProperties"),
    *("patternProperties", "minProperties", "maxProperties", "items", "prefixItems", "minItems"),
    *("maxItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum", "multipleOf", "anyOf", "oneOf", "allOf", "$ref"),
    *("$defs", "definitions"),
)
# Each with the value that asks for nothing; where every value asks for something, None.
_UNSUPPORTED: dict[str, object] = {
    "$dynamicRef": None,
    "$recursiveRef": None,
    "contains": None,
    "dependencies": {},
    "dependentRequired": {},
    "dependentSchemas": {},
    "if": None,
    "maxContains": None,
    "minContains": None,
    "not": None,
    "propertyNames": True,
    "unevaluatedItems": True,
    "unevaluatedProperties": True,
    "uniqueItems": False,
}
# Their values are schemas, lists of schemas, or maps from names to schemas.
_ONE = ("additionalItems", "additionalProperties", "items")
_MANY = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_NAMED = ("$defs", "definitions", "patternProperties", "properties")


def checked_schema(
    schema: Json, *, lenient: bool, name: str = "the json_schema", param: str = "json_schema"
) -> Json:
    """An equal schema that llguidance reads as it is meant.

    Draft 4's boolean `exclusiveMinimum` becomes a number; keywords that ask for nothing are left
    out, and with `lenient` those that are not supported too. Raises `InvalidRequest`, which calls
    the schema `name` and blames the field `param`.
    """
    try:
        return _walk(schema, "$", 0, lenient)
    except _Refused as error:
        raise InvalidRequest(f"{name} {error}", param=param) from error


class _Refused(Exception):
    """What is wrong, as the rest of a sentence."""


def _walk(schema: Json, path: str, depth: int, lenient: bool) -> Json:
    if depth > MAX_DEPTH:
        raise _Refused(f"nests more than {MAX_DEPTH} schemas, at {path[:200]}")
    found: Json = {}
    for key, value in schema.items():
        if key in _UNSUPPORTED:
            if value == _UNSUPPORTED[key] or lenient:
                continue
            raise _Refused(
                f'uses "{key}" at {path}, which is not supported; supported are: '
                + ", ".join(SUPPORTED)
            )
        found[key] = _inside(key, value, f"{path}.{key}", depth + 1, lenient)
    for bound in ("minimum", "maximum"):
        _number_bound(found, bound)
    return found


def _inside(key: str, value: Any, path: str, depth: int, lenient: bool) -> Any:
    if key in _ONE and isinstance(value, dict):
        return _walk(value, path, depth, lenient)
    if key in _MANY and isinstance(value, list):
        return [
            _walk(item, f"{path}[{index}]", depth, lenient) if isinstance(item, dict) else item
            for index, item in enumerate(value)
        ]
    if key in _NAMED and isinstance(value, dict):
        return {
            name: _walk(item, f"{path}.{name}", depth, lenient) if isinstance(item, dict) else item
            for name, item in value.items()
        }
    return value


def _number_bound(schema: Json, bound: str) -> None:
    """Draft 4: {"minimum": 3, "exclusiveMinimum": true} means {"exclusiveMinimum": 3}."""
    exclusive = f"exclusive{bound.capitalize()}"
    if type(schema.get(exclusive)) is bool and schema.pop(exclusive) and bound in schema:
        schema[exclusive] = schema.pop(bound)
