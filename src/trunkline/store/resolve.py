"""From what a person calls a model to a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from trunkline.core.errors import InvalidRequest, ModelNotFound
from trunkline.store.home import home

# What a command serves when it is told nothing.
DEFAULT_MODEL = "caboose"

# Package data. A path and not a resource, since the model is mapped into memory.
_BUNDLED = Path(__file__).resolve().parent.parent / "models_bundled"
_MAGIC = b"GGUF"


class ModelFile(msgspec.Struct, frozen=True):
    """A model on disk."""

    # What clients call it: the bundled name, or the file's name without its ending.
    name: str
    path: Path
    # Whether it came with Trunkline.
    bundled: bool = False


def bundled_models() -> dict[str, Path]:
    """The models that are in the box, by name."""
    return {path.stem: path for path in sorted(_BUNDLED.glob("*.gguf"))}


def resolve(
    model: str,
    kind: Literal["gguf", "rules"] = "gguf",
    *,
    quantize: str = "keep",
    on_progress: Callable[[float], None] = lambda _: None,
) -> ModelFile:
    """Find `model`: a bundled name, or a path.

    A folder of safetensors is converted first, matrices in type `quantize` (`convert.ensure_gguf`).

    Raises `ModelNotFound` when there is no such thing (the message says what there is), and
    `InvalidRequest` when there is, but not a GGUF file.
    """
    bundled = bundled_models()
    if kind == "gguf" and model in bundled:
        return ModelFile(model, bundled[model], bundled=True)
    path = Path(model).expanduser()
    if not path.exists():
        what = "the path of a file of rules"
        if kind == "gguf":
            what = "the path of a GGUF file or of a folder of safetensors"
        raise ModelNotFound(
            f"no model {model!r}; in the box: {', '.join(bundled) or 'none'}; {what} works as well"
        )
    if kind == "gguf" and is_model_folder(path):
        # What computes: a start that has nothing to convert does without it.
        from trunkline.store.convert import ensure_gguf

        cache = home(os.environ) / "converted"
        return ModelFile(path.resolve().name, ensure_gguf(path, quantize, cache, on_progress))
    if not path.is_file():
        raise InvalidRequest(f"model {model!r} is not a file")
    if kind == "gguf":
        _check_magic(path)
    return ModelFile(path.stem, path.resolve())


def is_model_folder(path: Path) -> bool:
    """Whether it holds a model as `transformers` saves it."""
    return (path / "config.json").is_file() and any(path.glob("*.safetensors"))


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}") from error
    if magic != _MAGIC:
        raise InvalidRequest(f"{path} is not a GGUF file: it begins with {magic!r}")
