"""Does a chat template want message content as text, or as a list of parts?

Found in the syntax tree, as vLLM does it (vllm/entrypoints/chat_utils.py,
`_detect_content_format`), and a little further: through macros and filters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from jinja2 import nodes

# "text": a string only. "parts": a list of parts only. "either": what the client gave.
ContentFormat = Literal["text", "parts", "either"]

_ITERATING_FILTERS = frozenset({"selectattr", "rejectattr", "map", "first", "last", "list"})


def content_format(template: nodes.Template) -> ContentFormat:
    """Which form of `message.content` the template can take."""
    return _Finder(template).result()


class _Finder:
    """Collects the names that stand for message lists, messages and content, then looks."""

    def __init__(self, template: nodes.Template) -> None:
        self._template = template
        self._lists = {"messages"}
        self._messages: set[str] = set()
        self._contents: set[str] = set()
        self._macros = {macro.name: macro for macro in template.find_all(nodes.Macro)}

    def result(self) -> ContentFormat:
        before = -1
        while before != self._known:
            before = self._known
            self._learn()
        if not self._iterates():
            return "text"
        return "either" if self._tests_for_string() else "parts"

    @property
    def _known(self) -> int:
        return len(self._lists) + len(self._messages) + len(self._contents)

    def _learn(self) -> None:
        for assign in self._template.find_all(nodes.Assign):
            self._bind(_names(assign.target), assign.node)
            if isinstance(assign.node, nodes.Call):
                # {% set ns = namespace(rest=messages) %}
                for keyword in assign.node.kwargs:
                    self._bind({f"{_name(assign.target)}.{keyword.key}"}, keyword.value)
        for loop in self._template.find_all(nodes.For):
            if self._is_list(loop.iter):
                self._messages.update(_names(loop.target))
        for call in self._template.find_all(nodes.Call):
            macro = self._macros.get(call.node.name) if isinstance(call.node, nodes.Name) else None
            if macro is not None:
                for parameter, value in zip(macro.args, call.args, strict=False):
                    self._bind(_names(parameter), value)

    def _bind(self, names: Iterable[str], value: nodes.Node) -> None:
        for kind, known in (
            (self._is_list, self._lists),
            (self._is_message, self._messages),
            (self._is_content, self._contents),
        ):
            if kind(value):
                known.update(names)

    def _is_list(self, node: nodes.Node) -> bool:
        match node:
            case nodes.Name() | nodes.NSRef():
                return _name(node) in self._lists
            case nodes.Getattr():
                return _name(node) in self._lists
            case nodes.Getitem(arg=nodes.Slice()):
                return self._is_list(node.node)
            case nodes.CondExpr():
                return any(map(self._is_list, _branches(node)))
        return False

    def _is_message(self, node: nodes.Node) -> bool:
        match node:
            case nodes.Name():
                return node.name in self._messages
            case nodes.Getitem():
                return not isinstance(node.arg, nodes.Slice) and self._is_list(node.node)
            case nodes.Filter(name="first" | "last") if node.node is not None:
                return self._is_list(node.node)
        return False

    def _is_content(self, node: nodes.Node) -> bool:
        match node:
            case nodes.Name():
                return node.name in self._contents
            case nodes.Getattr(attr="content"):
                return self._is_message(node.node)
            case nodes.Getitem(arg=nodes.Const(value="content")):
                return self._is_message(node.node)
            case nodes.CondExpr():
                return any(map(self._is_content, _branches(node)))
        return False

    def _iterates(self) -> bool:
        """True if content is looped over, indexed by number or filtered as a list."""
        template = self._template
        return (
            any(self._is_content(loop.iter) for loop in template.find_all(nodes.For))
            or any(
                self._is_content(item.node)
                and isinstance(item.arg, nodes.Const)
                and isinstance(item.arg.value, int)
                for item in template.find_all(nodes.Getitem)
            )
            or any(
                item.name in _ITERATING_FILTERS
                and item.node is not None
                and self._is_content(item.node)
                for item in template.find_all(nodes.Filter)
            )
        )

    def _tests_for_string(self) -> bool:
        return any(
            test.name == "string" and self._is_content(test.node)
            for test in self._template.find_all(nodes.Test)
        )


def _branches(node: nodes.CondExpr) -> Iterable[nodes.Expr]:
    return (node.expr1,) if node.expr2 is None else (node.expr1, node.expr2)


def _name(node: nodes.Node) -> str:
    """A name, or "namespace.attribute"; "" for anything else."""
    match node:
        case nodes.Name():
            return node.name
        case nodes.NSRef():
            return f"{node.name}.{node.attr}"
        case nodes.Getattr(node=nodes.Name(name=namespace)):
            return f"{namespace}.{node.attr}"
    return ""


def _names(target: nodes.Node) -> Iterable[str]:
    name = _name(target)
    return (name,) if name else ()
