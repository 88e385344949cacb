"""Reading configurations that tests write."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from trunkline.gateway.config import RouteConfig
from trunkline.server.file.config import FileConfig, Loaded
from trunkline.server.file.load import load
from trunkline.server.file.problems import FileError


def read(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    """The configuration that `text` is."""
    path = tmp_path / "config.yaml"
    path.write_text(textwrap.dedent(text))
    return load(str(path), environ or {})


def config_of(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> FileConfig:
    """As `read`, the configuration alone."""
    return read(tmp_path, text, environ).config


def errors_of(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with `text`, as "line: field: message"."""
    with pytest.raises(FileError) as caught:
        read(tmp_path, text, environ)
    return [
        f"{problem.place.line}: {problem.place.path}: {problem.message}"
        for problem in caught.value.problems
    ]


def routes(loaded: Loaded) -> dict[str, RouteConfig]:
    """The routes of a file of LiteLLM's, by name."""
    assert loaded.format == "litellm"
    return {route.name: route for route in loaded.config.routes}


def notes(loaded: Loaded) -> list[str]:
    """What is told of a file, as "line: field: message"."""
    return [f"{note.place.line}: {note.place.path}: {note.message}" for note in loaded.notes]
