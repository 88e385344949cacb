"""Engine options by their canonical names: arguments to launch an engine, and what a flag means."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from trunkline.residency.engine_table import OPTIONS, PROGRAMS, Option

ENGINES: tuple[str, ...] = tuple(PROGRAMS)
BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}


class UnknownOption(ValueError):
    """An option that an engine does not have, or a value that it cannot take."""


class Spelling(msgspec.Struct, frozen=True):
    """What a flag means."""

    option: Option
    # The flag says that a switch is off.
    contrary: bool = False


def canonical(flag: str) -> Spelling | None:
    """The option that a flag of any engine means: "--max-model-len", "-np", "--num-shard".

    Where two engines mean different things by one flag, the first option of the table wins. Python
    servers take "_" for "-", and so do we. None for a flag that no engine has.
    """
    return _SPELLINGS.get(flag) or _SPELLINGS.get(flag[:2] + flag[2:].replace("_", "-"))


def _spellings() -> dict[str, Spelling]:
    found: dict[str, Spelling] = {}
    for option in OPTIONS:
        for engine in option.spellings:
            for flags, contrary in ((option.flags(engine), False), (option.contrary(engine), True)):
                for flag in flags:
                    found.setdefault(flag, Spelling(option, contrary))
                    dashed = flag[:2] + flag[2:].replace("_", "-")
                    found.setdefault(dashed, Spelling(option, contrary))
    return found


_SPELLINGS: Mapping[str, Spelling] = _spellings()


def check_options(engine: str, options: Mapping[str, Any]) -> None:
    """Raises `UnknownOption` for the first of `options` that `engine` cannot have."""
    for name, value in options.items():
        option = BY_NAME.get(name)
        if option is None or engine not in option.spellings:
            raise UnknownOption(_unknown(engine, name, option))
        _check_value(option, value)


def arguments(engine: str, options: Mapping[str, Any]) -> list[str]:
    """Arguments that start `engine` with `options`, which go by their canonical names.

    Raises `UnknownOption`.
    """
    check_options(engine, options)
    if engine == "llamacpp":
        options = _llamacpp_context(options)
    found: list[str] = []
    for name, value in options.items():
        option = BY_NAME[name]
        flags, contrary = option.flags(engine), option.contrary(engine)
        if option.type == "switch":
            found += flags[:1] if value else contrary[:1]
        elif flags:
            values = value if isinstance(value, list | tuple) else [value]
            found += [flags[0], *map(str, values)]
    return found


def variables(engine: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Environment variables that start `engine` with `options`. Raises `UnknownOption`."""
    check_options(engine, options)
    found = {}
    for name, value in options.items():
        variable = BY_NAME[name].variable(engine)
        if variable:
            found[variable] = str(int(value)) if isinstance(value, bool) else str(value)
    return found


def _llamacpp_context(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """llama.cpp divides --ctx-size among its slots; ours is what one request may have."""
    if "ctx_size" in options and "max_num_seqs" in options:
        return {**options, "ctx_size": options["ctx_size"] * options["max_num_seqs"]}
    return options


def _check_value(option: Option, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    good = {
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": is_number,
        "text": isinstance(value, str) or is_number,
        "list": isinstance(value, str)
        or (isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)),
        "switch": isinstance(value, bool),
    }
    if not good[option.type]:
        words = {
            "int": "a whole number",
            "float": "a number",
            "text": "a text",
            "list": "a list of texts",
            "switch": "true or false",
        }
        raise UnknownOption(f"{option.name} expects {words[option.type]}, not {value!r}")


def _unknown(engine: str, name: str, option: Option | None) -> str:
    names = sorted(row.name for row in OPTIONS if engine in row.spellings)
    if not names:
        return f"no options are known for {engine!r}; write them in `launch.args`"
    if option is None:
        meant = canonical(f"--{name.lstrip('-')}")
        if meant is not None and engine in meant.option.spellings:
            return f"{name!r} is called {meant.option.name!r} here"
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}"
        return f"no option is called {name!r}; {hint} Anything else goes into `launch.args`."
    return f"{engine} has no {name!r}; there are: {', '.join(names)}"
