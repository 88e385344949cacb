"""What is written is read as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trunkline.backends.config import BackendConfig, LaunchConfig, Timeouts
from trunkline.backends.kinds import KINDS
from trunkline.gateway.config import Breaker, Fallbacks, Hedge, Retries, RouteConfig, Target
from trunkline.server.config import ServerConfig
from trunkline.server.file.config import EngineEntry, FileConfig, ResidencyConfig
from trunkline.server.file.dump import MASK, dump
from trunkline.server.file.load import load
from trunkline.wire.client import Feature

T = TypeVar("T")

# Texts that could be taken for something else.
_TEXTS = st.sampled_from(
    ["no", "null", "1", "1.0", "a b", "a: b", "#x", "${A}", "$${A}", "é", "*", "&x", "- y", "0x1"]
) | st.text("ab${}:# '\"-", min_size=1, max_size=8)
_NAMES = st.text("abcdefgh", min_size=1, max_size=3)
_SECONDS = st.floats(0.5, 1000, allow_nan=False)
_ANY = st.none() | st.booleans() | st.integers(-9, 9) | _TEXTS


def _built(kind: type[T], /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[T]:
    """As `st.builds`, which evaluates the annotations of `kind` at every draw."""
    return st.fixed_dictionaries(fields).map(lambda found: kind(**found))


def _timeouts() -> st.SearchStrategy[Timeouts]:
    return _built(Timeouts, connect=_SECONDS, idle=_SECONDS)


def _backend(name: str) -> st.SearchStrategy[BackendConfig]:
    return _built(
        BackendConfig,
        name=st.just(name),
        kind=st.sampled_from(sorted(KINDS)),
        url=st.just("http://box:8000/v1"),
        # One that can be sent. What begins like JSON is a service account's file for Vertex AI.
        api_key=_TEXTS.filter(lambda text: text.isascii() and not text.startswith("{")),
        headers=st.dictionaries(_NAMES, _TEXTS, max_size=2),
        default_body=st.dictionaries(_NAMES, _ANY, max_size=2),
        extra_body=st.dictionaries(_NAMES, _ANY | st.lists(_ANY, max_size=2), max_size=2),
        features=st.dictionaries(st.sampled_from(get_args(Feature)), st.booleans(), max_size=2),
        probe=st.none() | st.booleans(),
        unsupported=st.sampled_from(["refuse", "drop"]),
        verify_tls=st.booleans(),
        timeouts=_timeouts(),
        # Two of them some kinds must have.
        provider=st.dictionaries(_NAMES, _TEXTS, max_size=2).map(
            lambda found: {"project": "p", "account": "a", **found}
        ),
        launch=st.none()
        | _built(
            LaunchConfig,
            command=st.tuples(_TEXTS),
            args=st.tuples(_TEXTS),
            env=st.dictionaries(_NAMES, _TEXTS, max_size=1),
            on_demand=st.booleans(),
            keep_alive=st.floats(-1, 9, allow_nan=False),
        ),
    )


def _route(name: str, backends: list[str]) -> st.SearchStrategy[RouteConfig]:
    target = _built(
        Target,
        backend=st.sampled_from(backends),
        model=st.just("") | _TEXTS,
        weight=st.floats(0, 9),
        order=st.integers(-3, 3),
        rpm=st.integers(0, 9),
    )
    return _built(
        RouteConfig,
        name=st.just(name),
        targets=st.lists(target, min_size=1, max_size=3).map(tuple),
        strategy=st.sampled_from(["weighted", "power_of_two", "lowest_cost"]),
        retries=_built(Retries, attempts=st.integers(0, 20), base=_SECONDS),
        breaker=_built(Breaker, failures=st.integers(1, 9)),
        fallbacks=_built(Fallbacks, error=st.just(() if name == "r0" else ("r0",))),
        hedge=st.none() | _built(Hedge, after=_SECONDS),
        sticky=st.booleans(),
    )


@st.composite
def configs(draw: st.DrawFn) -> FileConfig:
    """A configuration in which every backend and engine has a route."""
    backends = [draw(_backend(f"b{index}")) for index in range(draw(st.integers(1, 3)))]
    engines = [
        EngineEntry(
            name="e",
            model=draw(_TEXTS),
            ctx_size=draw(st.integers(0, 9999)),
            on_demand=draw(st.booleans()),
            keep_alive=draw(st.sampled_from([-1.0, 300.0])),
        )
    ] * draw(st.integers(0, 1))
    names = [item.name for item in backends] + [item.name for item in engines]
    routes = [draw(_route(f"r{index}", names)) for index in range(draw(st.integers(1, 3)))]
    every = RouteConfig(name="all", targets=tuple(Target(backend=name) for name in names))
    return FileConfig(
        server=ServerConfig(port=draw(st.integers(0, 65535)), max_body=draw(st.integers(0, 9999))),
        keys=tuple(draw(st.lists(_TEXTS.filter(str.strip), max_size=2))),
        engines=tuple(engines),
        backends=tuple(backends),
        residency=ResidencyConfig(memory=draw(st.integers(0, 9999))),
        routes=(*routes, every),
    )


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25
)
@given(configs())
def test_a_configuration_survives_being_written(tmp_path: Path, config: FileConfig) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(dump(config, mask=False), encoding="utf-8")
    assert load(str(path), {}).config == config


def test_no_secret_is_shown() -> None:
    secret = "s3cr3t"
    config = FileConfig(
        server=ServerConfig(api_key=(secret,)),
        keys=(secret,),
        backends=(
            BackendConfig(
                name="a",
                kind="vllm",
                url=f"http://user:{secret}@box/v1",
                api_key=secret,
                headers={"Authorization": f"Bearer {secret}", "X-Api-Key": secret, "x-team": "a"},
                provider={"secret_access_key": secret, "region": "eu"},
                launch=LaunchConfig(
                    args=("--api-key", secret, "--max-tokens", "9", f"--hf-token={secret}"),
                    env={"HF_TOKEN": secret, "PLAIN": "x"},
                    options={"api_key": secret, "ctx_size": 9},
                ),
            ),
        ),
    )
    text = dump(config)
    assert secret not in text
    for kept in ("x-team: a", "region: eu", "--max-tokens", "'9'", "PLAIN: x", "ctx_size: 9"):
        assert kept in text
    assert f"http://{MASK}@box/v1" in text
    assert text.count(MASK) == 11
    assert secret in dump(config, mask=False)


def test_defaults_are_left_out() -> None:
    assert dump(FileConfig()) == ""
