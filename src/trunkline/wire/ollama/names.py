"""Model names as Ollama's clients spell them: `host/namespace/model:tag`, in any case.

Rules: types/model/name.go and `getExistingName` in server/routes.go of ollama/ollama fb30760
(2026-08-21). Defaults are registry.ollama.ai, library and latest.
"""

from __future__ import annotations

from collections.abc import Iterable

_DEFAULT_PLACES = ("registry.ollama.ai/library/", "library/")
_DEFAULT_TAG = ":latest"


def short_name(name: str) -> str:
    """`name` without what Ollama's defaults add: "library/caboose:latest" is "caboose"."""
    _, _, bare = name.rpartition("://")
    for place in _DEFAULT_PLACES:
        if bare.lower().startswith(place):
            bare = bare[len(place) :]
            break
    if bare.lower().endswith(_DEFAULT_TAG):
        bare = bare[: -len(_DEFAULT_TAG)]
    return bare


def full_name(name: str) -> str:
    """`name` as Ollama lists it: with a tag."""
    return name if ":" in name.rpartition("/")[2] else name + _DEFAULT_TAG


def find_name(name: str, known: Iterable[str]) -> str | None:
    """Which of the names `known` a client means by `name`: the same one, or else the first that
    differs only in case and in Ollama's defaults.
    """
    names = tuple(known)
    if name in names:
        return name
    wanted = short_name(name).casefold()
    return next((one for one in names if short_name(one).casefold() == wanted), None)
