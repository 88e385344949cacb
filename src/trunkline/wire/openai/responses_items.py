"""Input items of the Responses API, as a chat template sees them.

Shapes: the official client's `types/responses/response_input_item.py` and its parts (openai 3.52,
read 2026-11-21). Items that a model of ours cannot have made (searches, computer use and the like)
are passed over, and become notes: agents send their whole history back.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import Raw

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import CachePoint, ChatInput, Json, Message, TextPart
from trunkline.wire.cache_points import points_of
from trunkline.wire.openai.cache_marks import Marked, part_marks
from trunkline.wire.openai.fields import decode

# Most items of one conversation.
MAX_ITEMS = 10_000
# `encrypted_content` of ours begins with this; base64 of the reasoning follows. It hides nothing:
# the text goes back to the one who was shown it, who need not understand it.
HIDDEN = "trunkline1."

_KNOWN = frozenset(
    (
        *("message", "reasoning", "item_reference", "function_call", "function_call_output"),
        *("custom_tool_call", "custom_tool_call_output"),
    )
)
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


class _Kind(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    role: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[Raw]


class _Part(Marked, kw_only=True):
    type: str
    text: str | None = None
    refusal: str | None = None


class _Call(msgspec.Struct):
    call_id: str
    name: str
    namespace: str | None = None
    arguments: str = ""
    # Of a custom tool.
    input: str = ""


class _Result(msgspec.Struct):
    call_id: str
    output: str | list[Raw]


class _Held(msgspec.Struct):
    content: str | list[Raw] | None = None
    output: str | list[Raw] | None = None


class _Reasoning(msgspec.Struct):
    summary: list[_Part] = []
    content: list[_Part] | None = None
    encrypted_content: str | None = None


_items = msgspec.json.Decoder(str | list[Raw])
_kind = msgspec.json.Decoder(_Kind)
_message = msgspec.json.Decoder(_Message)
_part = msgspec.json.Decoder(_Part)
_call = msgspec.json.Decoder(_Call)
_held = msgspec.json.Decoder(_Held)
_result = msgspec.json.Decoder(_Result)
_reasoning = msgspec.json.Decoder(_Reasoning)


class Item(msgspec.Struct, frozen=True):
    """One item: where it stands in the request, what it is, and its text."""

    where: str
    # "" for what has neither a type nor a role.
    type: str
    id: str | None
    raw: bytes


def read_items(raw: Raw) -> tuple[Item, ...]:
    """The items of `input`; a string is what a user says. Raises `InvalidRequest`."""
    sent = decode(_items, raw, "input")
    if isinstance(sent, str):
        content = msgspec.json.encode([{"type": "input_text", "text": sent}])
        text = b'{"type":"message","role":"user","content":%b}' % content
        return (Item("input", "message", None, text),)
    if len(sent) > MAX_ITEMS:
        problem = f"'input' has {len(sent)} items; at most {MAX_ITEMS} are accepted."
        raise InvalidRequest(problem, param="input")
    return tuple([read_item(one, f"input[{index}]") for index, one in enumerate(sent)])


def read_item(raw: Raw | bytes, where: str) -> Item:
    """One item. Raises `InvalidRequest`."""
    kind = decode(_kind, Raw(bytes(raw)), where)
    name = kind.type
    if name is None:
        # Messages may leave their type out, and references too.
        name = "message" if kind.role else "item_reference" if kind.id else ""
    return Item(where, name, kind.id, bytes(raw).strip())


def shown(item: Item, new_id: str) -> bytes:
    """`item` as it is listed later: with an id, a type, and content in parts."""
    if item.type == "message":
        message = decode(_message, Raw(item.raw), item.where)
        parts: list[Raw] | list[Json] = []
        if isinstance(message.content, str):
            kind = "output_text" if message.role == "assistant" else "input_text"
            parts = [{"type": kind, "text": message.content}]
        else:
            parts = message.content
        body = {"type": "message", "role": message.role, "content": parts}
        return msgspec.json.encode({"id": item.id or new_id, **body})
    if item.id is not None or not item.raw.startswith(b"{"):
        return item.raw
    return b'{"id":%b,%b' % (msgspec.json.encode(new_id), item.raw[1:].lstrip())


def conversation(
    instructions: str | None,
    items: Sequence[Item],
    tool_name: Callable[[str | None, str], str],
) -> ChatInput:
    """Messages of `items`, after `instructions`, with marks. `tool_name` joins a namespace and a
    name.

    Raises `InvalidRequest` and `Unsupported`.
    """
    talk = _Conversation(tool_name)
    if instructions:
        talk.system(instructions)
    for item in items:
        talk.add(item)
    talk.close_turn()
    points: list[CachePoint] = []
    for index, marks in sorted(talk.marks.items()):
        points += points_of(index, talk.messages[index], marks)
    return ChatInput(tuple(talk.messages), cache_points=tuple(points))


def passed_over(items: Sequence[Item]) -> list[str]:
    """Types of the items that `conversation` leaves out."""
    return [item.type for item in items if item.type and item.type not in _KNOWN]


def hidden_reasoning(text: str) -> str:
    """`encrypted_content` from which `conversation` finds `text` again."""
    return HIDDEN + base64.b64encode(text.encode()).decode()


class _Conversation:
    """Messages under construction. What an assistant thinks, says and calls is one message."""

    def __init__(self, tool_name: Callable[[str | None, str], str]) -> None:
        self.messages: list[Message] = []
        # Index of a message that is marked -> its parts that are, and for how long.
        self.marks: dict[int, list[tuple[int, str]]] = {}
        self._tool_name = tool_name
        # The assistant's turn that is not closed yet.
        self._thoughts: list[str] = []
        self._text: list[str] | None = None
        self._calls: list[Json] = []
        self._adders: Mapping[str, Callable[[Item], None]] = {
            "message": self._message,
            "function_call": self._function_call,
            "custom_tool_call": self._custom_call,
            "function_call_output": self._output,
            "custom_tool_call_output": self._output,
            "reasoning": self._reasoning,
        }

    def add(self, item: Item) -> None:
        adder = self._adders.get(item.type)
        if adder is not None:
            adder(item)
            if b'"prompt_cache_breakpoint"' in item.raw or b'"cache_control"' in item.raw:
                self._mark(item)

    def system(self, text: str) -> None:
        """System messages at the beginning become one: many templates know no second."""
        self.close_turn()
        before = self.messages[-1] if self.messages else None
        if before is not None and before.role == "system" and isinstance(before.content, str):
            self.messages[-1] = Message("system", f"{before.content}\n\n{text}")
        else:
            self.messages.append(Message("system", text))

    def close_turn(self) -> None:
        if self._text is None and not self._calls and not self._thoughts:
            return
        thoughts = "\n".join(self._thoughts) or None
        text = None if self._text is None else "".join(self._text)
        calls = tuple(self._calls) or None
        if text is None and calls is None:
            text = ""
        self.messages.append(
            Message("assistant", text, tool_calls=calls, reasoning_content=thoughts)
        )
        self._thoughts, self._text, self._calls = [], None, []

    def _message(self, item: Item) -> None:
        message = decode(_message, Raw(item.raw), item.where)
        content = _content(message.content, f"{item.where}.content")
        role = message.role
        if role == "assistant":
            if self._text is not None or self._calls:
                self.close_turn()
            self._text = [_joined(content)]
        elif role in ("system", "developer"):
            self.system(_joined(content))
        elif role == "user":
            self.close_turn()
            self.messages.append(Message("user", content))
        else:
            problem = (
                f"Invalid value: '{role[:40]}'. Supported values are: "
                "'assistant', 'system', 'developer' and 'user'."
            )
            raise InvalidRequest(problem, param=f"{item.where}.role")

    def _mark(self, item: Item) -> None:
        """What `item` said is the last message, unless an assistant said or thought it."""
        if item.type == "reasoning":
            return
        held = decode(_held, Raw(item.raw), item.where)
        parts = held.content if held.output is None else held.output
        if not isinstance(parts, list) or self._text is not None or not self.messages:
            return
        marks = part_marks(decode(_part, raw, item.where) for raw in parts)
        if marks:
            self.marks.setdefault(len(self.messages) - 1, []).extend(marks)

    def _function_call(self, item: Item) -> None:
        call = decode(_call, Raw(item.raw), item.where)
        self._add_call(call, call.arguments or "{}")

    def _custom_call(self, item: Item) -> None:
        call = decode(_call, Raw(item.raw), item.where)
        self._add_call(call, msgspec.json.encode({"input": call.input}).decode())

    def _add_call(self, call: _Call, arguments: str) -> None:
        function = {"name": self._tool_name(call.namespace, call.name), "arguments": arguments}
        self._calls.append({"id": call.call_id, "type": "function", "function": function})

    def _output(self, item: Item) -> None:
        result = decode(_result, Raw(item.raw), item.where)
        self.close_turn()
        content = _content(result.output, f"{item.where}.output")
        self.messages.append(Message("tool", _joined(content), tool_call_id=result.call_id))

    def _reasoning(self, item: Item) -> None:
        if self._text is not None or self._calls:
            self.close_turn()
        thought = _thought(decode(_reasoning, Raw(item.raw), item.where))
        if thought:
            self._thoughts.append(thought)


def _thought(item: _Reasoning) -> str:
    text = "\n".join(part.text or "" for part in item.content or item.summary)
    hidden = item.encrypted_content or ""
    if text or not hidden.startswith(HIDDEN):
        return text
    try:
        return base64.b64decode(hidden.removeprefix(HIDDEN), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _joined(content: str | tuple[TextPart, ...]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _content(sent: str | list[Raw], where: str) -> str | tuple[TextPart, ...]:
    if isinstance(sent, str):
        return sent
    found: list[TextPart] = []
    for index, raw in enumerate(sent):
        param = f"{where}[{index}]"
        part = decode(_part, raw, param)
        text = part.refusal if part.type == "refusal" else part.text
        if part.type != "refusal" and part.type not in _TEXTS:
            problem = f"Content of type {part.type[:40]!r} is not supported; only text is."
            raise Unsupported(problem, param=param)
        if text is None:
            raise InvalidRequest(f"'{param}.text' is missing.", param=f"{param}.text")
        found.append(TextPart(text))
    return found[0].text if len(found) == 1 else tuple(found)
