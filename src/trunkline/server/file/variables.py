"""References to environment variables in a file.

``env:NAME`` and LiteLLM's ``os.environ/NAME`` stand for a whole value; ``${NAME}`` and
``${NAME:-default}`` may be a part of one. ``$${`` is a plain ``${``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as Environ

from trunkline.server.file.document import Scalar

_WHOLE = re.compile(r"(?:env:|os\.environ/)([A-Za-z_][A-Za-z0-9_]*)")
_LITELLM = re.compile(r"os\.environ/(.+)")
_PART = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class MissingVariable(Exception):
    """A variable that the file refers to is not set."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"the environment variable {self.name} is not set, or is empty; set it"


class Variables:
    """Resolves references. `litellm`: only ``os.environ/NAME``, all else is text."""

    def __init__(self, environ: Environ[str, str], litellm: bool = False) -> None:
        self.environ = environ
        self._litellm = litellm

    def resolve(self, node: Scalar) -> Scalar:
        """The same node without references. Raises `MissingVariable`."""
        whole = (_LITELLM if self._litellm else _WHOLE).fullmatch(node.text)
        if whole is not None:
            return Scalar(node.place, self._get(whole[1]), True, whole[1])
        if self._litellm or "${" not in node.text:
            return node
        used: list[str] = []

        def replace(match: re.Match[str]) -> str:
            name, default = match[1], match[2]
            if name is None:
                return "${"
            used.append(name)
            return self.environ.get(name) or default if default is not None else self._get(name)

        text = _PART.sub(replace, node.text)
        return Scalar(node.place, text, node.plain, ", ".join(used))

    def _get(self, name: str) -> str:
        value = self.environ.get(name, "")
        if not value:
            raise MissingVariable(name)
        return value


def escape(text: str) -> str:
    """A text that `Variables.resolve` turns back into `text`, but for whole references."""
    return text.replace("${", "$${")
