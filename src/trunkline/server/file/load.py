"""Reads a configuration file of either format."""

from __future__ import annotations

import os
from collections.abc import Mapping as Environ

from trunkline.server.file.config import Loaded
from trunkline.server.file.document import MAX_BYTES, Mapping, Node, parse
from trunkline.server.file.litellm import read_litellm
from trunkline.server.file.native import SECTIONS, read_native
from trunkline.server.file.problems import FileError, Place, Problem

# Sections of LiteLLM's that no file of ours has; its main file may have these alone.
_LITELLM = frozenset(
    {"include", "litellm_settings", "general_settings", "router_settings", "credential_list"}
    | {"environment_variables"}
)


def load(path: str, environ: Environ[str, str] = os.environ) -> Loaded:
    """The configuration in the file at `path`; one with sections of LiteLLM's is LiteLLM's.

    Raises `FileError` with every problem, each with line and field.
    """
    repeated: list[Problem] = []
    root = _read_tree(path, repeated)
    if isinstance(root, Mapping) and _is_litellm(root):
        return read_litellm(root, path, environ, repeated)
    if repeated:
        raise FileError(repeated)
    return Loaded(path=path, format="trunkline", config=read_native(root, environ), files=(path,))


def _is_litellm(root: Mapping) -> bool:
    """Whether the file is LiteLLM's: it has a list of models, or nothing that ours have."""
    names = root.entries.keys()
    return "model_list" in names or not (names.isdisjoint(_LITELLM) or names & set(SECTIONS))


def _read_tree(path: str, repeated: list[Problem]) -> Node:
    """The tree of the file at `path`; keys that are there twice go to `repeated`.

    Raises `FileError`.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        place = Place(path, 1, 1, "")
        raise FileError([Problem(place, f"cannot be read: {error.strerror or error}")]) from error
    return parse(data, path, repeated)
