"""``trunkline config``: says what a configuration file means, or what is wrong in it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from trunkline.backends.config import LaunchConfig
from trunkline.backends.kinds import KINDS
from trunkline.cli.errors import UsageError
from trunkline.cli.options import Parser, new_parser
from trunkline.core.sizes import format_size
from trunkline.gateway.config import RouteConfig, Target
from trunkline.residency.engine_options import ENGINES
from trunkline.residency.engine_table import OPTIONS
from trunkline.server.file.config import EngineEntry, FileConfig, Loaded
from trunkline.server.file.dump import dump
from trunkline.server.file.load import load
from trunkline.server.file.problems import FileError
from trunkline.server.file.reference import markdown
from trunkline.server.file.schema import to_text

_EPILOG = """\
examples:
  trunkline config check trunkline.yaml          what it means, or what is wrong and where
  trunkline config check litellm/config.yaml     LiteLLM's file, and what of it is not supported
  trunkline config show trunkline.yaml           the long form, with secrets masked
  trunkline config schema > trunkline.schema.json
  trunkline config options vllm                  engine options, and vLLM's flags for them

A small trunkline.yaml:
  keys: [env:TEAM_KEY]
  engines: [caboose]
  backends:
    gpu-box: http://gpu-box:8000/v1
  routes:
    chat: [gpu-box/llama-3, openai/gpt-4o-mini]

Exit status of check: 0 good, 1 wrong; with --strict also 1 when something is not supported.
"""


def _new_parser() -> Parser:
    parser = new_parser(
        "config",
        "Work with configuration files: trunkline.yaml, or LiteLLM's config.yaml.",
        usage="trunkline config {check,show,schema,options,reference} ...",
        epilog=_EPILOG,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    check = commands.add_parser(
        "check", help="Say what a file means; exit status 1 if it is wrong."
    )
    check.add_argument("file", metavar="FILE")
    check.add_argument(
        "--strict", action="store_true", help="Fail when something is not supported, too."
    )
    show = commands.add_parser("show", help="Print a file in the long form, with secrets masked.")
    show.add_argument("file", metavar="FILE")
    commands.add_parser("schema", help="Print the JSON Schema of trunkline.yaml, for editors.")
    options = commands.add_parser("options", help="Print engine options, and each engine's flags.")
    options.add_argument("engine", metavar="ENGINE", nargs="?", choices=ENGINES)
    commands.add_parser("reference", help="Print the reference page (docs/config.md).")
    return parser


def run(argv: Sequence[str]) -> int:
    """Run a subcommand. Returns the exit status."""
    arguments = _new_parser().parse_args(argv)
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "check": _check,
        "show": _show,
        "schema": _schema,
        "options": _options,
        "reference": _reference,
    }
    if arguments.command is None:
        raise UsageError(f"expected a command: {', '.join(commands)}")
    try:
        return commands[arguments.command](arguments)
    except FileError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 1


def _check(arguments: argparse.Namespace) -> int:
    loaded = load(arguments.file, os.environ)
    print(summary(loaded))
    return 1 if arguments.strict and loaded.notes else 0


def _show(arguments: argparse.Namespace) -> int:
    print(dump(load(arguments.file, os.environ).config), end="")
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    print(to_text(), end="")
    return 0


def _reference(arguments: argparse.Namespace) -> int:
    print(markdown(), end="")
    return 0


def _options(arguments: argparse.Namespace) -> int:
    for option in OPTIONS:
        engines = [arguments.engine] if arguments.engine else ENGINES
        spelt = {name: text for name in engines if (text := option.spellings.get(name))}
        if not spelt:
            continue
        print(f"{option.name:<24} {option.description}")
        for engine, text in spelt.items():
            print(f"  {engine:<22} {text}")
    return 0


def summary(loaded: Loaded) -> str:
    """What a file means: where it listens, every name and who answers, what is not supported."""
    config = loaded.config
    keys = len(config.client_keys())
    what = "LiteLLM's config.yaml" if loaded.format == "litellm" else "good"
    lines = [
        f"{loaded.path}: {what}",
        f"listens on {', '.join(config.server.addresses())}; "
        + (f"clients need a key ({keys} known)" if keys else "clients need no key"),
        "",
        "routes:",
    ]
    width = max((len(route.name) for route in config.routes), default=0)
    for route in config.routes:
        lines += _route(route, config, width)
    for name in config.open_backends():
        lines.append(f"  every model that {name} lists  ->  {name}")
    lines += ["", "backends:", *_backends(config)]
    if loaded.notes:
        lines += ["", "not as in the file:", *(f"  {note}" for note in loaded.notes)]
    return "\n".join(lines)


def _route(route: RouteConfig, config: FileConfig, width: int) -> list[str]:
    lines = []
    for index, target in enumerate(route.targets):
        name = route.name if not index else ""
        arrow = "->" if not index else "  "
        lines.append(f"  {name:<{width}}  {arrow}  {_target(target)}")
    if len(route.targets) > 1:
        lines[0] += f"  ({route.strategy})"
    if route.aliases:
        lines.append(f"  {'':<{width}}      also called {', '.join(route.aliases)}")
    fallbacks = {
        "error": route.fallbacks.error,
        "too long": route.fallbacks.context_window,
        "refused": route.fallbacks.content_policy,
        "at its limits": route.fallbacks.rate_limit,
    }
    for reason, names in fallbacks.items():
        if names:
            lines.append(f"  {'':<{width}}      if {reason}: {', '.join(names)}")
    return lines


def _target(target: Target) -> str:
    text = f"{target.backend}/{target.model}" if target.model else target.backend
    if target.weight != 1:
        text += f" x{target.weight:g}"
    return text + (f" order {target.order}" if target.order else "")


def _backends(config: FileConfig) -> list[str]:
    lines = [
        f"  {engine.name}: built-in engine, {engine.model}" + _on_demand(engine)
        for engine in config.engines
    ]
    for backend in config.backends:
        kind = KINDS[backend.kind]
        where = backend.url or ("launched here" if backend.launch else kind.url)
        for name, value in backend.provider.items():
            where = where.replace(f"{{{name}}}", value)
        wants = bool(kind.key_variables) and kind.hosted and kind.auth not in ("sigv4", "gcp")
        key = "" if backend.api_key else f", no key ({' or '.join(kind.key_variables)})"
        when = _on_demand(backend.launch) if backend.launch else ""
        lines.append(f"  {backend.name}: {kind.title}, {where}{when}{key if wants else ''}")
    if config.residency.memory:
        share = format_size(config.residency.memory)
        lines.append(f"  what is built in or launched here shares {share} of memory")
    return lines or ["  none"]


def _on_demand(entry: EngineEntry | LaunchConfig) -> str:
    """When it is loaded, where that is not at the start."""
    if not entry.on_demand:
        return ""
    kept = "kept" if entry.keep_alive < 0 else f"kept for {entry.keep_alive:g} s"
    return f", on demand, {kept}"
