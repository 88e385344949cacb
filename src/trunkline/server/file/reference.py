"""The reference page of `trunkline.yaml`, made from the structs: docs/config.md."""

from __future__ import annotations

import typing
from collections.abc import Iterator

import msgspec
from msgspec import inspect

from trunkline.backends.config import BackendConfig
from trunkline.backends.kinds import KINDS
from trunkline.core.sizes import format_size
from trunkline.gateway.config import RouteConfig
from trunkline.residency.engine_options import ENGINES
from trunkline.residency.engine_table import OPTIONS
from trunkline.server.config import ServerConfig
from trunkline.server.file.config import EngineEntry, ResidencyConfig
from trunkline.server.file.reader import describe
from trunkline.server.file.short_forms import DEFAULTS, OWN_FIELDS

_SECTIONS: tuple[tuple[str, str, type[msgspec.Struct]], ...] = (
    ("server", "Where to listen, and within what limits.", ServerConfig),
    ("engines", "Models that this server runs itself.", EngineEntry),
    ("backends", "Servers and hosted APIs that can answer.", BackendConfig),
    ("residency", "What of engines and launched backends may be loaded at once.", ResidencyConfig),
    ("routes", "Names that clients may ask for, and who answers.", RouteConfig),
)

_HEAD = """\
# Configuration

`trunkline serve --config FILE` serves what the file names, and nothing else. Begin with
[examples/trunkline.yaml](../examples/trunkline.yaml):

```yaml
keys: [env:TEAM_KEY]
backends:
  gpu-box: http://gpu-box:8000/v1
routes:
  chat: [gpu-box/llama-3, openai/gpt-4o-mini]
```

```sh
trunkline config check trunkline.yaml    # what it means, or what is wrong, with line and field
trunkline config show trunkline.yaml     # all of it in the long form, secrets masked
trunkline config schema                  # JSON Schema; editors find it by the comment below
trunkline serve --config trunkline.yaml
```

`# yaml-language-server: $schema=trunkline.schema.json` as the first line lets an editor complete
and check the file; the schema is [trunkline.schema.json](trunkline.schema.json).

The file is read again on SIGHUP and when it changes. A file with an error is reported and the old
one stays in force; answers under way are not touched.

**Values.** `env:NAME` (also `os.environ/NAME`) is the value of an environment variable, which must
be set; `${NAME}` and `${NAME:-default}` may be a part of a value, and `$${` is a plain `${`. Sizes
may be written `512M` or `2G`. Where a list is wanted one value is a list of one. Flags and
`TRUNKLINE_...` variables win over `server` in the file.

**Short forms.** `engines`, `backends` and `routes` are lists of entries with a `name`, or mappings
from the name to the rest. A backend may be its kind or its URL alone (it speaks OpenAI's dialect
then, unless its name is a kind), an engine its model alone, a route its targets alone. A target is
`backend`, `backend/model`, or `provider/model` such as `openai/gpt-4o` or `ollama/llama3`: then the
provider becomes a backend of its own, with the key and URL that the environment names. An engine
that no route names is offered under its own name, and so are the models that a backend lists; a
backend that lists none offers all that it has. A route's name may hold `*`, and the `*` of the same
number in the model of its targets stands for the same text; a model with fewer `*` than the route,
but one, is asked for by the whole name. `strategy` also takes the names that LiteLLM
(`simple-shuffle`, `least-busy`, ...), smg (`cache_aware`, ...) and vLLM's router have for it.
`hidden` lists aliases of routes that answer without being listed.

**On demand.** A backend with `launch` is an engine that this server starts, watches, starts again
when it dies, and stops; its output is in `logs` below TRUNKLINE_HOME. Engines and such backends
start with the server and stay, or with `on_demand: true` at their first request, until nobody has
asked for `keep_alive` seconds. With `residency.memory` they take turns in so much memory: requests
wait, and what is in use goes only after its turn and once its answers are complete. When the file
changes an entry its old version goes on until its answers are complete, beside the new one; both
must fit. Where `launch` stays as it was the engine's process goes on, with the new settings; else
one that starts with the server answers until the new one can, or has failed to start: a launched
one if they have the same models, one of `engines` by its name. `residency` itself, and `server`
but for its keys, need a restart.

**URLs.** A backend's URL gets the dialect's version (`/v1`) unless it ends with a version; but the
path of one for `openai`, `openai-compatible` or a hosted API that is like OpenAI's stays as it is,
so that `https://host/v1beta/openai` is asked at `/v1beta/openai/chat/completions`. One that ends
with an operation's path (`/chat/completions`, `/v1/messages`) is that operation's. Those of `azure`
and `azure-ai` may name a deployment and end with `?api-version=...`.

**What a server can do.** One that bills nobody is tried with a few tokens when it is first seen and
when its version changes; `probe` decides otherwise. Where the kind tells the dialect alone, as
`openai-compatible` does, whoever has a public address may bill, and is not tried. An engine that
has no page for its health is asked for its list of models instead. Bodies of a dialect that it
speaks pass as they are, others are translated, and what it cannot do is refused by name, or with
`unsupported: drop` left out and told in a `warning` header: a `temperature` to a Claude that takes
none, say, for clients that always send one. What changes no answer, such as `user` or `metadata`,
is never refused, and told where it has no place. `features` corrects what was found. `GET /health`
shows all of it to those who have a key, below `backends`, and so does `trunkline status --json`.

**Who answered.** Answers say it in their head: `x-trunkline-backend` and `x-trunkline-model`, how
many tries came before (`x-trunkline-retries` on the same backend, `x-trunkline-fallbacks` on
others), `x-trunkline-arm` where a split has arms, `x-request-id`, and as `server-timing` the
milliseconds to the first byte. A stream that began with a comment, because nobody had answered for
long, has sent its head before any of this was known.

**In containers.** With `launch.image` such an engine runs in a container: by Docker, or by Podman
where no daemon of Docker answers. Only this machine reaches it. It finds a model of our disk at the
same path, read-only, the Hugging Face Hub's folder, and all NVIDIA GPUs; `launch.command` replaces
the image's entry point. Keys are in its environment, and so in what `docker inspect` shows. Podman
needs `catatonit`, and knows images by full names such as `docker.io/vllm/vllm-openai:latest`. When
the server is killed its guard removes the container, too; only where both are killed one may stay,
whose name begins with `trunkline-`.

**LiteLLM.** A file with `model_list`, or with `include` or settings of LiteLLM's and no section of
ours, is read as LiteLLM's `config.yaml`. What is not supported is listed at the start, with its
line, and does not stop the server.
[examples/litellm-config.yaml](../examples/litellm-config.yaml) shows what is supported. Parameters
of calls in an entry (`temperature`, `stop`, `thinking`, ...) hold for its requests that do not say
otherwise; those for which a provider's own dialect has no field are listed, too.
"""


def markdown() -> str:
    """The page."""
    parts = [_HEAD]
    for name, sentence, struct in _SECTIONS:
        parts.append(f"## {name}\n\n{sentence}\n")
        parts += _struct(name, struct)
    parts += [_keys_and_defaults(), _kinds(), engine_table()]
    return "\n".join(parts)


def _struct(path: str, struct: type[msgspec.Struct]) -> Iterator[str]:
    """The table of a struct, then those of the structs in it."""
    info = typing.cast(inspect.StructType, inspect.type_info(struct))
    rows = ["| field | value | default | meaning |", "| --- | --- | --- | --- |"]
    inner: list[tuple[str, type[msgspec.Struct]]] = []
    for field in info.fields:
        kind, unit = _unwrap(field.type)
        below = _inner(kind)
        if below is not None:
            inner.append((f"{path}.{field.encode_name}", below))
        meaning = describe(field) or (f"See {path}.{field.encode_name}." if below else "")
        cells = (f"`{field.encode_name}`", _type(kind, unit), _default(field, unit), meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    yield "\n".join(rows) + "\n"
    for name, below in inner:
        doc = (below.__doc__ or "").strip().split("\n", maxsplit=1)[0]
        yield f"### {name}\n\n{doc}\n"
        yield from _struct(name, below)


def _unwrap(kind: inspect.Type) -> tuple[inspect.Type, str]:
    unit = ""
    if isinstance(kind, inspect.Metadata):
        unit = (kind.extra or {}).get("unit", "")
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        kind = next(item for item in kind.types if not isinstance(item, inspect.NoneType))
    return (_unwrap(kind)[0], unit) if isinstance(kind, inspect.Metadata) else (kind, unit)


def _inner(kind: inspect.Type) -> type[msgspec.Struct] | None:
    if isinstance(kind, inspect.VarTupleType):
        kind = kind.item_type
    return kind.cls if isinstance(kind, inspect.StructType) else None


def _type(kind: inspect.Type, unit: str) -> str:
    match kind:
        case inspect.IntType(ge=low, le=high):
            return ("size" if unit == "bytes" else "whole number") + _range(None, low, high, unit)
        case inspect.FloatType(gt=above, ge=low, le=high):
            return "number" + _range(above, low, high, unit)
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case inspect.VarTupleType(item_type=item):
            return "list of " + ("texts" if isinstance(item, inspect.StrType) else "entries")
        case inspect.DictType():
            return "mapping"
        case inspect.StructType():
            return "mapping"
    return "text"


def _range(above: float | None, low: float | None, high: float | None, unit: str) -> str:
    def show(bound: float) -> str:
        return format_size(int(bound)) if unit == "bytes" else f"{bound:g}"

    words = [f"above {show(above)}" if above is not None else ""]
    words += [f"from {show(low)}" if low is not None else ""]
    words += [f"to {show(high)}" if high is not None else ""]
    text = " ".join(word for word in words if word)
    return f", {text}" if text else ""


def _default(field: inspect.Field, unit: str) -> str:
    value = field.default
    if field.required:
        return "required"
    if value in (msgspec.NODEFAULT, None, (), "", {}) or isinstance(value, msgspec.Struct):
        return ""
    if unit == "bytes" and isinstance(value, int):
        return f"`{format_size(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _keys_and_defaults() -> str:
    lines = [
        "## keys",
        "",
        "A list of keys; clients must send one of them, as `Authorization: Bearer KEY` or",
        "`x-api-key: KEY` (`api-key` will do). Write `env:NAME`: a key in a file is read by",
        "whoever reads the file.",
        "",
        "## defaults",
        "",
        "`defaults.backend`, `defaults.engine` and `defaults.route` take the fields of one entry,",
        "but for those that are its own, and hold for each that does not say otherwise:",
        "",
    ]
    for name, struct in DEFAULTS.items():
        own = ", ".join(f"`{field}`" for field in OWN_FIELDS[struct])
        lines.append(f"- `{name}`: all but {own}")
    return "\n".join(lines) + "\n"


def _kinds() -> str:
    rows = [
        "## Kinds of backends",
        "",
        "| kind | what it is | URL | key |",
        "| --- | --- | --- | --- |",
    ]
    for kind in KINDS.values():
        keys = ", ".join(f"`{name}`" for name in kind.key_variables)
        url = f"`{kind.url}`" if kind.url else "must be given"
        rows.append(f"| `{kind.name}` | {kind.title} | {url} | {keys} |")
    return "\n".join(rows) + "\n"


def engine_table() -> str:
    """Engine options by their canonical names, and every engine's spelling."""
    rows = [
        "## Engine options",
        "",
        "`launch.options` of a backend takes these names, for every engine alike.",
        "`trunkline serve` takes the engines' own spellings, where the built-in engine has the",
        "option.",
        "",
        f"| option | {' | '.join(ENGINES)} |",
        "| --- |" + " --- |" * len(ENGINES),
    ]
    for option in OPTIONS:
        cells = [option.spellings.get(engine, "") for engine in ENGINES]
        shown = (" ".join(f"`{name}`" for name in cell.split()) for cell in cells)
        rows.append(f"| `{option.name}` | {' | '.join(shown)} |")
    meanings = [f"- `{option.name}`: {option.description}" for option in OPTIONS]
    note = "A `!` before a flag: it is a switch that means the contrary."
    return "\n".join([*rows, "", note, "", *meanings]) + "\n"
