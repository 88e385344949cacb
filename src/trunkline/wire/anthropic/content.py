"""Turns and their blocks, as a chat template sees them.

Shapes: the official client's `types/message_param.py`, `types/content_block_param.py` and what
they name (anthropic 2.11, read 2026-11-21).

    system, and system turns before all others  -> one system message
    later system turns                          -> system messages, where they stand
    consecutive turns of one role               -> one turn, as Anthropic joins them
    user: tool_result                           -> a tool message each, before the turn's text
    assistant: text, thinking, tool_use         -> one message: content, reasoning, calls
    signed thinking, redacted_thinking          -> its thoughts, for who signed them
    cache_control of a text                     -> a cache point behind it, in its message
    cache_control of tool_use and tool_result   -> a cache point behind the message
    what servers' tools said and did            -> nothing; what is left out is told
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

import msgspec
from msgspec import Raw

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import CachePoint, Json, Message, TextPart, Thought
from trunkline.wire.anthropic.answer import SIGNATURE
from trunkline.wire.anthropic.errors import decode
from trunkline.wire.cache_points import WHOLE, points_of
from trunkline.wire.openai.fields import NOTHING

# What ran on Anthropic's own servers in earlier turns: unreadable elsewhere.
_FOREIGN = frozenset(("server_tool_use", "mcp_tool_use", "container_upload", "fallback"))

# Blocks of an assistant's turn that are no part of its text.
_SILENT = ("tool_use", "thinking", "redacted_thinking")

# How far into a tool's result its own word of an error is looked for, in characters.
_ERROR_WITHIN = 64


class CacheControl(msgspec.Struct):
    """`cache_control`: a mark, wherever it stands."""

    type: str = ""
    ttl: Literal["5m", "1h"] | None = None


class Block(msgspec.Struct):
    """One content block of any type; which fields it has depends on the type."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    # redacted_thinking.
    data: str | None = None
    # tool_use.
    id: str = ""
    name: str = ""
    input: Raw = NOTHING
    # tool_result.
    tool_use_id: str = ""
    is_error: bool | None = None
    # Text or blocks; servers' tools put other things here.
    content: Raw = NOTHING
    # document: an object; search_result: text.
    source: Raw = NOTHING
    title: str | None = None
    context: str | None = None
    # tool_reference.
    tool_name: str = ""
    cache_control: CacheControl | None = None


class Turn(msgspec.Struct):
    """One message as it was sent."""

    role: str
    content: str | list[Block]


class _Source(msgspec.Struct):
    type: str
    data: Raw = NOTHING
    content: Raw = NOTHING


# A block and where it stands in the body.
_Placed = tuple[str, Block]

_blocks = msgspec.json.Decoder(str | list[Block] | None)
_source = msgspec.json.Decoder(_Source)
_string = msgspec.json.Decoder(str)

T = TypeVar("T")


class Conversation(msgspec.Struct):
    """What a body's turns come to."""

    messages: list[Message] = []
    # True: the last message is an answer to be continued.
    continued: bool = False
    cache_points: list[CachePoint] = []
    # Types of the blocks that are not passed on.
    left_out: list[str] = []

    def add(self, message: Message, blocks: Sequence[_Placed]) -> None:
        """One message more, and the marks that its blocks may bear."""
        if any(block.cache_control is not None for _, block in blocks):
            self.cache_points += points_of(len(self.messages), message, _marks(blocks))
        self.messages.append(message)


def conversation(system: str | list[Block] | None, sent: Sequence[Turn]) -> Conversation:
    """The messages of a body. Raises `InvalidRequest` and `Unsupported`."""
    turns = _joined(sent)
    head = list(_placed("system", system)) if system else []
    while turns and turns[0][0] == "system":
        head += turns.pop(0)[1]
    found = Conversation()
    if head:
        found.add(Message("system", _content(_texts(head))), head)
    for role, blocks in turns:
        if role == "user":
            _user(found, blocks)
        elif role == "assistant":
            found.add(_assistant(blocks), blocks)
        else:
            found.add(Message("system", _content(_texts(blocks))), blocks)
        found.left_out += [block.type for _, block in blocks if _is_foreign(block.type)]
    found.continued = bool(turns) and turns[-1][0] == "assistant" and _continued(found.messages)
    if all(message.role == "system" for message in found.messages):
        raise InvalidRequest("messages: at least one user message is required", param="messages")
    last = len(found.messages)
    found.cache_points = [point for point in found.cache_points if point.message < last]
    return found


def _continued(messages: list[Message]) -> bool:
    last = messages[-1]
    if last.tool_calls:
        raise InvalidRequest(
            "messages: the last turn calls tools, and their tool_result blocks are missing",
            param="messages",
        )
    if last.content:
        return True
    # Nothing to continue: the turn is the model's.
    messages.pop()
    return False


def _joined(sent: Sequence[Turn]) -> list[tuple[str, list[_Placed]]]:
    """Turns whose roles differ from one to the next."""
    turns: list[tuple[str, list[_Placed]]] = []
    for index, turn in enumerate(sent):
        role = "system" if turn.role == "developer" else turn.role
        if role not in ("user", "assistant", "system"):
            where = f"messages.{index}.role"
            problem = f"{where}: Input should be 'user', 'assistant' or 'system'"
            raise InvalidRequest(problem, param=where)
        blocks = _placed(f"messages.{index}.content", turn.content)
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, list(blocks)))
    return turns


def _placed(where: str, content: str | Sequence[Block]) -> Iterable[_Placed]:
    if isinstance(content, str):
        return ((where, Block("text", content)),)
    return [(f"{where}.{index}", block) for index, block in enumerate(content)]


def _user(found: Conversation, blocks: Sequence[_Placed]) -> None:
    others: list[_Placed] = []
    for where, block in blocks:
        if block.type == "container_upload":
            problem = f"{where}: files in a container are not passed on here; send their text"
            raise Unsupported(problem, param=where)
        if block.type == "tool_result":
            inner = list(_inner(f"{where}.content", block.content))
            found.add(_result(where, block, inner), [*inner, (where, block)])
        else:
            others.append((where, block))
    if others or not blocks:
        found.add(Message("user", _content(_texts(others))), others)


def _result(where: str, block: Block, inner: Sequence[_Placed]) -> Message:
    if not block.tool_use_id:
        raise InvalidRequest(f"{where}.tool_use_id: Field required", param=f"{where}.tool_use_id")
    parts = _texts(inner)
    content = _content(parts)
    if block.is_error:
        # Templates know no failed calls. Most tools say in their text that they failed.
        start = content if isinstance(content, str) else content[0].text
        if "error" not in start[:_ERROR_WITHIN].lower():
            content = _content(["Error:" if parts else "Error", *parts])
    return Message("tool", content, tool_call_id=block.tool_use_id)


def _assistant(blocks: Sequence[_Placed]) -> Message:
    calls = [_call(where, block) for where, block in blocks if block.type == "tool_use"]
    thinking = [block.thinking for _, block in blocks if block.type == "thinking"]
    texts = _texts((w, b) for w, b in blocks if b.type not in _SILENT)
    return Message(
        "assistant",
        None if calls and not texts else _content(texts),
        tool_calls=tuple(calls) or None,
        reasoning_content="\n".join(filter(None, thinking)) or None,
        thoughts=tuple(_thoughts(blocks)),
    )


def _thoughts(blocks: Sequence[_Placed]) -> Iterable[Thought]:
    """What another has sealed; not what we have signed for want of anything better."""
    for _, block in blocks:
        if block.type == "redacted_thinking" and block.data:
            yield Thought("", sealed=block.data)
        elif block.type == "thinking" and block.signature not in (None, "", SIGNATURE):
            yield Thought(block.thinking or "", block.signature or "")


def _call(where: str, block: Block) -> Json:
    for name, value in (("id", block.id), ("name", block.name)):
        if not value:
            raise InvalidRequest(f"{where}.{name}: Field required", param=f"{where}.{name}")
    arguments = bytes(block.input).strip() or b"{}"
    if not arguments.startswith(b"{"):
        problem = f"{where}.input: Input should be an object"
        raise InvalidRequest(problem, param=f"{where}.input")
    function = {"name": block.name, "arguments": arguments.decode()}
    return {"id": block.id, "type": "function", "function": function}


def _marks(blocks: Sequence[_Placed]) -> Iterable[tuple[int, str]]:
    """(text block of the message that `blocks` become, lifetime) of those that are marked."""
    texts = 0
    for where, block in blocks:
        whole = block.type in ("tool_use", "tool_result")
        if not whole and block.type not in _SILENT:
            texts += len(_texts([(where, block)]))
        # Where nothing was said so far there is nothing of this message to keep.
        if block.cache_control is not None and (whole or texts):
            yield WHOLE if whole else texts - 1, block.cache_control.ttl or ""


def _content(texts: Sequence[str]) -> str | tuple[TextPart, ...]:
    if len(texts) == 1:
        return texts[0]
    return tuple([TextPart(text) for text in texts]) or ""


def _texts(blocks: Iterable[_Placed]) -> list[str]:
    """What blocks have to say to a model that reads text; empty texts left out."""
    return [text for where, block in blocks for text in _text(where, block) if text]


def _text(where: str, block: Block) -> Sequence[str]:
    match block.type:
        case "text":
            if block.text is None:
                raise InvalidRequest(f"{where}.text: Field required", param=f"{where}.text")
            return (block.text,)
        case "document":
            return _document(where, block)
        case "search_result":
            source = _read(_string, block.source, f"{where}.source")
            found = _texts(_inner(f"{where}.content", block.content))
            return (_headed(f"{block.title or ''} ({source})", found),)
        case "compaction":
            # A summary of turns that are gone.
            return _texts(_inner(f"{where}.content", block.content))
        case "tool_reference":
            return (block.tool_name,)
        case "image":
            problem = f"{where}: images are not passed on to this model here; send text"
            raise Unsupported(problem, param=where)
        case kind if _is_foreign(kind):
            return ()
    problem = f"{where}: blocks of type {block.type[:40]!r} are not supported here"
    raise Unsupported(problem, param=where)


def _is_foreign(kind: str) -> bool:
    return kind in _FOREIGN or (kind != "tool_result" and kind.endswith("_tool_result"))


def _document(where: str, block: Block) -> Sequence[str]:
    source = _read(_source, block.source, f"{where}.source")
    match source.type:
        case "text":
            texts = [_read(_string, source.data, f"{where}.source.data")]
        case "content":
            texts = _texts(_inner(f"{where}.source.content", source.content))
        case kind:
            problem = f"{where}.source: documents are passed on as text here, not as {kind[:40]!r}"
            raise Unsupported(problem, param=f"{where}.source")
    title = "\n".join(filter(None, (block.title, block.context)))
    return (_headed(title, texts),)


def _headed(title: str, texts: Sequence[str]) -> str:
    return "\n".join([title, *texts] if title else texts)


def _inner(where: str, raw: Raw) -> Iterable[_Placed]:
    """The blocks of a field that holds text, blocks or nothing."""
    if raw is NOTHING:
        return ()
    content = _read(_blocks, raw, where)
    return _placed(where, content) if content is not None else ()


def _read(decoder: msgspec.json.Decoder[T], raw: Raw, where: str) -> T:
    if raw is NOTHING:
        raise InvalidRequest(f"{where}: Field required", param=where)
    return decode(decoder, raw, where)
