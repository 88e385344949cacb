"""Flags and environment variables out of typed configuration structs.

A field `max_step_ms: Annotated[int, Meta(ge=1, description="...")]` becomes ``--max-step-ms N``
and ``TRUNKLINE_MAX_STEP_MS``. Type, bounds, default and help text come from the field alone:

- a bool becomes ``--name`` and ``--no-name``; a tuple of strings a flag that may be repeated
  (separated by commas in the environment);
- ``Meta(extra={"unit": "bytes"})`` allows 512K, 512M and 2G (powers of 1024);
- ``Meta(extra={"flag": "--api-key"})`` gives the flag another name than the field's.

A flag wins over the environment, the environment over the default.
"""

from __future__ import annotations

import argparse
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import inspect

from trunkline.cli.errors import UsageError
from trunkline.core.sizes import format_size, parse_size

ENV_PREFIX = "TRUNKLINE_"
_BOOLS = {"1": True, "true": True, "yes": True, "on": True}
_BOOLS |= {"0": False, "false": False, "no": False, "off": False}

S = TypeVar("S", bound=msgspec.Struct)


class Parser(argparse.ArgumentParser):
    """Raises `UsageError` instead of printing a page of usage and leaving."""

    def error(self, message: str) -> NoReturn:
        """Say it in one line."""
        raise UsageError(message.removeprefix("argument "))


def new_parser(command: str, description: str, **more: Any) -> Parser:
    """The parser of ``trunkline COMMAND``, with the options that all commands have."""
    parser = Parser(
        prog=f"trunkline {command}",
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **more,
    )
    parser.add_argument(
        "--debug", action="store_true", help="Show where an error comes from (TRUNKLINE_DEBUG=1)."
    )
    return parser


class Option(msgspec.Struct, frozen=True):
    """One field of a struct, as a person sets it."""

    field: str
    # With its bounds, for msgspec to check.
    annotation: Any
    # The same, taken apart.
    type: inspect.Type
    default: Any
    description: str
    # "bytes", or "" for a plain value.
    unit: str
    flag: str

    @property
    def env(self) -> str:
        """Its environment variable."""
        return ENV_PREFIX + self.flag.removeprefix("--").replace("-", "_").upper()

    @property
    def repeated(self) -> bool:
        """Whether it may be given more than once."""
        return isinstance(self.type, inspect.VarTupleType)

    def parse(self, text: str) -> Any:
        """The value that `text` means. Raises ValueError that says what would be right."""
        value: Any = text
        try:
            match self.type:
                case inspect.IntType() if self.unit == "bytes":
                    value = parse_size(text)
                case inspect.IntType():
                    value = int(text)
                case inspect.FloatType():
                    value = float(text)
                case inspect.BoolType():
                    value = _BOOLS[text.strip().lower()]
            return msgspec.convert((value,) if self.repeated else value, self.annotation)
        except (ValueError, KeyError) as error:
            raise ValueError(f"expected {self.expected()}, not {text!r}") from error

    def expected(self) -> str:
        """What is right, in words."""
        match self.type:
            case inspect.IntType(ge=low, le=high):
                kind = "a size such as 512M or 2G" if self.unit == "bytes" else "a whole number"
                return kind + _bounds(low, high)
            case inspect.FloatType(gt=above, ge=low, le=high):
                return "a number" + (f" above {above}" if above is not None else _bounds(low, high))
            case inspect.LiteralType(values=values):
                return "one of " + ", ".join(map(str, values))
            case inspect.BoolType():
                return "true or false"
        return "text"

    def metavar(self) -> str:
        """How ``--help`` writes its value."""
        match self.type:
            case inspect.IntType() if self.unit == "bytes":
                return "SIZE"
            case inspect.IntType():
                return "N"
            case inspect.FloatType():
                return "X"
            case inspect.LiteralType(values=values):
                return "{" + ",".join(map(str, values)) + "}"
        return "PATH" if self.description.startswith("Path ") else "TEXT"

    def help(self) -> str:
        """The line of ``--help``."""
        text = self.description
        if self.repeated:
            text += " May be repeated."
        default = self.default
        if default in (None, (), ""):
            return text
        if isinstance(default, bool):
            default = "on" if default else "off"
        if isinstance(default, float):
            default = f"{default:g}"
        return f"{text} (default: {format_size(default) if self.unit == 'bytes' else default})"


def _bounds(low: float | None, high: float | None) -> str:
    if high is not None:
        return f" from {low or 0} to {high}"
    return "" if low is None else f" of at least {low}"


def options_of(struct: type[msgspec.Struct], skip: Sequence[str] = ()) -> Iterator[Option]:
    """The options of a struct, in its order, without the fields in `skip`."""
    hints = typing.get_type_hints(struct, include_extras=True)
    for field in typing.cast(inspect.StructType, inspect.type_info(struct)).fields:
        if field.name in skip:
            continue
        kind, extra, schema = field.type, {}, {}
        if isinstance(kind, inspect.Metadata):
            extra, schema = kind.extra or {}, kind.extra_json_schema or {}
            kind = kind.type
        if isinstance(kind, inspect.UnionType):
            kind = next(item for item in kind.types if not isinstance(item, inspect.NoneType))
        yield Option(
            field=field.name,
            annotation=hints[field.name],
            type=kind,
            default=field.default if field.default is not msgspec.NODEFAULT else None,
            description=schema.get("description", ""),
            unit=extra.get("unit", ""),
            flag=extra.get("flag", "--" + field.name.replace("_", "-")),
        )


def add_options(
    parser: argparse.ArgumentParser,
    struct: type[msgspec.Struct],
    title: str,
    skip: Sequence[str] = (),
) -> None:
    """Add a flag for every field of `struct` but those in `skip`."""
    group = parser.add_argument_group(title)
    for option in options_of(struct, skip):
        text = option.help().replace("%", "%%")
        if isinstance(option.type, inspect.BoolType):
            group.add_argument(
                option.flag,
                dest=option.field,
                action=argparse.BooleanOptionalAction,
                default=None,
                help=text,
            )
            continue
        group.add_argument(
            option.flag,
            dest=option.field,
            action="append" if option.repeated else "store",
            metavar=option.metavar(),
            help=text,
        )


def read_options(
    struct: type[S],
    arguments: argparse.Namespace,
    environ: Mapping[str, str],
    base: Mapping[str, Any] | None = None,
    **fixed: Any,
) -> S:
    """Fill `struct` from flags, then the environment; `fixed` are the fields with no flag.

    `base`: values of fields that neither sets, instead of their defaults.

    Raises `UsageError`, naming the flag or variable at fault and what would be right.
    """
    values = {**(base or {}), **fixed}
    for option in options_of(struct, tuple(fixed)):
        given = getattr(arguments, option.field)
        name = option.flag
        if given is None and _is_set(option, environ):
            given, name = environ[option.env], option.env
            if option.repeated:
                given = [part.strip() for part in given.split(",") if part.strip()]
        if given is None:
            continue
        try:
            if option.repeated:
                values[option.field] = tuple(item for text in given for item in option.parse(text))
            else:
                values[option.field] = given if isinstance(given, bool) else option.parse(given)
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from error
    return struct(**values)


def _is_set(option: Option, environ: Mapping[str, str]) -> bool:
    """Whether the environment sets `option`.

    In a cluster with a service called `trunkline`, Kubernetes sets TRUNKLINE_PORT to
    "tcp://10.0.0.1:8000" in every container; that is not meant for us.
    """
    value = environ.get(option.env, "")
    return value != "" and not re.match(r"(tcp|udp|sctp)://", value)
