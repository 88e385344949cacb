"""Conversations as chat templates can take them.

Clients send what OpenAI's and Anthropic's own models take: instructions in `developer` turns, and
system turns in the middle. Most templates know neither. As the servers that these clients are used
with, `developer` becomes `system` where the template does not know it (llama.cpp's common/chat.cpp,
github.com/ggml-org/llama.cpp/pull/20215; vLLM, github.com/vllm-project/vllm/pull/43590). Where a
template refuses the conversation, or passes over some of its instructions (gpt-oss' shows those in
front alone), they are put together into one system turn in front (the same pull request of vLLM;
Ollama's templates always see them so), and where that does not help either, into the first turn of
the user (llama.cpp's `system_message_not_supported`). Read 2026-11-21.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import msgspec
from jinja2 import nodes

from trunkline.core.types import Message, TextPart

_INSTRUCTIONS = ("system", "developer")


def knows_developer(template: nodes.Template) -> bool:
    """Whether a template treats turns of the role `developer` as something of their own."""
    return any(const.value == "developer" for const in template.find_all(nodes.Const))


def developer_as_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation with every `developer` a `system`."""
    return tuple(
        msgspec.structs.replace(one, role="system") if one.role == "developer" else one
        for one in messages
    )


def shows_instructions(messages: tuple[Message, ...], prompt: str) -> bool:
    """Whether all instructions stand in `prompt` as they were sent; False where one is changed."""
    return all(
        plain_text(one.content).strip() in prompt for one in messages if one.role in _INSTRUCTIONS
    )


def marked(messages: tuple[Message, ...]) -> tuple[tuple[Message, ...], list[str]]:
    """The conversation with a mark in place of each instruction, and the marks."""
    marks: list[str] = []
    found: list[Message] = []
    for one in messages:
        if one.role in _INSTRUCTIONS and plain_text(one.content).strip():
            # Digits: templates that change letters leave them alone.
            marks.append(str(uuid.uuid4().int))
            one = msgspec.structs.replace(one, content=marks[-1])
        found.append(one)
    return tuple(found), marks


def other_forms(messages: tuple[Message, ...]) -> Iterator[tuple[Message, ...]]:
    """Ways to say a conversation to a template that cannot take it as it is, the mildest first."""
    system = [one for one in messages if one.role in _INSTRUCTIONS]
    if not system:
        return
    text = "\n\n".join(filter(None, (plain_text(one.content) for one in system)))
    others = tuple(one for one in messages if one.role not in _INSTRUCTIONS)
    if [*messages[:1]] != system:
        yield (Message("system", text), *others)
    for index, one in enumerate(others):
        if one.role == "user":
            merged = f"{text}\n\n{plain_text(one.content)}"
            told = msgspec.structs.replace(one, content=merged)
            yield (*others[:index], told, *others[index + 1 :])
            return


def plain_text(content: str | tuple[TextPart, ...] | None) -> str:
    """Content as one string; parts are joined by line breaks, as vLLM joins them."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(part.text for part in content)
