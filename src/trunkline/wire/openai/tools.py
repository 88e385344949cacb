"""Tools of chat completions: `tools` and `tool_choice`, and the older `functions`.

A custom tool takes text that is not JSON: the model sees a function with one argument, `input`.

Shapes: the official client's `types/chat/completion_create_params.py`,
`chat_completion_function_tool_param.py`, `chat_completion_custom_tool_param.py`,
`chat_completion_allowed_tool_choice_param.py` (openai 3.52, read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import Json
from trunkline.wire.openai.cache_marks import of_control
from trunkline.wire.openai.fields import asks, decode, modest

Choice = Literal["auto", "none", "required", "named"]

# OpenAI allows 128; agents that gather the tools of many servers send more.
MAX_TOOLS = 1024
MAX_NAME = 256


class _Grammar(msgspec.Struct):
    syntax: str = ""
    definition: str = ""


class _Format(msgspec.Struct):
    type: str = "text"
    grammar: _Grammar | None = None


class _Custom(msgspec.Struct):
    name: str
    description: str | None = None
    format: _Format | None = None


_tools = msgspec.json.Decoder(Annotated[list[dict[str, Any]], Meta(max_length=MAX_TOOLS)])
_choice = msgspec.json.Decoder(str | dict[str, Any])


class Tools(msgspec.Struct, frozen=True):
    """What a request says about tools, as `core.types.Request` wants it."""

    definitions: tuple[Json, ...] = ()
    choice: Choice = "none"
    # The only one allowed, where `choice` is "named".
    name: str = ""
    # Those of them that take text and no JSON.
    custom: frozenset[str] = frozenset()
    # How long the prompt up to their end wants to be kept; see `cache_marks.lifetime`.
    lifetime: str | None = None

    def names(self) -> frozenset[str]:
        """The names of all tools."""
        return frozenset(one["function"]["name"] for one in self.definitions)


def chat_tools(tools: Raw, choice: Raw) -> Tools:
    """`tools` and `tool_choice`. Raises `InvalidRequest` and `Unsupported`."""
    found = _definitions(tools) if asks(tools) else Tools()
    wanted = decode(_choice, choice, "tool_choice") if asks(choice) else None
    chosen = choose(found.definitions, wanted)
    lifetime = found.lifetime if chosen.definitions else None
    return msgspec.structs.replace(chosen, custom=found.custom, lifetime=lifetime)


def legacy_tools(functions: Raw, choice: Raw) -> Tools:
    """`functions` and `function_call`. Raises `InvalidRequest`."""
    found = []
    for index, function in enumerate(decode(_tools, functions, "functions")):
        check_function(function, f"functions[{index}]")
        found.append({"type": "function", "function": function})
    wanted = decode(_choice, choice, "function_call") if asks(choice) else None
    if isinstance(wanted, dict):
        wanted = {"type": "function", "function": wanted}
    return choose(tuple(found), wanted, "function_call")


def check_function(function: Any, where: str) -> None:
    """Raise `InvalidRequest` unless `function` is a named one whose schema can be sent on."""
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        problem = f"Invalid '{where}.name': a string of 1 to {MAX_NAME} characters is expected."
        raise InvalidRequest(problem, param=f"{where}.name")
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        problem = f"Invalid schema for function '{name[:64]}': it is not an object."
        raise InvalidRequest(problem, param=f"{where}.parameters")
    if not modest(function):
        problem = f"Invalid '{where}': nested too deeply, or an integer beyond 64 bits."
        raise InvalidRequest(problem, param=where)


def text_function(description: str | None, syntax: str, definition: str) -> Json:
    """A function that takes what a custom tool takes, less its name; without `definition`, any
    text."""
    about = "The text that the tool takes."
    if definition:
        about += f" It must match this {syntax} grammar:\n{definition}"
    text = {"type": "string", "description": about}
    schema = {"type": "object", "properties": {"input": text}, "required": ["input"]}
    return {"description": description or "", "parameters": schema}


def choose(
    definitions: tuple[Json, ...], choice: str | Json | None, where: str = "tool_choice"
) -> Tools:
    """Apply a choice of tools, spelled as in chat completions or as in the Responses API."""
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools", choice)
        definitions = _allowed(definitions, allowed, where)
        choice = allowed.get("mode", "auto")
    if choice is None:
        choice = "auto"
    if isinstance(choice, dict):
        return _named(definitions, choice, where)
    if choice == "none":
        # What may not be called is not shown.
        return Tools()
    if choice not in ("auto", "required"):
        problem = (
            f"Invalid value: '{choice[:40]}'. Supported values are: 'none', 'auto' and 'required'."
        )
        raise InvalidRequest(problem, param=where)
    if choice == "required" and not definitions:
        raise InvalidRequest(f"'{where}' is \"required\" but there are no tools.", param=where)
    return Tools(definitions, "required" if choice == "required" else _auto(definitions))


def _auto(definitions: Sequence[Json]) -> Choice:
    return "auto" if definitions else "none"


def _named(definitions: tuple[Json, ...], choice: Json, where: str) -> Tools:
    function = choice.get("function", choice.get("custom", choice))
    name = function.get("name") if isinstance(function, dict) else None
    if choice.get("type", "function") not in ("function", "custom"):
        problem = f"'{where}' of type {str(choice['type'])[:40]!r} is not supported."
        raise Unsupported(problem, param=f"{where}.type")
    if not isinstance(name, str) or not name:
        problem = f"Missing required parameter: '{where}.function.name'."
        raise InvalidRequest(problem, param=f"{where}.function.name")
    if not any(one["function"]["name"] == name for one in definitions):
        problem = f"Tool choice '{name[:64]}' not found in the tools of the request."
        raise InvalidRequest(problem, param=where)
    return Tools(definitions, "named", name)


def _allowed(definitions: tuple[Json, ...], allowed: Any, where: str) -> tuple[Json, ...]:
    """The definitions that are allowed; the others are not shown to the model either."""
    tools = allowed.get("tools") if isinstance(allowed, dict) else None
    if not isinstance(tools, list) or not all(isinstance(one, dict) for one in tools):
        problem = f"Invalid value for '{where}': its 'tools' must be a list of tools."
        raise InvalidRequest(problem, param=where)
    names: set[Any] = set()
    for one in tools:
        function = one.get("function", one.get("custom", one))
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str):
            names.add(name)
    return tuple(one for one in definitions if one["function"]["name"] in names)


def _definitions(raw: Raw) -> Tools:
    """The tools as functions, but for the choice among them."""
    found = decode(_tools, raw, "tools")
    custom: set[str] = set()
    lifetime: str | None = None
    for index, tool in enumerate(found):
        where = f"tools[{index}]"
        mark = _take_mark(tool)
        lifetime = lifetime if mark is None else mark
        kind = tool.get("type", "function")
        if kind == "custom":
            function = found[index] = _as_function(tool.get("custom"), f"{where}.custom")
            custom.add(function["function"]["name"])
            continue
        if kind != "function":
            problem = (
                f"A tool of type {str(kind)[:40]!r} is not supported; 'function' and 'custom' are."
            )
            raise Unsupported(problem, param=f"{where}.type")
        check_function(tool.get("function"), f"{where}.function")
        tool.setdefault("type", "function")
    return Tools(tuple(found), custom=frozenset(custom), lifetime=lifetime)


def _take_mark(tool: Json) -> str | None:
    """The `cache_control` of a tool, which is for no template; LiteLLM also has it one deeper."""
    outer = of_control(tool.pop("cache_control", None))
    function = tool.get("function")
    inner = function.pop("cache_control", None) if isinstance(function, dict) else None
    return of_control(inner) if outer is None else outer


def _as_function(custom: Any, where: str) -> Json:
    try:
        tool = msgspec.convert(custom, _Custom)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"Invalid '{where}': {error}.", param=where) from error
    grammar = tool.format.grammar if tool.format is not None else None
    grammar = grammar or _Grammar()
    about = text_function(tool.description, grammar.syntax, grammar.definition)
    function: Json = {"name": tool.name, **about}
    check_function(function, where)
    return {"type": "function", "function": function}
