"""Cache points between a dialect's marks and a speaker's blocks.

A decoder knows behind which text block of a message its client put a mark; a speaker leaves out
blocks that show nothing. Both count here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from trunkline.core.types import CachePoint, ChatInput, Message

# Behind all of a message.
WHOLE = -1
# Most points of one message: no provider takes as many in a request, and the last count.
_MOST = 8


def points_of(
    index: int, message: Message, marks: Iterable[tuple[int, str]]
) -> tuple[CachePoint, ...]:
    """The points of the message at `index`; `marks`: (text block or `WHOLE`, lifetime).

    Of two at one place the later counts. What a tool has said is kept as a whole.
    """
    found: dict[int, str] = {}
    last = len(_texts(message)) - 1
    for part, ttl in marks:
        ends = message.role == "tool" or (part >= last and not message.tool_calls)
        found[WHOLE if ends else part] = ttl
    order = sorted(found, key=lambda part: (part == WHOLE, part))
    return tuple([CachePoint("message", index, found[part], part) for part in order[-_MOST:]])


def closed(
    points: Sequence[CachePoint], messages: Sequence[Message], ttl: str
) -> tuple[CachePoint, ...]:
    """`points`, and one behind all `messages` unless there is one."""
    last = len(messages) - 1
    if any(
        point.place == "message" and (point.message, point.part) == (last, WHOLE)
        for point in points
    ):
        return tuple(points)
    return (*points, CachePoint("message", last, ttl))


def placed(source: ChatInput) -> Mapping[int, Mapping[int, str]]:
    """Message -> (number of its text blocks that precede a point, or `WHOLE`) -> lifetime.

    Only text blocks that are not blank are counted; 0: there is none that the point could be at.
    """
    found: dict[int, dict[int, str]] = {}
    for point in source.cache_points:
        if point.place == "message":
            number = _preceding(source.messages[point.message], point.part)
            found.setdefault(point.message, {})[number] = point.ttl
    return found


def _preceding(message: Message, part: int) -> int:
    if part == WHOLE or message.role == "tool":
        return WHOLE
    shown = [bool(text.strip()) for text in _texts(message)]
    number = sum(shown[: part + 1])
    # Nothing follows it that is sent.
    ends = number == sum(shown) > 0 and not message.tool_calls
    return WHOLE if ends else number


def _texts(message: Message) -> list[str]:
    """All text blocks, the empty ones among them; a text alone is one."""
    content = message.content
    if content is None or isinstance(content, str):
        return [content or ""]
    return [part.text for part in content]
