"""Entries of LiteLLM's `model_list`: providers, credentials, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.server.file.support import read
from trunkline.server.file.config import Loaded


def entry(
    tmp_path: Path, params: str, more: str = "", environ: dict[str, str] | None = None
) -> Loaded:
    """A file with an entry of these parameters beside another one."""
    other = "{model_name: other, litellm_params: {model: openai/o, api_key: k}}"
    text = f"model_list:\n- {{model_name: m, litellm_params: {{{params}}}}}\n- {other}\n{more}"
    return read(tmp_path, text, environ)


def told(loaded: Loaded) -> list[str]:
    return [f"{note.place.path.rpartition('.')[2]}: {note.message}" for note in loaded.notes]


@pytest.mark.parametrize(
    ("params", "kind", "dialect", "model"),
    [
        ("model: openai/responses/gpt-5", "openai", "openai.responses", "gpt-5"),
        ("model: responses/gpt-5", "openai", "openai.responses", "gpt-5"),
        (
            "model: openai/responses/gpt-5, api_base: 'http://h', api_key: k",
            "responses-compatible",
            "openai.responses",
            "gpt-5",
        ),
        (
            "model: azure/responses/dep, api_base: 'http://h', api_key: k",
            "azure",
            "openai.responses",
            "dep",
        ),
        ("model: azure/o_series/dep, api_base: 'http://h', api_key: k", "azure", "", "dep"),
        ("model: azure/gpt5_series/dep, api_base: 'http://h', api_key: k", "azure", "", "dep"),
        ("model: lambda_ai/x", "lambda_ai", "", "x"),
        ("model: databricks/x, api_base: 'http://h/serving-endpoints'", "databricks", "", "x"),
        ("model: litellm_proxy/x, api_base: 'http://h', api_key: k", "openai-compatible", "", "x"),
    ],
)
def test_what_names_of_models_mean(
    tmp_path: Path, params: str, kind: str, dialect: str, model: str
) -> None:
    loaded = entry(tmp_path, params)
    found = loaded.config.backends[0]
    assert (found.kind, found.dialect, told(loaded)) == (kind, dialect, [])
    assert loaded.config.routes[0].targets[0].model == model


def test_a_mode_may_say_by_what_operation_a_model_is_asked(tmp_path: Path) -> None:
    text = """\
        model_list:
        - {model_name: m, litellm_params: {model: openai/o1-pro}, model_info: {mode: responses}}
        - {model_name: n, litellm_params: {model: groq/x}, model_info: {mode: chat, id: abc}}
        """
    loaded = read(tmp_path, text)
    assert [one.dialect for one in loaded.config.backends] == ["openai.responses", ""]
    assert told(loaded) == []


def test_what_a_model_is_restricted_to_is_noted(tmp_path: Path) -> None:
    text = """\
        model_list:
        - model_name: m
          litellm_params: {model: openai/x}
          model_info: {team_id: t, max_input_tokens: 5, description: d, supports_vision: true}
        """
    assert told(read(tmp_path, text)) == [
        "team_id: there are no teams: whoever has a key may use it"
    ]
    text += "router_settings: {enable_pre_call_checks: true}\n"
    assert (
        "max_input_tokens: prompts are not counted before a call" in told(read(tmp_path, text))[1]
    )


def test_an_entry_that_is_left_out_is_told_of_once(tmp_path: Path) -> None:
    params = "model: replicate/x, api_base: 'http://h', api_key: k, temperature: 0, tags: [a]"
    (note,) = told(entry(tmp_path, params))
    assert note.startswith("model: replicate has a protocol or login of its own")
    (note,) = told(entry(tmp_path, "model: azure/x, api_key: k, rpm: 5, api_version: v"))
    assert "Azure OpenAI has no URL of its own; give api_base" in note
    (note,) = told(entry(tmp_path, "model: elevenlabs/x, api_key: k"))
    assert note.startswith("model: elevenlabs has no models for chat or completions")


ACCOUNT = {
    "type": "service_account",
    "project_id": "theirs",
    "private_key": "no key",
    "client_email": "a@b",
    "token_uri": "https://t",
}


def test_a_model_may_be_whatever_the_client_names(tmp_path: Path) -> None:
    def names(group: str, model: str) -> set[str]:
        text = f"{{model_name: '{group}', litellm_params: {{model: '{model}', api_key: k}}}}"
        found = read(tmp_path, f"model_list: [{text}]", {"OPENAI_API_KEY": "k"})
        return {route.name for route in found.config.routes}

    known = {"openai/*", "gpt-*", "chatgpt-*", "o1*", "o3*", "o4*"}
    assert names("*", "*") == names("*/*", "*/*") == known | {"text-completion-openai/*"}
    assert names("openai/*", "*") == known
    (note,) = told(entry(tmp_path, "model: '*'"))
    assert note == "model: it does not say whose model it is; the entry is left out"


@pytest.mark.parametrize(
    ("params", "more", "provider"),
    [
        ("vertex_ai_project: p, vertex_ai_location: l", "", {"project": "p", "location": "l"}),
        ("vertex_ai_project: p, vertex_project: q", "", {"project": "q"}),
        (
            "vertex_project: p",
            "litellm_settings: {vertex_project: z, vertex_location: y}",
            {"project": "p", "location": "y"},
        ),
        ("api_key: token", "litellm_settings: {vertex_project: z}", {"project": "z"}),
    ],
)
def test_vertex_projects(tmp_path: Path, params: str, more: str, provider: dict[str, str]) -> None:
    loaded = entry(tmp_path, f"model: vertex_ai/gemini-2.5-pro, {params}", more)
    assert loaded.config.backends[0].provider == provider
    assert told(loaded) == []


@pytest.fixture(scope="module")
def account() -> dict[str, str]:
    """A service account as Google writes them."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {**ACCOUNT, "private_key": key.decode()}


def test_a_service_account_tells_its_project(tmp_path: Path, account: dict[str, str]) -> None:
    file = tmp_path / "account.json"
    file.write_text(json.dumps(account))
    model = "model: vertex_ai/gemini-2.5-pro"
    by_file = entry(tmp_path, f"{model}, vertex_credentials: {file}").config.backends[0]
    assert by_file.provider == {"project": "theirs", "credentials": str(file)}
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(file)}
    by_variable = entry(tmp_path, model, environ=environ).config.backends[0]
    assert by_variable.provider == by_file.provider
    text = json.dumps(json.dumps(account))
    for inline in (text, json.dumps(account), "os.environ/CREDENTIALS"):
        found = entry(
            tmp_path,
            f"{model}, vertex_ai_credentials: {inline}",
            environ={"CREDENTIALS": json.dumps(account)},
        )
        assert found.config.backends[0].provider == {"project": "theirs"}
        assert json.loads(found.config.backends[0].api_key) == account
        assert told(found) == []


def test_credentials_that_cannot_be_read_are_told_where_they_stand(tmp_path: Path) -> None:
    model = "model: vertex_ai/gemini-2.5-pro, vertex_project: p"
    (note,) = told(entry(tmp_path, f"{model}, vertex_credentials: /gone.json"))
    assert note == (
        "vertex_credentials: /gone.json cannot be read: No such file or directory; "
        "the entry is left out"
    )
    (note,) = told(entry(tmp_path, model, environ={"GOOGLE_APPLICATION_CREDENTIALS": "/gone.json"}))
    assert note.startswith("litellm_params: GOOGLE_APPLICATION_CREDENTIALS: /gone.json cannot be")
