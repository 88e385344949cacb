"""`tools` and `tool_choice`.

Shapes: the official client's `types/tool_param.py`, `types/tool_union_param.py` and
`types/tool_choice_*_param.py` (anthropic 2.11, read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import Json
from trunkline.wire.anthropic.fields import ToolChoice
from trunkline.wire.openai.tools import Tools, check_function


def chosen_tools(tools: Sequence[Json], choice: ToolChoice | None) -> Tools:
    """The client's own tools, and the choice among them. Raises `InvalidRequest`, `Unsupported`.

    Tools that a client names by type alone (`web_search_...`, `bash_...`) are run by Anthropic, or
    known to its models by heart. Agents send them along with others: they are passed over (`notes`
    tells of them).
    """
    own = [(index, tool) for index, tool in enumerate(tools) if is_own(tool)]
    definitions = tuple([_definition(f"tools.{index}", tool) for index, tool in own])
    kind = choice.type if choice else "auto"
    if kind in ("any", "tool") and not definitions:
        problem = f"tool_choice.type: {kind!r} needs a tool with an 'input_schema'"
        raise InvalidRequest(problem, param="tool_choice")
    if kind == "none" or not definitions:
        # What may not be called is not shown.
        return Tools()
    if kind == "auto":
        return Tools(definitions, "auto")
    if kind == "any":
        return Tools(definitions, "required")
    assert choice is not None
    return _named(definitions, tools, choice.name)


def is_own(tool: Json) -> bool:
    """Whether the client runs it, by its schema."""
    return tool.get("type") in (None, "custom") or "input_schema" in tool


def _definition(where: str, tool: Json) -> Json:
    function: dict[str, Any] = {"name": tool.get("name")}
    if isinstance(description := tool.get("description"), str):
        function["description"] = description
    function["parameters"] = tool.get("input_schema") or {"type": "object", "properties": {}}
    if tool.get("strict") is True:
        function["strict"] = True
    check_function(function, where)
    return {"type": "function", "function": function}


def _named(definitions: tuple[Json, ...], tools: Sequence[Json], name: str) -> Tools:
    if any(one["function"]["name"] == name for one in definitions):
        return Tools(definitions, "named", name)
    if name and any(tool.get("name") == name for tool in tools):
        raise Unsupported(
            f"tool_choice.name: {name[:64]!r} is a tool of Anthropic's servers or models; this "
            "model does not know it",
            param="tool_choice",
        )
    problem = f"tool_choice.name: there is no tool {name[:64]!r} in 'tools'"
    raise InvalidRequest(problem, param="tool_choice")
