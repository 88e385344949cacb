"""Renders chat templates in a process of its own (`engine.bounded_worker`).

A template is a program out of a model file. The process starts beside the core, which takes
longer, so it costs no start time; a rendering costs about 0.1 ms more.
"""

from __future__ import annotations

from trunkline.engine.bounded_worker import serve
from trunkline.engine.front.template_messages import LoadTemplate, Render
from trunkline.text.chat_template import ChatTemplate


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
