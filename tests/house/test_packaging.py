"""What an installation brings, and what it does not."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import trunkline
from scripts.check_structure import read_modules

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MEGABYTE = 1_000_000


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return match[0].lower()


def _closure(requirements: list[str]) -> set[str]:
    """Names of the distributions that `requirements` bring, as installed here."""
    found: set[str] = set()
    queue = [_name(text) for text in requirements]
    while queue:
        name = queue.pop()
        if name in found:
            continue
        found.add(name)
        needs = metadata.distribution(name).requires or []
        queue += [_name(text) for text in needs if "extra ==" not in text and _applies(text)]
    return found


def _applies(requirement: str) -> bool:
    """Whether a requirement with a marker is meant for this Python: if it is there, it is."""
    if ";" not in requirement:
        return True
    try:
        metadata.distribution(_name(requirement))
    except metadata.PackageNotFoundError:
        return False
    return True


def _size(name: str) -> int:
    files = metadata.distribution(name).files or []
    paths = [Path(str(file.locate())) for file in files]
    return sum(path.stat().st_size for path in paths if path.is_file())


def test_the_base_install_is_small_and_has_no_torch() -> None:
    names = _closure(PROJECT["dependencies"])
    assert "xllamacpp" in names
    assert not names & {"torch", "transformers", "tokenizers"}
    ours = sum(path.stat().st_size for path in (ROOT / "src").rglob("*") if path.is_file())
    assert sum(map(_size, names)) + ours < 300 * MEGABYTE


def test_what_the_package_imports_is_declared() -> None:
    imported = {
        item.target.split(".")[0]
        for module in read_modules(ROOT).values()
        for item in module.imports
    }
    third_party = imported - sys.stdlib_module_names - {"trunkline"}
    providers = metadata.packages_distributions()
    needed = {providers[name][0].lower() for name in third_party}
    extras = PROJECT["optional-dependencies"]
    # Imported where it is used, with an error that names the extra.
    optional = {_name(text) for text in extras["gcp"]}
    assert optional <= needed
    # Of xllamacpp only the shared object is used; it is found by its path.
    assert needed - optional | {"xllamacpp"} == {_name(text) for text in PROJECT["dependencies"]}


def test_the_engine_library_is_pinned_exactly() -> None:
    pins = [text for text in PROJECT["dependencies"] if _name(text) == "xllamacpp"]
    assert re.fullmatch(r"xllamacpp==[\d.]+", pins[0])
    assert metadata.version("xllamacpp") == pins[0].split("==")[1]


def test_the_package_is_typed_and_brings_its_model() -> None:
    package = Path(trunkline.__file__).parent
    assert (package / "py.typed").is_file()
    model = package / "models_bundled" / "caboose.gguf"
    assert model.stat().st_size < 12 * MEGABYTE


def test_the_licence_is_what_the_metadata_says() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
