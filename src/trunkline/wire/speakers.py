"""All speakers, by the operation that they speak. See `wire.client`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trunkline.wire.anthropic.client import MessagesSpeaker
from trunkline.wire.client import Speaker
from trunkline.wire.openai.chat_client import ChatSpeaker
from trunkline.wire.openai.completions_client import CompletionsSpeaker
from trunkline.wire.openai.responses_client import ResponsesSpeaker

_ALL: tuple[Speaker, ...] = (
    ChatSpeaker(),
    CompletionsSpeaker(),
    ResponsesSpeaker(),
    MessagesSpeaker(),
)

SPEAKERS: Mapping[str, Speaker] = MappingProxyType({one.operation: one for one in _ALL})
