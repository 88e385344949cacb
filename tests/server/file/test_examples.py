"""The examples load, and the committed schema and reference page are fresh."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
import yaml

from tests.server.file.support import config_of
from tests.server.file.test_native import ERRORS
from trunkline.cli.config import _EPILOG as EPILOG
from trunkline.server.file.load import load
from trunkline.server.file.reference import markdown
from trunkline.server.file.schema import json_schema, to_text

ROOT = Path(__file__).resolve().parents[3]
VARIABLES = {
    "LITELLM_MASTER_KEY": "sk-1",
    "AZURE_API_KEY_EU": "a",
    "OPENAI_API_KEY": "o",
    "ANTHROPIC_API_KEY": "t",
    "AWS_ACCESS_KEY_ID": "i",
    "AWS_SECRET_ACCESS_KEY": "s",
}


def test_the_example_loads_without_any_variable() -> None:
    loaded = load(str(ROOT / "examples/trunkline.yaml"), {})
    assert loaded.notes == ()
    names = [route.name for route in loaded.config.routes]
    assert names == ["gpt-4o", "fast", "chat", "code", "anthropic/*", "caboose"]
    assert loaded.config.server.port == 8000
    assert loaded.config.client_keys() == ("change-me",)


def test_litellms_example_loads_and_lists_what_is_left_out() -> None:
    loaded = load(str(ROOT / "examples/litellm-config.yaml"), VARIABLES)
    assert [note.place.path for note in loaded.notes] == ["litellm_settings.success_callback"]
    # With one for the bare names of Anthropic's models.
    assert len(loaded.config.routes) == 7
    assert loaded.config.client_keys() == ("sk-1",)


def test_the_schema_that_is_committed_is_fresh() -> None:
    text = (ROOT / "docs/trunkline.schema.json").read_text()
    assert text == to_text(), "run: trunkline config schema > docs/trunkline.schema.json"


def test_the_reference_page_that_is_committed_is_fresh() -> None:
    text = (ROOT / "docs/config.md").read_text()
    assert text == markdown(), "run: trunkline config reference > docs/config.md"


@pytest.mark.parametrize("text", [markdown(), EPILOG], ids=["page", "help"])
def test_the_small_example_means_what_it_says(tmp_path: Path, text: str) -> None:
    example = re.search(r"^ *keys: .*?(?=\n\n|```)", text, re.DOTALL | re.MULTILINE)
    assert example is not None
    config = config_of(tmp_path, example[0], {"TEAM_KEY": "k"})
    assert config.client_keys() == ("k",)
    routes = {route.name: route.targets for route in config.routes}
    assert [(one.backend, one.model) for one in routes["chat"]] == [
        ("gpu-box", "llama-3"),
        ("openai", "gpt-4o-mini"),
    ]
    (box,) = [one for one in config.backends if one.name == "gpu-box"]
    assert (box.kind, box.url) == ("openai-compatible", "http://gpu-box:8000/v1")


@functools.cache
def validator() -> Any:
    schema = msgspec.json.decode((ROOT / "docs/trunkline.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_takes_the_example() -> None:
    validator().validate(yaml.safe_load((ROOT / "examples/trunkline.yaml").read_text()))


@pytest.mark.parametrize(
    "text",
    [
        "server: {prt: 1}",
        "server: {port: http}",
        "server: {port: 99999}",
        "server: {max_body: 2X}",
        "backends: [{name: a, kind: vlm}]",
        "routes: {a: {targets: x/y, strategy: best}}",
        "routes: {a: {targets: [{backend: b, wieght: 1}]}}",
        "defaults: {route: {name: a}}",
        "srever: {}",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(text: str) -> None:
    assert any(text.split("{", maxsplit=1)[0] in wrong for wrong, _ in ERRORS)
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(yaml.safe_load(text))


def test_every_field_of_the_schema_has_a_sentence() -> None:
    schema = json_schema()
    for name, part in (("file", schema), *schema["$defs"].items()):
        for field, prop in part["properties"].items():
            # Structs are described where they are defined.
            assert prop.get("description") or "$ref" in str(prop), f"{name}.{field}"
