"""Flags and environment variables out of a struct."""

from __future__ import annotations

import argparse
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from trunkline.cli.errors import UsageError
from trunkline.cli.options import add_options, new_parser, options_of, read_options
from trunkline.core.sizes import format_size
from trunkline.engine.config import EngineConfig
from trunkline.server.config import ServerConfig


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One field of each kind."""

    name: str
    count: Annotated[int, Meta(ge=1, le=9, description="How many.")] = 3
    memory: Annotated[int, Meta(ge=1024, extra={"unit": "bytes"}, description="Room.")] = 2 << 20
    wait: Annotated[float, Meta(gt=0, description="Seconds.")] = 1.5
    mode: Annotated[Literal["slow", "fast"], Meta(description="How; 100% sure.")] = "slow"
    cache: Annotated[bool, Meta(description="Keep.")] = True
    template: Annotated[str | None, Meta(description="Path of a template.")] = None
    seed: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="Seed.")] = None
    key: Annotated[tuple[str, ...], Meta(description="A key.", extra={"flag": "--secret-key"})] = ()


def read(argv: list[str], environ: dict[str, str] | None = None) -> Sample:
    parser = new_parser("sample", "A sample.")
    add_options(parser, Sample, "sample", skip=("name",))
    return read_options(Sample, parser.parse_args(argv), environ or {}, name="x")


def test_defaults() -> None:
    assert read([]) == Sample(name="x")


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        (["--count", "9"], {"TRUNKLINE_COUNT": "9"}, {"count": 9}),
        (["--memory=512K"], {"TRUNKLINE_MEMORY": "512k"}, {"memory": 512 << 10}),
        (["--wait", "2"], {"TRUNKLINE_WAIT": "2.0"}, {"wait": 2.0}),
        (["--mode", "fast"], {"TRUNKLINE_MODE": "fast"}, {"mode": "fast"}),
        (["--no-cache"], {"TRUNKLINE_CACHE": "false"}, {"cache": False}),
        (["--cache"], {"TRUNKLINE_CACHE": "1"}, {"cache": True}),
        (["--template", "a b"], {"TRUNKLINE_TEMPLATE": "a b"}, {"template": "a b"}),
        (["--seed", "0"], {"TRUNKLINE_SEED": "0"}, {"seed": 0}),
        (
            ["--secret-key", "a", "--secret-key", "b"],
            {"TRUNKLINE_SECRET_KEY": "a, b,"},
            {"key": ("a", "b")},
        ),
    ],
)
def test_a_flag_and_its_variable_mean_the_same(
    argv: list[str], environ: dict[str, str], expected: dict[str, Any]
) -> None:
    assert read(argv) == read([], environ) == Sample(name="x", **expected)


def test_a_flag_wins_over_the_environment() -> None:
    assert read(["--count", "4"], {"TRUNKLINE_COUNT": "5"}).count == 4
    assert read(["--count", "4"], {"TRUNKLINE_COUNT": "nonsense"}).count == 4
    assert read(["--secret-key", "a"], {"TRUNKLINE_SECRET_KEY": "b"}).key == ("a",)


def test_what_kubernetes_sets_for_a_service_of_our_name_is_not_ours() -> None:
    assert read([], {"TRUNKLINE_COUNT": "tcp://10.0.0.1:8000"}).count == 3


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        (["--count", "0"], {}, "--count: expected a whole number from 1 to 9, not '0'"),
        (["--count", "1e3"], {}, "--count: expected a whole number from 1 to 9, not '1e3'"),
        ([], {"TRUNKLINE_COUNT": "ten"}, "TRUNKLINE_COUNT: expected a whole number from 1 to 9"),
        (["--memory", "2 GX"], {}, "--memory: expected a size such as 512M or 2G of at least 1024"),
        (["--memory", "-1"], {}, "--memory: expected a size such as 512M or 2G of at least 1024"),
        (["--wait", "0"], {}, "--wait: expected a number above 0, not '0'"),
        (["--wait", "nan"], {}, "--wait: expected a number above 0, not 'nan'"),
        (["--mode", "medium"], {}, "--mode: expected one of fast, slow, not 'medium'"),
        ([], {"TRUNKLINE_CACHE": "maybe"}, "TRUNKLINE_CACHE: expected true or false, not 'maybe'"),
        (["--count"], {}, "--count: expected one argument"),
        (["--counts", "1"], {}, "unrecognized arguments: --counts 1"),
    ],
)
def test_a_bad_value_is_refused_by_name(
    argv: list[str], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read(argv, environ)
    assert str(caught.value).startswith(message)


def test_help_says_it_all() -> None:
    parser = new_parser("sample", "A sample.")
    add_options(parser, Sample, "sample", skip=("name",))
    text = " ".join(parser.format_help().split())
    assert "--count N How many. (default: 3)" in text
    assert "--memory SIZE Room. (default: 2M)" in text
    assert "--mode {fast,slow} How; 100% sure. (default: slow)" in text
    assert "--cache, --no-cache Keep. (default: on)" in text
    assert "--template PATH Path of a template." in text
    assert "--secret-key TEXT A key. May be repeated." in text


@pytest.mark.parametrize("struct", [EngineConfig, ServerConfig])
def test_every_real_option_has_a_sentence_and_a_default_that_it_accepts(
    struct: type[msgspec.Struct],
) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, struct, "x", skip=("name", "model"))
    parser.format_help()
    for option in options_of(struct, skip=("name", "model")):
        assert option.description.endswith("."), option.field
        if option.default not in (None, ()) and not isinstance(option.default, bool):
            text = format_size(option.default) if option.unit else str(option.default)
            assert option.parse(text) == option.default, option.field
