"""All speakers, by the operation that they speak. See `wire.client`.

What a platform makes of somebody else's operation stands under `operation/platform`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trunkline.wire.anthropic.client import MessagesSpeaker
from trunkline.wire.anthropic.vertex import VERTEX
from trunkline.wire.bedrock.client import CONVERSE
from trunkline.wire.client import Speaker
from trunkline.wire.cohere import client as cohere
from trunkline.wire.gemini import client as gemini
from trunkline.wire.kserve import client as kserve
from trunkline.wire.llamacpp import client as llamacpp
from trunkline.wire.ollama import client as ollama
from trunkline.wire.openai.chat_client import ChatSpeaker
from trunkline.wire.openai.completions_client import CompletionsSpeaker
from trunkline.wire.openai.responses_client import ResponsesSpeaker
from trunkline.wire.tgi import client as tgi

_ALL: tuple[Speaker, ...] = (
    ChatSpeaker(),
    CompletionsSpeaker(),
    ResponsesSpeaker(),
    MessagesSpeaker(),
    ollama.CHAT,
    ollama.GENERATE,
    tgi.GENERATE,
    llamacpp.COMPLETION,
    kserve.GENERATE,
    gemini.GENERATE,
    cohere.CHAT,
    CONVERSE,
)

_PLATFORMS: Mapping[str, Speaker] = {"anthropic.messages/vertex": VERTEX}

SPEAKERS: Mapping[str, Speaker] = MappingProxyType(
    {**{one.operation: one for one in _ALL}, **_PLATFORMS}
)
