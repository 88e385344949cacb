"""What the grammar compiler and its worker say to each other; frames on stdin and stdout."""

from __future__ import annotations

import msgspec

from trunkline.core.errors import ErrorInfo
from trunkline.core.types import Grammar


class Outline(msgspec.Struct, frozen=True, array_like=True):
    """As much of a vocabulary as checking a grammar needs; ids are the model's own."""

    # Number of token ids.
    size: int
    # Special tokens, ends of text among them: id -> name.
    special: dict[int, bytes]
    # End-of-text tokens, rising; one at least.
    eog: tuple[int, ...]


class Configure(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first message; answered by an empty `Checked`."""

    outline: Outline
    # Processor seconds for each grammar.
    cpu_seconds: float
    # Address space of the process, bytes.
    memory_bytes: int


class Check(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Translate and try a grammar."""

    grammar: Grammar


class Checked(msgspec.Struct, frozen=True, array_like=True):
    """The llguidance source, or why there is none."""

    source: str
    error: ErrorInfo | None = None


ToWorker = Configure | Check
