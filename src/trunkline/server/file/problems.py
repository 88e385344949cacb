"""What is wrong in a file, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple


class Place(NamedTuple):
    """Where something stands in a file."""

    file: str
    # From 1.
    line: int
    column: int
    # Which field it is: "routes[0].targets[1].weight"; "" for the whole file.
    path: str


class Problem(NamedTuple):
    """One thing that is wrong, and what would be right. Never holds the value of a variable."""

    place: Place
    message: str

    def __str__(self) -> str:
        file, line, column, path = self.place
        return f"{file}:{line}:{column}: {path + ': ' if path else ''}{self.message}"


class Note(NamedTuple):
    """Something that the file asks for and that is not done, or is done in another way."""

    place: Place
    message: str

    def __str__(self) -> str:
        return str(Problem(self.place, self.message))


class FileError(Exception):
    """A file cannot be used. `message` has one line for each problem, in the file's order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        self.message = "\n".join(map(str, self.problems))
        super().__init__(self.message)


def nearest(name: str, known: Iterable[str], most: int = 30) -> str:
    """Words that say what was probably meant: "did you mean 'port'?", else all that there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if not names:
        return "there are none"
    rest = f", ... ({len(names) - most} more)" if len(names) > most else ""
    return f"there are: {', '.join(names[:most])}{rest}"
