"""How each kind of engine is started, as data.

Programs and the spelling of host, port and options are those of `engine_table`; this adds what it
does not have. Sources: ``mlc_llm serve --help``; Triton's ``command_line_parser.cc``; Ollama's
``envconfig``; the ``api_key`` variables of vLLM (``vllm/envs.py``), llama.cpp (``common/arg.cpp``)
and TGI (``launcher/src/main.rs``); the ``ENTRYPOINT`` in the Dockerfiles of llama.cpp and of TGI,
whose script sets up the environment that the launcher needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from trunkline.backends.config import LaunchConfig
from trunkline.residency.engine_options import (
    BY_NAME,
    UnknownOption,
    arguments,
    check_options,
    variables,
)
from trunkline.residency.engine_table import PROGRAMS

# What `engine_table` writes for the model to load.
_MODEL = "MODEL"


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. {model}, {host}, {port} and {metrics_port} are filled in when it starts."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = {}

    def asks(self, placeholder: str) -> bool:
        """Whether `placeholder` is to be filled in."""
        return any(placeholder in text for text in (*self.argv, *self.env.values()))


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind's default command has besides program and options."""

    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    # Environment variable in which the engine looks for the key that its clients must send.
    key_variable: str = ""
    # The program inside of the official image, where it is called otherwise.
    in_image: str = ""


ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "vllm": Row(key_variable="VLLM_API_KEY"),
        "tgi": Row(key_variable="API_KEY", in_image="/tgi-entrypoint.sh"),
        # Its metrics are off unless asked for.
        "llamacpp": Row(
            argv=("--metrics",), key_variable="LLAMA_API_KEY", in_image="/app/llama-server"
        ),
        "sglang": Row(argv=("--enable-metrics",)),
        "ollama": Row(env={"OLLAMA_HOST": "{host}:{port}"}),
        # It calls a file by its name alone: it also answers to what it was asked to load.
        "trunkline": Row(argv=("--served-model-name", "{model}"), key_variable="TRUNKLINE_API_KEY"),
        "mlc": Row(argv=("mlc_llm", "serve", "{model}", "--host", "{host}", "--port", "{port}")),
        "triton": Row(
            argv=(
                "tritonserver",
                "--model-repository={model}",
                "--http-address={host}",
                "--http-port={port}",
                "--metrics-address={host}",
                "--metrics-port={metrics_port}",
                "--allow-grpc=false",
            )
        ),
    }
)


def command(kind: str, launch: LaunchConfig) -> Command:
    """What starts an engine of `kind`. Raises ValueError that says what is missing or wrong."""
    row = ROWS.get(kind, Row())
    options, env = _options(kind, launch)
    if launch.command:
        argv = launch.command
    elif kind in PROGRAMS:
        program = tuple("{model}" if word == _MODEL else word for word in PROGRAMS[kind])
        argv = (*program, *_listening(kind), *row.argv)
    elif row.argv:
        argv = row.argv
    else:
        raise ValueError(f"nothing is known that starts {kind!r}: give launch.command")
    if any("{model}" in word for word in argv) and not launch.model:
        raise ValueError(f"launch.model must say what {kind} is to load")
    return Command(argv=(*argv, *options, *launch.args), env={**row.env, **env, **launch.env})


def _options(kind: str, launch: LaunchConfig) -> tuple[list[str], dict[str, str]]:
    if not launch.options:
        return [], {}
    try:
        check_options(kind, launch.options)
        return arguments(kind, launch.options), variables(kind, launch.options)
    except UnknownOption as error:
        raise ValueError(f"launch.options: {error}") from None


def _listening(kind: str) -> tuple[str, ...]:
    """Arguments that say where to listen, where the engine takes them."""
    found: list[str] = []
    for name in ("host", "port"):
        flags = BY_NAME[name].flags(kind)
        found += [flags[0], f"{{{name}}}"] if flags else []
    return tuple(found)


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with the placeholders replaced; other braces stay as they are."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text
