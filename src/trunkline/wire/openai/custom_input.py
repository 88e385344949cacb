"""What a custom tool takes, out of the JSON that the model writes for it.

The model sees a function with one argument (`tools.text_function`) and writes
`{"input": "..."}`; the client gets the text alone, as it comes.
"""

from __future__ import annotations

import json
import re

import msgspec

# What comes before the text where the model keeps to the form.
_BEFORE = re.compile(r'\s*\{\s*"input"\s*:\s*"')
# Characters and escapes that are complete; of a surrogate pair, both.
_WHOLE = re.compile(
    r'(?:[^"\\]'
    r'|\\["\\/bfnrt]'
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4})*"
)


class _Input(msgspec.Struct):
    input: str


class CustomInput:
    """Decodes one call, piece by piece."""

    def __init__(self) -> None:
        # All that came, until the text begins; then what of it is not shown yet.
        self._held = ""
        self._begun = False
        self._ended = False
        self._shown: list[str] = []

    def feed(self, piece: str) -> str:
        """More JSON; returns what is to be shown of it, if anything yet."""
        if self._ended:
            return ""
        self._held += piece
        if not self._begun:
            before = _BEFORE.match(self._held)
            if before is None:
                return ""
            self._begun = True
            self._held = self._held[before.end() :]
        whole = _WHOLE.match(self._held)
        assert whole is not None
        self._held = self._held[whole.end() :]
        self._ended = self._held.startswith('"')
        # Not strict: models put line ends into strings as they are.
        text: str = json.loads(f'"{whole[0]}"', strict=False)
        self._shown.append(text)
        return text

    def end(self) -> tuple[str, str]:
        """What is still to be shown, and the whole text.

        Where the model kept to no form, that is all that it wrote.
        """
        if self._begun:
            # Cut off within an escape, or broken there.
            rest = "" if self._ended else self._held
        else:
            try:
                rest = msgspec.json.decode(self._held, type=_Input).input
            except msgspec.DecodeError:
                rest = self._held
        self._shown.append(rest)
        return rest, "".join(self._shown)
