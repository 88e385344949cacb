"""Reads a configuration file of either format."""

from __future__ import annotations

import os
from collections.abc import Mapping as Environ

from trunkline.server.file.config import Loaded
from trunkline.server.file.document import MAX_BYTES, Mapping, Node, parse
from trunkline.server.file.litellm import read_litellm
from trunkline.server.file.native import read_native
from trunkline.server.file.problems import FileError, Place, Problem


def load(path: str, environ: Environ[str, str] = os.environ) -> Loaded:
    """The configuration in the file at `path`; one with `model_list` is LiteLLM's.

    Raises `FileError` with every problem, each with line and field.
    """
    root = read_tree(path)
    if isinstance(root, Mapping) and "model_list" in root.entries:
        return read_litellm(root, path, environ)
    return Loaded(path=path, format="trunkline", config=read_native(root, environ), files=(path,))


def read_tree(path: str) -> Node:
    """The tree of the file at `path`. Raises `FileError`."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        place = Place(path, 1, 1, "")
        raise FileError([Problem(place, f"cannot be read: {error.strerror or error}")]) from error
    return parse(data, path)
