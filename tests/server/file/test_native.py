"""`trunkline.yaml`: short forms, defaults, and every error with line and field."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.server.file.support import config_of, errors_of, read
from trunkline.backends.config import BackendConfig, LaunchConfig, Timeouts
from trunkline.gateway.config import Fallbacks, Target
from trunkline.gateway.strategies import ALIASES
from trunkline.server.file.config import EngineEntry
from trunkline.server.file.load import load
from trunkline.server.file.problems import FileError


def test_short_and_long_forms_mean_the_same(tmp_path: Path) -> None:
    short = """\
        keys: env:KEY
        engines: [caboose]
        backends:
          openai:
          box: {kind: vllm, url: "http://box:8000"}
        routes:
          gpt-4o: openai/gpt-4o
          chat: [box/llama, openai/gpt-4o]
        """
    long = """\
        keys: [s3cret]
        engines: [{name: caboose, model: caboose}]
        backends:
          - {name: openai, kind: openai, api_key: "${OPENAI_API_KEY}"}
          - {name: box, kind: vllm, url: "http://box:8000"}
        routes:
          - {name: gpt-4o, targets: [{backend: openai, model: gpt-4o}]}
          - {name: chat, targets: [{backend: box, model: llama}, {backend: openai, model: gpt-4o}]}
          - {name: caboose, targets: [{backend: caboose}]}
        """
    environ = {"KEY": "s3cret", "OPENAI_API_KEY": "sk"}
    assert config_of(tmp_path, short, environ) == config_of(tmp_path, long, environ)


def test_an_engine_is_named_after_its_file(tmp_path: Path) -> None:
    config = config_of(tmp_path, "engines: [/models/Qwen3-0.6B.gguf]")
    assert config.engines == (EngineEntry(name="Qwen3-0.6B", model="/models/Qwen3-0.6B.gguf"),)
    (route,) = config.routes
    assert (route.name, route.targets) == ("Qwen3-0.6B", (Target(backend="Qwen3-0.6B"),))


def test_a_url_is_a_backend_when_its_name_is_a_kind(tmp_path: Path) -> None:
    config = config_of(tmp_path, "backends: {hosted_vllm: 'http://box:8000/v1', ollama: }")
    assert config.backends == (
        BackendConfig(name="hosted_vllm", kind="vllm", url="http://box:8000/v1"),
        BackendConfig(name="ollama", kind="ollama"),
    )
    assert config.open_backends() == ("hosted_vllm", "ollama")


def test_a_url_of_which_nothing_else_is_said_speaks_openais_dialect(tmp_path: Path) -> None:
    config = config_of(tmp_path, "backends: {gpu-box: 'http://gpu-box:8000/v1'}")
    assert config.backends == (
        BackendConfig(name="gpu-box", kind="openai-compatible", url="http://gpu-box:8000/v1"),
    )


def test_listed_models_are_offered_by_name_by_all_who_list_them(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        """\
        backends:
          a: {kind: vllm, url: "http://a", models: [m, n]}
          b: {kind: vllm, url: "http://b", models: m}
          c: {kind: vllm, url: "http://c", models: [m]}
        routes: {mine: c/m}
        """,
    )
    offered = {route.name: [t.backend for t in route.targets] for route in config.routes}
    assert offered == {"mine": ["c"], "m": ["a", "b"], "n": ["a"]}
    assert config.open_backends() == ()


def test_a_provider_that_is_only_mentioned_becomes_a_backend(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        "routes: {fast: groq/llama}",
        {"GROQ_API_KEY": "gk", "GROQ_API_BASE": "http://proxy/openai"},
    )
    assert config.backends == (
        BackendConfig(name="groq", kind="groq", api_key="gk", url="http://proxy/openai"),
    )
    assert config.routes[0].targets == (Target(backend="groq", model="llama"),)


def test_fallbacks_may_name_providers(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        """\
        defaults: {route: {fallbacks: {error: anthropic/claude-x}, strategy: least-busy}}
        backends: [openai]
        routes: {a: openai/x, b: {targets: openai/y, fallbacks: {error: [a]}}}
        """,
    )
    routes = {route.name: route for route in config.routes}
    assert routes["a"].fallbacks == Fallbacks(error=("anthropic/claude-x",))
    assert routes["b"].fallbacks == Fallbacks(error=("a",))
    # It does not fall back to itself.
    assert routes["anthropic/claude-x"].fallbacks == Fallbacks()
    assert {route.strategy for route in config.routes} == {"least_busy"}


def test_defaults_fill_what_is_not_said(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        """\
        defaults:
          backend: {timeouts: {connect: 1, idle: 9}, headers: {x-a: "1"}}
          engine: {ctx_size: 512, kv_memory: 1G}
        engines: [caboose, {name: big, model: big.gguf, ctx_size: 9}]
        backends: {openai: , box: {kind: tgi, url: "http://b", timeouts: {idle: 3}}}
        """,
    )
    assert config.backends[0].timeouts == Timeouts(connect=1, idle=9)
    assert config.backends[1].timeouts == Timeouts(connect=1, idle=3)
    assert [engine.ctx_size for engine in config.engines] == [512, 9]
    assert {engine.kv_memory for engine in config.engines} == {1 << 30}


@pytest.mark.parametrize("name", ALIASES)
def test_other_routers_names_of_strategies(tmp_path: Path, name: str) -> None:
    (route,) = config_of(tmp_path, f"routes: {{a: {{targets: openai/x, strategy: {name}}}}}").routes
    assert route.strategy == ALIASES[name]


def test_a_server_may_listen_on_a_socket(tmp_path: Path) -> None:
    config = config_of(tmp_path, "backends: {v: {kind: vllm, url: 'unix:/run/vllm.sock'}}")
    assert config.backends[0].url == "unix:/run/vllm.sock"


def test_an_engine_to_launch_needs_no_url(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        "backends: {c: {kind: llamacpp, launch: {model: m.gguf, options: {ctx_size: 512}}}}",
    )
    assert config.backends[0].launch == LaunchConfig(model="m.gguf", options={"ctx_size": 512})


def test_values_of_variables_become_what_the_field_is(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        """\
        server: {port: env:PORT, max_body: "${SIZE:-2M}", drain_timeout: "${WAIT}"}
        backends: {openai: {verify_tls: env:TLS, api_key: env:KEY}}
        """,
        {"PORT": "81", "WAIT": "1.5", "TLS": "no", "KEY": "null"},
    )
    assert (config.server.port, config.server.max_body) == (81, 2 << 20)
    assert config.server.drain_timeout == 1.5
    assert config.backends[0].verify_tls is False
    assert config.backends[0].api_key == "null"


def test_the_words_of_the_file_are_words(tmp_path: Path) -> None:
    """YAML 1.1 would take them for a truth, a number and a time."""
    config = config_of(
        tmp_path, "backends: {x: {kind: vllm, url: 'http://x', models: [no, 1.10, 22:22]}}"
    )
    assert config.backends[0].models == ("no", "1.10", "22:22")


ERRORS = [
    ("srever: {}", "1: srever: no section is called 'srever'; did you mean 'server'?"),
    (
        "[a]",
        "1: : expected a mapping with server, keys, engines, backends, residency, routes, hidden,",
    ),
    ("{}", "1: : nothing to serve: name at least one of engines, backends or routes"),
    ("server: {hots: x}", "1: server.hots: no field is called 'hots'; did you mean 'host'?"),
    ("server: [1]", "1: server: expected a mapping with fields, not a list"),
    ("server: on", "1: server: expected a mapping with fields, not 'on'"),
    ("server:\n  port: 99999", "2: server.port: expected a whole number from 0 to 65535, not"),
    ("server: {port: http}", "1: server.port: expected a whole number from 0 to 65535, not 'http'"),
    ("server: {port: }", "1: server.port: expected a whole number from 0 to 65535, not nothing"),
    ("server: {port: [1]}", "1: server.port: expected a single value, not a list"),
    ("server: {max_body: 2X}", "1: server.max_body: expected a size such as 512M or 2G of at"),
    ("server: {write_timeout: .nan}", "1: server.write_timeout: expected a number above 0, not"),
    ("server: {log_level: loud}", "1: server.log_level: expected one of debug, error, info, warn"),
    ("server: {host: {a: 1}}", "1: server.host: expected a single value, not a mapping"),
    ("server: {port: env:GONE}", "1: server.port: the environment variable GONE is not set"),
    ("server: {port: env:KEY}", "1: server.port: expected a whole number from 0 to 65535, not the"),
    ("keys: []", "1: keys: expected a list of keys, none of them empty; or leave it out"),
    ("keys: ['']", "1: keys: expected a list of keys, none of them empty; or leave it out"),
    ("keys: [env:GONE]", "1: keys[0]: the environment variable GONE is not set"),
    ("keys: {a: 1}", "1: keys: expected a list, not a mapping"),
    ("engines: 3", "1: engines: expected a list, or a mapping by name"),
    ("engines: [[a]]", "1: engines[0]: expected an engine: a mapping or a model"),
    ("engines: [{ctx_size: 1}]", "1: engines[0]: the field 'name' is missing: Name under which"),
    ("engines: [{name: a, model: m, ctx_siez: 1}]", "did you mean 'ctx_size'?"),
    ("engines: [a, a]", "1: engines[1]: 'a' is there already, at line 1"),
    ("engines: {a: {name: b}}", "1: engines.a.name: the name is there already: 'a'; leave it out"),
    ("backends: [vlm]", "1: backends[0]: no kind is called 'vlm'; did you mean 'vllm'?"),
    ("backends: {a: {url: 'http://x'}}", "1: backends.a: the field 'kind' is missing; there are:"),
    ("backends: {a: [b]}", "1: backends.a: expected a backend: a mapping, a kind or a URL"),
    (
        "backends: {vllm: {url: 'http://x', features: {tolls: false}}}",
        "1: backends.vllm.features.tolls: no feature is called 'tolls'; did you mean 'tools'?",
    ),
    (
        "backends:\n  v: {kind: vllm, url: 'http://x', headers: {'x y': z}}",
        "2: backends.v.headers: the header field 'x y' cannot be sent",
    ),
    (
        "backends: {v: {kind: vllm, url: 'http://x:99999999'}}",
        "1: backends.v.url: Port out of range 0-65535",
    ),
    (
        "backends:\n  c: {kind: cloudflare, api_key: k}",
        "2: backends.c: provider.account: it must be given, or CLOUDFLARE_ACCOUNT_ID be set",
    ),
    (
        "backends:\n  v:\n    kind: vllm\n    launch: {start_timeout: 9}",
        "4: backends.v.launch: launch.model must say what vllm is to load",
    ),
    (
        "backends: {m: {kind: lmstudio, launch: {model: x}}}",
        "1: backends.m.launch: nothing is known that starts 'lmstudio': give launch.command",
    ),
    ("backends: {a: vllm}", "1: backends.a: vLLM has no URL of its own; give `url`, or `launch`"),
    ("backends: {vllm: {url: box}}", "backends.vllm.url: expected a URL such as http://box:8000"),
    (
        "backends: {openai: {dialect: gemini.x}}",
        "1: backends.openai.dialect: OpenAI speaks no 'gemini.x'; there are: openai, openai.chat",
    ),
    ("backends: {openai: {probe: maybe}}", "backends.openai.probe: expected true or false, not"),
    ("backends: {openai: {headers: [a]}}", "headers: expected a mapping with fields, not a list"),
    ("backends: {openai: {timeouts: {idle: -1}}}", "expected a number of at least 0, not '-1'"),
    (
        "backends: {a: {kind: vllm, launch: {options: {max_model_len: 1}}}}",
        "backends.a.launch.options.max_model_len: 'max_model_len' is called 'ctx_size' here",
    ),
    (
        "backends: {a: {kind: vllm, launch: {options: {ctx_size: big}}}}",
        "backends.a.launch.options.ctx_size: ctx_size expects a whole number, not 'big'",
    ),
    ("routes: {a: }", "1: routes.a: expected at least one target: backend/model"),
    ("routes: [{name: a}]", "1: routes[0]: the field 'targets' is missing: which backends answer"),
    ("routes: [openai/x]", "1: routes[0]: the field 'name' is missing: The model name that"),
    ("routes: {a: opanai/x}", "1: routes.a: no backend is called 'opanai' (there are none) and"),
    ("routes: {a: {targets: openai/x, strategy: best}}", "routes.a.strategy: expected one of"),
    (
        "routes: {a: {targets: [{backend: bax, model: m}]}}\nengines: [box]",
        "1: routes.a.targets[0].backend: no backend is called 'bax'; did you mean 'box'?",
    ),
    (
        "backends: {b: {kind: tgi, url: 'http://b', models: [llama]}}\nroutes: {a: b/lama}",
        "'b' lists no model 'lama'; did you mean 'llama'?",
    ),
    (
        "routes:\n  a: openai/x\n  b: {targets: openai/y, aliases: [c, a]}",
        "3: routes.b.aliases[1]: the name 'a' is taken already, at line 2",
    ),
    (
        "routes: {a: {targets: openai/x, fallbacks: {error: [b]}}}",
        "1: routes.a.fallbacks.error[0]: no route is called 'b'; there are: a",
    ),
    (
        "routes: {a: {targets: openai/x, fallbacks: {error: a}}}",
        "1: routes.a.fallbacks.error: 'a' is this route itself; name another",
    ),
    (
        "routes: {a: {targets: openai/x, shadow: {route: z}}}",
        "1: routes.a.shadow.route: no route is called 'z'; there are: a",
    ),
    ("routes: {a: {targets: openai/x, hedge: {}}}", "routes.a.hedge: the field 'after' is missing"),
    ("defaults: {rout: {}}", "1: defaults.rout: no defaults are called 'rout'; did you mean"),
    ("defaults: 3", "1: defaults: expected backend, engine and route"),
    ("defaults: {route: {name: a}}", "1: defaults.route.name: no field is called 'name'"),
    ("defaults: {backend: {timeouts: {idle: x}}}", "defaults.backend.timeouts.idle: expected a"),
]


def test_a_fallback_may_be_what_a_name_with_stars_answers_to(tmp_path: Path) -> None:
    text = """\
        backends: {box: "http://box"}
        routes:
          a: {targets: box/x, fallbacks: {error: [azure/gpt, other-b]}}
          azure/*: box/*
          other-*: box/*
        """
    config = config_of(tmp_path, text)
    assert [route.name for route in config.routes] == ["a", "azure/*", "other-*"]
    assert [one.name for one in config.backends] == ["box"]


def test_an_alias_may_be_hidden(tmp_path: Path) -> None:
    text = "routes: [{name: a, targets: openai/x, aliases: [b, c]}]\nhidden: c\n"
    assert config_of(tmp_path, text).hidden == ("c",)
    (error,) = errors_of(tmp_path, text.replace("hidden: c", "hidden: d"))
    assert error.startswith("2: hidden: no route has an alias 'd'; there are: b, c")


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_an_error_names_line_field_and_what_is_right(
    tmp_path: Path, text: str, message: str
) -> None:
    found = errors_of(tmp_path, text, {"KEY": "sk-secret"})
    assert any(message in line for line in found), found
    assert "sk-secret" not in "".join(found)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = """\
        server: {prt: 1, port: x}
        backends: {openai: {verify_tls: maybe}}
        routes: {a: {targets: openai/x, strategy: best}}
        """
    assert [line.split(": ")[1] for line in errors_of(tmp_path, text)] == [
        "server.prt",
        "server.port",
        "backends.openai.verify_tls",
        "routes.a.strategy",
    ]


def test_what_an_open_backend_offers_cannot_be_known(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        """\
        backends: [openai, ollama]
        routes: {a: {targets: openai/x, fallbacks: {error: [llama3]}}}
        """,
    )
    assert config.open_backends() == ("ollama",)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    loaded = read(tmp_path, "engines: [caboose]")
    assert loaded.files == (loaded.path,)
    assert loaded.format == "trunkline"
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(FileError, match="cannot be read: No such file"):
        load(loaded.path, {})


def test_structs_of_a_configuration_are_frozen(tmp_path: Path) -> None:
    config = config_of(tmp_path, "engines: [caboose]")
    with pytest.raises(AttributeError):
        config.keys = ("a",)  # type: ignore[misc]
    assert msgspec.structs.replace(config, keys=("a",)).client_keys() == ("a",)
