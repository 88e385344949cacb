"""JSON Schema of `trunkline.yaml`, for editors, with its short forms."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
from msgspec import inspect

from trunkline.backends.config import LaunchConfig
from trunkline.gateway.strategies import ALIASES
from trunkline.server.config import ServerConfig
from trunkline.server.file.config import EngineEntry, FileConfig, ResidencyConfig
from trunkline.server.file.names import provider_names
from trunkline.server.file.short_forms import DEFAULTS, OWN_FIELDS

_REFERENCE = r"^(env:|os\.environ/)[A-Za-z_]\w*$|\$\{[A-Za-z_]\w*(:-[^}]*)?\}"
_SIZE = r"^\d+(\.\d+)?\s*[KMGTkmgt]?(i?[Bb])?$"


def json_schema() -> dict[str, Any]:
    """The schema. Every value may be a reference to an environment variable."""
    (root,), components = msgspec.json.schema_components(
        (FileConfig,), ref_template="#/$defs/{name}"
    )
    schema = components.pop("FileConfig", root)
    properties = schema["properties"]
    for name in ("BackendConfig", "EngineEntry", "RouteConfig"):
        # A mapping by name has the name outside; a kind may be the name, too.
        components[name]["required"] = []
    components["BackendConfig"]["properties"]["kind"]["enum"] = list(provider_names())
    components["RouteConfig"]["properties"]["strategy"]["enum"] += sorted(ALIASES)
    route, target = _ref("RouteConfig"), {"anyOf": [{"type": "string"}, _ref("Target")]}
    targets = {"anyOf": [target, {"type": "array", "items": target}]}
    components["RouteConfig"]["properties"]["targets"] = {
        "description": "Who answers: backend/model, or provider/model.",
        **targets,
    }
    properties["backends"] = _section(properties["backends"], _ref("BackendConfig"))
    properties["engines"] = _section(properties["engines"], _ref("EngineEntry"))
    properties["routes"] = _section(properties["routes"], {"anyOf": [route, targets]})
    properties["defaults"] = _defaults(components)
    schema["additionalProperties"] = False
    for part in (schema, *components.values()):
        part.setdefault("additionalProperties", False)
        for name, prop in part.get("properties", {}).items():
            part["properties"][name] = _with_references(prop, name in _SIZES)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "trunkline.yaml",
        "$defs": dict(sorted(components.items())),
    }


def to_text() -> str:
    """The schema as it is committed."""
    text = msgspec.json.encode(json_schema())
    return msgspec.json.format(text, indent=2).decode() + "\n"


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _section(prop: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """A list, or a mapping by name, whose entries may be short."""
    short = {"anyOf": [entry, {"type": ["string", "null"]}]}
    return {
        "description": prop.get("description", ""),
        "anyOf": [
            {"type": "array", "items": short},
            {"type": "object", "additionalProperties": short},
            {"type": "null"},
        ],
    }


def _defaults(components: dict[str, Any]) -> dict[str, Any]:
    """Fields that hold for every backend, engine or route which does not say otherwise."""
    found = {}
    for name, kind in DEFAULTS.items():
        properties = components[kind.__name__]["properties"]
        allowed = {key: value for key, value in properties.items() if key not in OWN_FIELDS[kind]}
        components[f"{kind.__name__}Defaults"] = {
            "type": "object",
            "title": f"Defaults of {name}s",
            "properties": dict(allowed),
            "additionalProperties": False,
        }
        found[name] = _ref(f"{kind.__name__}Defaults")
    return {
        "type": "object",
        "description": "What holds for each backend, engine and route that does not say otherwise.",
        "properties": found,
        "additionalProperties": False,
    }


def _with_references(prop: dict[str, Any], is_size: bool) -> dict[str, Any]:
    """The same, or a text that refers to a variable; sizes may have a unit, one item is a list."""
    described: dict[str, Any] = {
        key: prop[key] for key in ("description", "default") if key in prop
    }
    if isinstance(described.get("default"), dict):
        # The parts of a struct tell their own defaults.
        del described["default"]
    value = {key: item for key, item in prop.items() if key not in ("description", "default")}
    kind = prop.get("type")
    if kind == "array" and value.get("items", {}).get("type") == "string":
        return {**described, "anyOf": [value, {"type": "string"}]}
    if kind not in ("integer", "number", "boolean") and "enum" not in prop:
        return {**described, **value}
    text = {"type": "string", "pattern": f"{_REFERENCE}|{_SIZE}" if is_size else _REFERENCE}
    return {**described, "anyOf": [value, text]}


def _size_fields() -> frozenset[str]:
    """Fields in bytes, which may be written with a unit."""
    return frozenset(
        field.name
        for struct in (ServerConfig, EngineEntry, LaunchConfig, ResidencyConfig)
        for field in typing.cast(inspect.StructType, inspect.type_info(struct)).fields
        if isinstance(field.type, inspect.Metadata)
        and (field.type.extra or {}).get("unit") == "bytes"
    )


_SIZES = _size_fields()
