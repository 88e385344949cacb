"""Renders chat templates in a process that the kernel ends when a rendering takes too long.

    python -m trunkline.engine.front.template_worker      # frames on stdin and stdout

A template is a program out of a model file; nested loops or one regular expression keep it busy
for ever, and a thread cannot be stopped. So the front renders here: `ITIMER_PROF` with its default
action kills the process after so many seconds of processor time, wherever it is (also in the
middle of one call into C), and `RLIMIT_AS` bounds its memory (Linux). The process starts beside
the core, which takes longer, so it costs no start time; a rendering costs about 0.1 ms more.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import BinaryIO

import msgspec

from trunkline.core.errors import ErrorInfo, InvalidRequest
from trunkline.core.supervise import die_with_parent
from trunkline.core.types import ChatInput
from trunkline.engine.frames import pack
from trunkline.text.chat_template import ChatTemplate


class LoadTemplate(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Compile a template; the first message. Answered by `Rendered` with an empty text."""

    source: str
    bos_token: str
    eos_token: str
    # Processor seconds for each message, this one included.
    cpu_seconds: float
    # Address space of the process, bytes.
    memory_bytes: int


class Render(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Render a conversation."""

    chat: ChatInput


class Rendered(msgspec.Struct, frozen=True, array_like=True):
    """The prompt, or why there is none."""

    text: str
    error: ErrorInfo | None = None


ToWorker = LoadTemplate | Render


def _receive(stream: BinaryIO, decoder: msgspec.msgpack.Decoder[ToWorker]) -> ToWorker | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    return decoder.decode(stream.read(int.from_bytes(head, "little")))


def _limit_memory(limit: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    except (ValueError, OSError):
        # macOS refuses; processor time still bounds what a template can fill.
        return


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    encoder = msgspec.msgpack.Encoder()
    decoder: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
    template: ChatTemplate | None = None
    seconds = 0.0
    while (message := _receive(source, decoder)) is not None:
        try:
            if isinstance(message, LoadTemplate):
                seconds = message.cpu_seconds
                _limit_memory(message.memory_bytes)
                signal.setitimer(signal.ITIMER_PROF, seconds)
                template = ChatTemplate(
                    message.source, bos_token=message.bos_token, eos_token=message.eos_token
                )
                answer = Rendered("")
            else:
                assert template is not None, "a template is loaded first"
                signal.setitimer(signal.ITIMER_PROF, seconds)
                answer = Rendered(template.render(message.chat))
        except InvalidRequest as error:
            answer = Rendered("", error.info())
        # Encoding counts too: the prompt may be long, and may hold a lone surrogate.
        try:
            data = encoder.encode(answer)
        except (UnicodeEncodeError, MemoryError) as error:
            problem = InvalidRequest(f"the rendered prompt cannot be used: {error}")
            data = encoder.encode(Rendered("", problem.info()))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sink.write(pack(data))
        sink.flush()


def main() -> None:
    """Entry of the process; it ends with its input."""
    die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
