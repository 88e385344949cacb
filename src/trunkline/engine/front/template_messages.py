"""What the front says to its template worker. Apart from the worker: the front needs no Jinja."""

from __future__ import annotations

import msgspec

from trunkline.core.types import ChatInput


class LoadTemplate(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Compile a template; the first message. Answered by an empty text."""

    source: str
    bos_token: str
    eos_token: str


class Render(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Render a conversation. Answered by the prompt."""

    chat: ChatInput
