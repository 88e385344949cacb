"""Renders chat templates in a process of its own (`engine.bounded_worker`).

A template is a program out of a model file. The process starts beside the core, which takes
longer, so it costs no start time; a rendering costs about 0.1 ms more.
"""

from __future__ import annotations

import msgspec

from trunkline.core.types import ChatInput
from trunkline.engine.bounded_worker import serve
from trunkline.text.chat_template import ChatTemplate


class LoadTemplate(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Compile a template; the first message. Answered by an empty text."""

    source: str
    bos_token: str
    eos_token: str


class Render(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Render a conversation. Answered by the prompt."""

    chat: ChatInput


class _Worker:
    def __init__(self) -> None:
        self._template: ChatTemplate | None = None

    def answer(self, message: LoadTemplate | Render) -> str:
        """Raises `InvalidRequest` as `ChatTemplate` does."""
        if isinstance(message, LoadTemplate):
            self._template = ChatTemplate(
                message.source, bos_token=message.bos_token, eos_token=message.eos_token
            )
            return ""
        assert self._template is not None, "a template is loaded first"
        return self._template.render(message.chat)


if __name__ == "__main__":
    serve(LoadTemplate | Render, _Worker().answer)
