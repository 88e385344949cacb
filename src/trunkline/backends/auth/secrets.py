"""Keys, and where they come from. A `Secret` shows itself nowhere but where it is used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# Spellings of "the value of this environment variable"; the second is LiteLLM's.
_REFERENCES = ("env:", "os.environ/")


# Shorter ones are stand-ins ("x", "none", "EMPTY"), and words of every other text.
_PLACEHOLDER = 3
# So long that no word has it by chance.
_CERTAIN = 8


def hide(text: str, value: str) -> str:
    """`text` without the secret `value`: some servers repeat a wrong key in their error.

    A short one is hidden where it stands by itself, not within other words.
    """
    if len(value) < _PLACEHOLDER:
        return text
    if len(value) >= _CERTAIN:
        return text.replace(value, "***")
    return re.sub(rf"(?<![a-zA-Z0-9]){re.escape(value)}(?![a-zA-Z0-9])", "***", text)


class Secret:
    """A string that neither `repr`, `str`, formatting nor pickling gives away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The string itself."""
        return self._value

    def redact(self, text: str) -> str:
        """See `hide`."""
        return hide(text, self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not sent anywhere")


def resolve(text: str, environ: Mapping[str, str]) -> str:
    """`text`, or the variable that it refers to: ``env:NAME`` or ``os.environ/NAME``.

    Raises ValueError, naming the variable, where it is not set.
    """
    for prefix in _REFERENCES:
        if text.startswith(prefix):
            name = text.removeprefix(prefix)
            if name not in environ:
                raise ValueError(f"the environment variable {name} is not set")
            return environ[name]
    return text


def find_key(given: str, variables: Iterable[str], environ: Mapping[str, str]) -> Secret | None:
    """The key `given` in a configuration, else the first of `variables` that is set, else None.

    Raises ValueError where `given` refers to a variable that is not set, or cannot be sent.
    """
    key = resolve(given, environ) if given else ""
    if not key:
        key = next((environ[name] for name in variables if environ.get(name)), "")
    key = key.strip()
    if not key:
        return None
    if not (key.isascii() and key.isprintable()):
        raise ValueError("a key holds characters that an HTTP header field must not have")
    return Secret(key)
