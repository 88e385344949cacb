"""Translates and tries grammars in a process that the kernel ends when one takes too long.

    python -m trunkline.engine.grammar.worker      # frames on stdin and stdout

`ITIMER_PROF` with its default action kills the process after so many processor seconds, wherever
it is, and `RLIMIT_AS` bounds its memory (Linux). What passes here is safe in the core, which
compiles the same source under the same limits of llguidance.
"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import sys
from typing import BinaryIO

import msgspec
from llguidance import LLMatcher, LLTokenizer

from trunkline.core.errors import InvalidRequest
from trunkline.core.supervise import die_with_parent
from trunkline.core.types import Grammar
from trunkline.engine.frames import pack
from trunkline.engine.grammar.messages import Check, Checked, Configure, ToWorker
from trunkline.engine.grammar.vocabulary import limits, outline_tokenizer
from trunkline.text.grammar import to_llguidance
from trunkline.text.json_schema import SUPPORTED

# Texts begun at random to see whether the grammar is too complex to be followed, and their bytes.
_WALKS = 3
_WALK_BYTES = 24
# Longest part of a message of llguidance that is shown.
_MAX_REASON = 400

_UNIMPLEMENTED = re.compile(r"Unimplemented keys: \[(.*)\]")
_COMPLEX = re.compile(r"[Tt]oo many|[Tt]oo complex|max is|limit|too large|fuel")


def checked(grammar: Grammar, tokenizer: LLTokenizer) -> str:
    """The llguidance source of `grammar`. Raises `InvalidRequest`."""
    source = to_llguidance(grammar)
    matcher = LLMatcher(tokenizer, source, log_level=0, limits=limits())
    _raise_error(matcher, grammar)
    if not _allowed(matcher, grammar) and not matcher.is_accepting():
        raise InvalidRequest(f"the {grammar.kind} matches no text", param=grammar.kind)
    for walk in range(_WALKS):
        _walk(matcher.deep_copy(), grammar, random.Random(walk))
    return source


def _walk(matcher: LLMatcher, grammar: Grammar, choose: random.Random) -> None:
    for _ in range(_WALK_BYTES):
        allowed = _allowed(matcher, grammar)
        if not allowed or matcher.is_stopped():
            return
        matcher.consume_token(choose.choice(allowed))
        _raise_error(matcher, grammar)


def _allowed(matcher: LLMatcher, grammar: Grammar) -> list[int]:
    """Ids of the tokens that may come next."""
    mask = matcher.compute_bitmask()
    _raise_error(matcher, grammar)
    return [
        8 * index + bit
        for index, byte in enumerate(mask)
        if byte
        for bit in range(8)
        if byte >> bit & 1
    ]


def _raise_error(matcher: LLMatcher, grammar: Grammar) -> None:
    if not matcher.is_error():
        return
    reason = matcher.get_error().strip()
    kind = grammar.kind
    if found := _UNIMPLEMENTED.search(reason):
        why = f"uses {found[1]}, which is not supported; supported are: {', '.join(SUPPORTED)}"
    elif reason.startswith("NoExtension"):
        why = "matches no text"
    elif _COMPLEX.search(reason):
        why = f"is too complex: {_short(reason)}"
    else:
        why = f"cannot be used: {_short(reason)}"
    raise InvalidRequest(f"the {kind} {why}", param=kind)


def _short(reason: str) -> str:
    """Without the excerpt of our translation that llguidance adds."""
    lines = [line for line in reason.splitlines() if not re.match(r"\s*(\d+ \||\^)", line)]
    return " ".join(" ".join(lines).split())[:_MAX_REASON]


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
        # macOS refuses; processor time still bounds what a grammar can fill.
        return


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    encoder = msgspec.msgpack.Encoder()
    decoder: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
    tokenizer: LLTokenizer | None = None
    seconds = 0.0
    while (message := _receive(source, decoder)) is not None:
        try:
            if isinstance(message, Configure):
                seconds = message.cpu_seconds
                _limit_memory(message.memory_bytes)
                tokenizer = outline_tokenizer(message.outline)
                answer = Checked("")
            else:
                assert isinstance(message, Check)
                assert tokenizer is not None, "the vocabulary comes first"
                signal.setitimer(signal.ITIMER_PROF, seconds)
                answer = Checked(checked(message.grammar, tokenizer))
        except InvalidRequest as error:
            answer = Checked("", error.info())
        signal.setitimer(signal.ITIMER_PROF, 0)
        sink.write(pack(encoder.encode(answer)))
        sink.flush()


def main() -> None:
    """Entry of the process; it ends with its input."""
    die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
