"""What a person sees while waiting and reading."""

from __future__ import annotations

import re
import sys
from typing import TextIO

# A model may say anything; what moves cursors and renames windows stays off a terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def write_text(text: str) -> None:
    """Write a model's text to standard output at once; on a terminal without control codes."""
    if sys.stdout.isatty():
        text = _CONTROL.sub("", text)
    sys.stdout.write(text)
    sys.stdout.flush()


class StatusLine:
    """One line that is written over and over, on a terminal only; elsewhere nothing is shown."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._on = stream.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        """Replace what the line says."""
        if self._on:
            self._stream.write("\r" + text.ljust(self._width))
            self._stream.flush()
            self._width = len(text)

    def clear(self) -> None:
        """Leave the line empty, the cursor at its beginning."""
        if self._on and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0
