"""``trunkline serve``: a model over HTTP."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import uvloop
from msgspec import Meta

from trunkline import __version__
from trunkline.cli.errors import CommandFailed, UsageError
from trunkline.cli.models import FROM_MODEL, engine_config
from trunkline.cli.options import Parser, add_options, new_parser, options_of, read_options
from trunkline.cli.spellings import translate
from trunkline.cli.terminal import StatusLine
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import FrontStatus
from trunkline.server.config import ServerConfig
from trunkline.server.engines import run as run_server
from trunkline.server.file.config import FileConfig, Loaded
from trunkline.server.file.problems import FileError, Place, Problem
from trunkline.server.http.address import parse_address
from trunkline.server.http.limits import Limits
from trunkline.store.home import home
from trunkline.store.resolve import DEFAULT_MODEL

_EXAMPLE = '{"messages": [{"role": "user", "content": "What is 17 + 25?"}]}'

_EPILOG = """\
examples:
  trunkline serve                             the bundled model at http://127.0.0.1:8000
  trunkline serve ./model.gguf --ctx-size 8192
  trunkline serve --config trunkline.yaml     what the file names; `trunkline config` explains it
  trunkline serve --config config.yaml        LiteLLM's file works as it is

Sizes may be written 512M or 2G. Every option can be set in the environment as well: --ctx-size as
TRUNKLINE_CTX_SIZE, several --api-key as TRUNKLINE_API_KEY=one,two. A flag wins.

The flags of vLLM, SGLang, TGI, llama.cpp, LMDeploy, trtllm-serve and LiteLLM are understood where
the built-in engine has the option: --max-model-len, --max-total-tokens, -c, -np, and more;
`trunkline config options` lists them.
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
        usage="trunkline serve [MODEL | --config FILE] [OPTIONS]",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="A model that is in the box, or the path of a GGUF file or of a folder of safetensors "
        f"(default: {DEFAULT_MODEL}).",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="Serve what this file names and nothing else; it is read again when it changes.",
    )
    add_options(parser, ServeOptions, "server", skip=Limits.__struct_fields__)
    add_options(parser, EngineConfig, "engine", skip=FROM_MODEL)
    add_options(parser, Limits, "limits of connections")
    return parser


def run(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or Ctrl-C. Returns the exit status."""
    parser = new_serve_parser()
    arguments = parser.parse_args(translate(argv, parser))
    if arguments.config is not None:
        return _serve_file(arguments)
    server = server_config(arguments, os.environ)
    engine, _ = engine_config(arguments.model or DEFAULT_MODEL, arguments, os.environ)
    announcer = Announcer(engine.name, server)
    announcer.begin()
    with _listening(announcer, server):
        run_server(
            server,
            [engine],
            on_listening=announcer.on_listening,
            on_ready=announcer.on_ready,
            on_status=announcer.on_status,
            state=home(os.environ),
        )
    return 0


def _serve_file(arguments: argparse.Namespace) -> int:
    """Serve what a configuration file names."""
    # All that speaks to other servers: a model alone starts without it.
    from trunkline.server.compose import serve_file

    # Whoever changes the file need not wait for us to begin: it has not been read yet.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _refuse_engine_flags(arguments)

    def read_again() -> Loaded:
        try:
            return load_with_flags(arguments, os.environ)
        except UsageError as error:
            # What flags name may have changed, and what the file says where no flag does.
            place = Place(arguments.config, 1, 1, "")
            raise FileError([Problem(place, str(error))]) from error

    loaded = load_with_flags(arguments, os.environ)
    for note in loaded.notes:
        print(f"note: {note}", file=sys.stderr)
    server = loaded.config.server
    announcer = Announcer(arguments.config, server)
    announcer.begin()
    logging.basicConfig(
        level=server.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    serving = serve_file(
        loaded,
        server,
        on_listening=announcer.on_listening,
        on_ready=announcer.on_ready,
        reload=read_again,
    )
    with _listening(announcer, server):
        try:
            uvloop.run(serving)
        except ValueError as error:
            # Later ones are faults of ours.
            if announcer.urls:
                raise
            raise CommandFailed(f"{arguments.config}: {error}") from error
    return 0


def load_with_flags(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Loaded:
    """The file that `--config` names. Its server section has what flags and environment say.

    Raises `FileError`, `UsageError`.
    """
    from trunkline.server.file.load import load

    loaded = load(arguments.config, environ)
    server = server_config(arguments, environ, loaded.config)
    config = msgspec.structs.replace(loaded.config, server=server)
    return msgspec.structs.replace(loaded, config=config)


def _refuse_engine_flags(arguments: argparse.Namespace) -> None:
    """A file names its models and their options itself. Raises `UsageError`."""
    if arguments.model is not None:
        raise UsageError(f"--config serves what the file names; put {arguments.model!r} into it")
    for option in options_of(EngineConfig, FROM_MODEL):
        if getattr(arguments, option.field) is not None:
            raise UsageError(f"{option.flag}: set it for an engine in {arguments.config} instead")


@contextlib.contextmanager
def _listening(announcer: Announcer, server: ServerConfig) -> Iterator[None]:
    """Says where it cannot listen, and leaves no half line behind."""
    try:
        yield
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


def server_config(
    arguments: argparse.Namespace, environ: Mapping[str, str], file: FileConfig | None = None
) -> ServerConfig:
    """The server that the flags, the environment and `file` ask for, in this order.

    Keys of the file hold besides those of flags. Without any, LITELLM_MASTER_KEY is the key.
    Raises `UsageError`.
    """
    file = file or FileConfig()
    base = msgspec.structs.asdict(msgspec.structs.replace(file.server, api_key=()))
    config = read_options(ServeOptions, arguments, environ, base)
    keys = (*config.api_key, *(read_keys(config.api_key_file) if config.api_key_file else ()))
    keys = tuple(dict.fromkeys((*keys, *file.client_keys())))
    if not keys and environ.get("LITELLM_MASTER_KEY", "").strip():
        keys = (environ["LITELLM_MASTER_KEY"],)
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

    def __init__(self, name: str, server: ServerConfig) -> None:
        """`name`: what is being started, a model or a file."""
        self.urls: tuple[str, ...] = ()
        self._name = name
        self._server = server
        self._context = 0
        self._loaded = False
        self._begun = time.monotonic()
        self._line = StatusLine(sys.stderr)

    def begin(self) -> None:
        """The program has been started."""
        self._line.show(f"{self._name}: starting")

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
            self._line.show(f"{self._name}: {status.detail or 'loading'}")

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
