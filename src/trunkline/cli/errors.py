"""What can go wrong in a command that is no error of a request."""

from __future__ import annotations


class UsageError(Exception):
    """An argument or an environment variable is wrong; the message names it and what is right."""


class CommandFailed(Exception):
    """The command cannot do its work; `message` is one line for a person."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
