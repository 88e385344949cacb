#!/usr/bin/env python3
"""Checks the shape of the tree: layers, import cycles, sizes, light imports, stray paths.

    scripts/check_structure.py [ROOT]

Imports are read from the syntax trees; nothing is imported. Each problem is printed as
``path:line: what is wrong``; the exit status is 1 when there is any. Limits are raised here and
nowhere else, in `EXCEPTIONS`, each with its reason.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGE = "trunkline"

# Imports go down this list only; packages on one line do not see each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli", "web"),
    ("server",),
    ("bench", "advise", "deploy"),
    ("gateway",),
    ("residency",),
    ("backends",),
    ("wire",),
    ("engine",),
    ("text",),
    ("store",),
    ("libllama", "libnative"),
    ("formats",),
    ("state",),
    ("core",),
    # Package data and `__version__`: anybody may read them.
    ("models_bundled", "__init__"),
)

# What a package must not import although it stands lower, or is not ours.
FORBIDDEN: Mapping[str, tuple[str, ...]] = {
    # Codecs are pure: bytes to core types.
    "wire": ("trunkline.engine", "trunkline.text", "asyncio", "socket"),
    # The gateway sees backends through `core.types.Backend` alone.
    "gateway": ("trunkline.text", "trunkline.engine"),
    "engine": ("httptools", "starlette", "httpx", "http", "urllib.request"),
    "text": ("httptools", "starlette", "httpx", "http", "asyncio", "socket"),
    "formats": ("asyncio", "socket"),
}

# Packages that use the standard library, us, and nothing but these.
ONLY: Mapping[str, frozenset[str]] = {"core": frozenset({"msgspec"})}

# Neither `import trunkline` nor the start of the command line may load these.
HEAVY = frozenset(
    {"torch", "numpy", "xllamacpp", "uvloop", "httptools", "starlette", "jinja2", "httpx"}
)
LIGHT_ROOTS = ("trunkline", "trunkline.__main__", "trunkline.cli.main")

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80
CODE_DIRS = ("src", "tests", "scripts", "tools", "benchmarks")

# Text that says where somebody's machine keeps things, or where packages come from there.
STRAY = (
    "../shared",
    "/work/",
    "/tmp/wk",  # noqa: S108
    "/root/",
    "/opt/pypi",
    "/opt/wheels",
    "pypi.org",
    "pythonhosted.org",
    "registry.npmjs.org",
)

# (check, path or module) -> why it is right there.
EXCEPTIONS: Mapping[tuple[str, str], str] = {
    ("lazy", "trunkline.cli"): "commands import what they need, so that --help is instant",
    ("lazy", "trunkline.engine.executors"): "only the executor that is chosen is loaded",
    ("lazy", "trunkline.engine.front.__main__"): "the file is read while the rest is imported",
    ("lazy", "trunkline.engine.grammar.gate"): "llguidance, for those who have grammars",
    ("lazy", "trunkline.server.engines"): "engines start while the rest is imported",
    ("lazy", "trunkline.store.resolve"): "only folders are converted; that needs NumPy",
    ("stray", "scripts/check_structure.py"): "the list itself",
    ("stray", "tests/house/test_structure.py"): "shows that the list is looked for",
}


class Problem(NamedTuple):
    """One thing that is wrong."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class Import(NamedTuple):
    """One imported module."""

    target: str
    line: int
    # Inside a function: runs late, or never.
    lazy: bool


class Module(NamedTuple):
    """One module of the package."""

    name: str
    path: str
    imports: tuple[Import, ...]

    @property
    def layer(self) -> str:
        """The first name below the package; "__init__" for the package itself."""
        return self.name.split(".")[1] if "." in self.name else "__init__"


def _imports(node: ast.AST, known: frozenset[str], lazy: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            for alias in child.names:
                deep = f"{child.module}.{alias.name}"
                yield Import(deep if deep in known else child.module, child.lineno, lazy)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, known, lazy or function)


def read_modules(root: Path) -> dict[str, Module]:
    """The modules under ``root/src/trunkline``, by dotted name."""
    source = root / "src"
    paths: dict[str, Path] = {}
    for path in sorted((source / PACKAGE).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    known = frozenset(paths)
    return {
        name: Module(
            name,
            path.relative_to(root).as_posix(),
            tuple(_imports(ast.parse(path.read_text(encoding="utf-8")), known)),
        )
        for name, path in paths.items()
    }


def _excused(check: str, name: str) -> bool:
    return any(
        check == kind and (name == prefix or name.startswith(f"{prefix}."))
        for kind, prefix in EXCEPTIONS
    )


def _under(target: str, prefix: str) -> bool:
    return target == prefix or target.startswith(f"{prefix}.")


def _first_after(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def check_layers(modules: Mapping[str, Module]) -> Iterator[Problem]:
    """Arrows that go up or sideways, imports that a package must not have, late imports."""
    rank = {name: number for number, row in enumerate(LAYERS) for name in row}
    for module in modules.values():
        if module.layer not in rank:
            yield Problem(module.path, 1, f"package {module.layer!r} stands in no layer")
            continue
        for target, line, lazy in module.imports:
            top = target.split(".")[0]
            if top == PACKAGE:
                other = _first_after(target)
                if other != module.layer and rank.get(other, -1) <= rank[module.layer]:
                    yield Problem(module.path, line, f"{module.layer} must not import {target}")
                if lazy and not _excused("lazy", module.name):
                    yield Problem(module.path, line, f"import {target} at the top of the module")
            elif module.layer in ONLY and top not in (ONLY[module.layer] | sys.stdlib_module_names):
                yield Problem(module.path, line, f"{module.layer} must not import {target}")
            if any(_under(target, name) for name in FORBIDDEN.get(module.layer, ())):
                yield Problem(module.path, line, f"{module.layer} must not import {target}")


def check_cycles(modules: Mapping[str, Module]) -> Iterator[Problem]:
    """Modules that import each other while they are being loaded."""
    done: set[str] = set()

    def visit(name: str, stack: tuple[str, ...]) -> Iterator[Problem]:
        if name in stack:
            ring = (*stack[stack.index(name) :], name)
            yield Problem(modules[name].path, 1, "import cycle: " + " -> ".join(ring))
        elif name not in done:
            for item in modules[name].imports:
                if not item.lazy and item.target in modules and item.target != name:
                    yield from visit(item.target, (*stack, name))
            done.add(name)

    for name in modules:
        yield from visit(name, ())


def check_light(modules: Mapping[str, Module]) -> Iterator[Problem]:
    """Heavy imports that `LIGHT_ROOTS` reach while they are being loaded."""
    queue = [root for root in LIGHT_ROOTS if root in modules]
    seen = set(queue)
    while queue:
        module = modules[queue.pop()]
        for target, line, lazy in module.imports:
            if lazy:
                continue
            if target.split(".")[0] in HEAVY:
                yield Problem(module.path, line, f"import {PACKAGE} must not load {target}")
            parts = target.split(".")
            # A module's packages are loaded before it.
            for name in (".".join(parts[: n + 1]) for n in range(len(parts))):
                if name in modules and name not in seen:
                    seen.add(name)
                    queue.append(name)


def check_sizes(root: Path) -> Iterator[Problem]:
    """Files and functions over the limits."""
    for path in sorted(file for name in CODE_DIRS for file in (root / name).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(root).as_posix()
        lines = text.count("\n")
        if lines > MAX_FILE_LINES and not _excused("file", name):
            yield Problem(name, 1, f"{lines} lines, at most {MAX_FILE_LINES}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > MAX_FUNCTION_LINES and not _excused("function", name):
                    yield Problem(
                        name,
                        node.lineno,
                        f"{node.name} has {size} lines, at most {MAX_FUNCTION_LINES}",
                    )


def _tracked(root: Path) -> list[Path]:
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others"]
    listing = subprocess.run([*command, "--exclude-standard"], capture_output=True, check=False)
    if listing.returncode != 0:
        return [path for path in root.rglob("*") if ".venv" not in path.parts]
    return [root / name for name in listing.stdout.decode().split("\0") if name]


def check_stray(root: Path) -> Iterator[Problem]:
    """Machine paths and registry hosts in text files that git tracks or would add."""
    for path in sorted(_tracked(root)):
        name = path.relative_to(root).as_posix()
        if not path.is_file() or _excused("stray", name):
            continue
        data = path.read_bytes()
        if b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            for stray in STRAY:
                if stray in line:
                    yield Problem(name, number, f"names {stray!r}")


def check(root: Path) -> list[Problem]:
    """All problems of the tree at `root`."""
    modules = read_modules(root)
    return [
        *check_layers(modules),
        *check_cycles(modules),
        *check_light(modules),
        *check_sizes(root),
        *check_stray(root),
    ]


def main(argv: list[str]) -> int:
    """Print the problems; 1 when there is any."""
    root = Path(argv[1] if len(argv) > 1 else Path(__file__).resolve().parent.parent)
    problems = check(root)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
