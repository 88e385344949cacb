"""Asks the argument parser of vLLM or SGLang about options. Run by a Python that has the engine.

Reads JSON from standard input: {"engine": ..., "options": [{"name", "type", "on", "off"}]}, where
`on` and `off` are the flags that set an option and that turn it off. Prints JSON: what is wrong,
one text each. Imports nothing of Trunkline: `benchmarks/engine_options.py` starts it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import sys
from typing import Any

# What an option of a type may be given; some need words of their own.
_VALUES = {"int": "2", "float": "0.5", "text": "auto", "list": "name=path"}
_OWN = {"speculation": '{"num_speculative_tokens": 2}'}


def _vllm() -> argparse.ArgumentParser:
    launched = importlib.util.find_spec("vllm.entrypoints.launchers") is not None
    where = "launchers" if launched else "openai"
    args = importlib.import_module(f"vllm.entrypoints.{where}.cli_args")
    flexible = importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser
    parser: argparse.ArgumentParser = args.make_arg_parser(flexible())
    return parser


def _sglang() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    importlib.import_module("sglang.srt.server_args").ServerArgs.add_cli_args(parser)
    # Without one there is nothing to serve.
    parser.set_defaults(model_path="m")
    for action in parser._actions:
        action.required = False
    return parser


PARSERS = {"vllm": _vllm, "sglang": _sglang}


def problems(parser: argparse.ArgumentParser, option: dict[str, Any]) -> list[str]:
    """What of `option` the parser does not take as the table has it."""
    known = {flag: _action(parser, flag) for flag in option["on"] + option["off"]}
    found = [f"{flag}: unknown" for flag, action in known.items() if action is None]
    if found:
        return found
    targets = {action.dest for action in known.values() if action is not None}
    if len(targets) > 1 and option["type"] != "switch":
        found.append(f"{option['name']}: its flags mean different things: {sorted(targets)}")
    for flag, action in known.items():
        assert action is not None
        line = [flag]
        if option["type"] == "switch":
            if action.nargs != 0 and not isinstance(action, argparse.BooleanOptionalAction):
                found.append(f"{flag}: takes a value, the table says that it is a switch")
        else:
            line.append(_value(option, action))
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                parser.parse_args(line)
        except SystemExit:
            found.append(f"{' '.join(line)}: {said.getvalue().strip().splitlines()[-1:]}")
    return found


def _action(parser: argparse.ArgumentParser, flag: str) -> argparse.Action | None:
    """What a flag sets; a beginning that only one of them has is enough."""
    known = parser._option_string_actions
    begun = {name: action for name, action in known.items() if name.startswith(flag)}
    if flag in known or len({action.dest for action in begun.values()}) != 1:
        return known.get(flag)
    return next(iter(begun.values()))


def _value(option: dict[str, Any], action: argparse.Action) -> str:
    if action.choices:
        return str(next(iter(action.choices)))
    return _OWN.get(option["name"], _VALUES[option["type"]])


def main() -> None:
    """Answer what standard input asks."""
    asked = json.load(sys.stdin)
    # Engines print while they are imported.
    with contextlib.redirect_stdout(sys.stderr):
        parser = PARSERS[asked["engine"]]()
        found = [text for option in asked["options"] for text in problems(parser, option)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
