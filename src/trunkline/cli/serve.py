"""``trunkline serve``: a model over HTTP."""

from __future__ import annotations

import argparse
import ipaddress
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from trunkline import __version__
from trunkline.cli.errors import CommandFailed, UsageError
from trunkline.cli.models import FROM_MODEL, engine_config
from trunkline.cli.options import Parser, add_options, new_parser, read_options
from trunkline.cli.terminal import StatusLine
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import FrontStatus
from trunkline.server.app import run as run_server
from trunkline.server.config import ServerConfig
from trunkline.server.http.limits import Limits
from trunkline.server.http.listener import parse_address
from trunkline.store.home import home
from trunkline.store.resolve import DEFAULT_MODEL

_EXAMPLE = '{"messages": [{"role": "user", "content": "What is 17 + 25?"}]}'

_EPILOG = """\
Sizes may be written 512M or 2G. Every option can be set in the environment as well: --ctx-size as
TRUNKLINE_CTX_SIZE, several --api-key as TRUNKLINE_API_KEY=one,two. A flag wins.
"""


class ServeOptions(ServerConfig, frozen=True, kw_only=True):
    """The server's options, and those that only the command line has."""

    api_key_file: Annotated[
        str | None, Meta(description="Path of a file with one API key per line.")
    ] = None


def new_serve_parser() -> Parser:
    """The parser of ``trunkline serve``."""
    parser = new_parser(
        "serve",
        "Serve a model over HTTP, with OpenAI's API.",
        usage="trunkline serve [MODEL] [OPTIONS]",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        default=DEFAULT_MODEL,
        help="A model that is in the box, or the path of a GGUF file (default: %(default)s).",
    )
    add_options(parser, ServeOptions, "server", skip=Limits.__struct_fields__)
    add_options(parser, EngineConfig, "engine", skip=FROM_MODEL)
    add_options(parser, Limits, "limits of connections")
    return parser


def run(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or Ctrl-C. Returns the exit status."""
    arguments = new_serve_parser().parse_args(argv)
    server = server_config(arguments, os.environ)
    engine, _ = engine_config(arguments.model, arguments, os.environ)
    announcer = Announcer(engine, server)
    announcer.begin()
    try:
        run_server(
            server,
            [engine],
            on_listening=announcer.on_listening,
            on_ready=announcer.on_ready,
            on_status=announcer.on_status,
            state=home(os.environ),
        )
    except OSError as error:
        if announcer.urls:
            raise
        places = ", ".join(server.addresses())
        raise CommandFailed(
            f"cannot listen on {places}: {error.strerror or error}; "
            "choose another --port or --listen"
        ) from error
    finally:
        announcer.end()
    return 0


def server_config(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ServerConfig:
    """The server that the flags and the environment ask for. Raises `UsageError`."""
    config = read_options(ServeOptions, arguments, environ)
    keys = (*config.api_key, *(read_keys(config.api_key_file) if config.api_key_file else ()))
    if not all(key.strip() for key in keys):
        raise UsageError("--api-key: expected a key, not an empty text")
    for address in config.addresses():
        try:
            parse_address(address)
        except ValueError as error:
            raise UsageError(f"--listen: {error}") from error
    return msgspec.structs.replace(config, api_key=keys)


def read_keys(path: str) -> tuple[str, ...]:
    """The keys in a file: one per line, empty lines and lines that begin with # left out.

    Raises `UsageError` when it cannot be read or has none: a server that is meant to be closed
    must not be open.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--api-key-file: cannot read {path}: {error}") from error
    keys = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not keys:
        raise UsageError(f"--api-key-file: {path} has no keys; put one on each line")
    return keys


class Announcer:
    """Says on the terminal how far the start has come, and how to ask the first question."""

    def __init__(self, engine: EngineConfig, server: ServerConfig) -> None:
        self.urls: tuple[str, ...] = ()
        self._engine = engine
        self._server = server
        self._context = 0
        self._loaded = False
        self._begun = time.monotonic()
        self._line = StatusLine(sys.stderr)

    def begin(self) -> None:
        """The program has been started."""
        self._line.show(f"{self._engine.name}: starting")

    def on_listening(self, urls: tuple[str, ...]) -> None:
        """Connections are accepted at `urls`."""
        self.urls = urls
        if not self._server.api_key and any(map(is_exposed, self._server.addresses())):
            self._line.clear()
            print(
                "warning: other machines can use this server without a key; set --api-key-file",
                file=sys.stderr,
            )

    def on_status(self, status: FrontStatus) -> None:
        """The engine said how it is."""
        if status.card is not None:
            self._context = status.card.context_length
        if status.state == "starting" and not self._loaded:
            self._line.show(f"{self._engine.name}: {status.detail or 'loading'}")

    def on_ready(self, names: tuple[str, ...]) -> None:
        """The models can answer."""
        self._loaded = True
        self._line.clear()
        print(self.banner(", ".join(names), time.monotonic() - self._begun), flush=True)

    def end(self) -> None:
        """Leave no half line behind."""
        self._line.clear()

    def banner(self, models: str, seconds: float) -> str:
        """What is served where, and a command that asks it something."""
        lines = [f"Trunkline {__version__} serves {models}, ready after {seconds:.1f} s"]
        lines += [f"  {url if url.startswith('unix:') else url + '/v1'}" for url in self.urls]
        if self._context:
            lines.append(f"  context of {self._context} tokens")
        return "\n".join([*lines, "", "Try:", f"  {self._curl()}", ""])

    def _curl(self) -> str:
        url = self.urls[0]
        path = url.removeprefix("unix:")
        where = f"--unix-socket {shlex.quote(path)} http://localhost" if path != url else url
        key = ' -H "Authorization: Bearer $TRUNKLINE_API_KEY"' if self._server.api_key else ""
        return f"curl {where}/v1/chat/completions{key} -d '{_EXAMPLE}'"


def is_exposed(address: str) -> bool:
    """Whether an address, as `--listen` spells it, can be reached from other machines."""
    path, host, _ = parse_address(address)
    if path or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name, or nothing, which is every interface.
        return True
