"""A worker for test_bounded_worker.py: does what it is told, also what it must not."""

from __future__ import annotations

import msgspec

from trunkline.core.errors import InvalidRequest
from trunkline.engine.bounded_worker import serve


class Hello(msgspec.Struct, array_like=True, tag=1):
    """The greeting."""

    word: str


class Do(msgspec.Struct, array_like=True, tag=2):
    """Something to do."""

    what: str


def main() -> None:
    """Entry of the process."""
    words: list[str] = []

    def answer(message: Hello | Do) -> str:
        if isinstance(message, Hello):
            words.append(message.word)
            if message.word == "go away":
                raise InvalidRequest("no", param="word")
            return ""
        match message.what:
            case "loop":
                while True:
                    pass
            case "fill":
                return str(len(bytearray(10**10)))
            case "surrogate":
                return "\ud800"
            case "refuse":
                raise InvalidRequest("refused", param="what")
        return f"{words} {message.what}"

    serve(Hello | Do, answer)


if __name__ == "__main__":
    main()
