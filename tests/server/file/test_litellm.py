"""LiteLLM's `config.yaml`: what becomes of each part, and what is listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.file.support import errors_of, notes, read, routes
from trunkline.backends.config import Timeouts
from trunkline.gateway.config import Target

ONE = """\
        model_list:
          - model_name: m
            litellm_params: {model: openai/gpt-4o, api_key: k}
"""


def test_entries_of_one_name_are_targets_of_one_route(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        """\
        model_list:
          - model_name: gpt
            litellm_params:
              model: azure/deployed
              api_base: https://eu.example.com/
              api_key: os.environ/EU_KEY
              api_version: 2024-10-21
              rpm: 900
              order: 1
              timeout: 30
              stream_timeout: 7
              max_parallel_requests: 5
              extra_headers: {x-a: os.environ/TEAM}
              temperature: 0.5
            model_info: {id: abc, input_cost_per_token: 0.0000025, output_cost_per_token: 1e-5}
          - model_name: gpt
            litellm_params: {model: gpt-4o, rpm: 100}
          - model_name: mini
            litellm_params: {model: openai/gpt-4o-mini}
        """,
        {"EU_KEY": "k1", "TEAM": "t", "OPENAI_API_KEY": "k2"},
    )
    azure, openai = loaded.config.backends
    assert (azure.name, azure.kind, azure.api_key) == ("azure-eu.example.com", "azure", "k1")
    assert azure.url == "https://eu.example.com/"
    assert azure.provider == {"api_version": "2024-10-21"}
    assert azure.headers == {"x-a": "t"}
    assert (azure.default_body, azure.extra_body) == ({"temperature": 0.5}, {})
    assert azure.timeouts == Timeouts(first_token=30, idle=7)
    # Two entries that differ in their model alone share a backend.
    assert (openai.name, openai.api_key) == ("openai", "k2")
    assert openai.models == ("gpt-4o", "gpt-4o-mini")
    gpt = routes(loaded)["gpt"]
    assert gpt.targets == (
        Target(
            backend="azure-eu.example.com",
            model="deployed",
            weight=900,
            order=1,
            max_parallel=5,
            input_cost=2.5,
            output_cost=10.0,
        ),
        Target(backend="openai", model="gpt-4o", weight=100),
    )
    assert notes(loaded) == []


def test_wildcards(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        """\
        model_list:
          - {model_name: openai/*, litellm_params: {model: openai/*}}
          - {model_name: my-*, litellm_params: {model: hosted_vllm/org-*, api_base: "http://v"}}
          - {model_name: "*", litellm_params: {model: "*"}}
        """,
        {"OPENAI_API_KEY": "a", "TOGETHER_API_KEY": "b"},
    )
    found = {name: route.targets[0] for name, route in routes(loaded).items()}
    assert found["openai/*"] == Target(backend="openai", model="*")
    assert found["my-*"] == Target(backend="vllm-v", model="org-*")
    assert found["gpt-*"] == Target(backend="openai", model="gpt-*")
    assert found["together_ai/*"] == found["together/*"] == Target(backend="together", model="*")
    assert not any(name.startswith("anthropic") for name in found)
    assert all(backend.models == () for backend in loaded.config.backends)


def test_bare_names_reach_the_entry_for_all_models_of_their_provider(tmp_path: Path) -> None:
    text = """\
        model_list:
          - {model_name: openai/*, litellm_params: {model: openai/*, api_base: "http://o"}}
          - {model_name: vertex_ai/*, litellm_params: {model: vertex_ai/*, vertex_project: p}}
          - {model_name: gemini/*, litellm_params: {model: gemini/*, api_key: k}}
          - {model_name: anthropic/*, litellm_params: {model: openrouter/anthropic/*}}
          - {model_name: claude-*, litellm_params: {model: groq/*}}
          - {model_name: gpt-4o, litellm_params: {model: groq/x}}
        """
    found = {name: route.targets[0] for name, route in routes(read(tmp_path, text)).items()}
    assert found["gpt-*"] == Target(backend="openai-compatible-o", model="gpt-*")
    assert found["o1*"].model == "o1*"
    # LiteLLM takes these for Vertex AI's.
    assert found["gemini-*"].backend == "vertex"
    assert found["claude-*"] == Target(backend="groq", model="*")
    assert found["gpt-4o"] == Target(backend="groq", model="x")
    everything = "  - {model_name: '*', litellm_params: {model: groq/*}}\n"
    assert "gpt-*" not in routes(read(tmp_path, text + everything))
    half = text.replace("claude-*", "claude-3*")
    found = {name: route.targets[0] for name, route in routes(read(tmp_path, half)).items()}
    assert found["claude-*"] == Target(backend="openrouter", model="anthropic/claude-*")


@pytest.mark.parametrize(
    ("group", "model", "asked"),
    [
        ("my-*-x-*", "openai/a-*-b-*", "a-*-b-*"),
        ("my-*-*", "openai/one", "one"),
        ("openai/*-*", "openai/*", "*-*"),
        ("my-*-*", "openai/*", "my-*-*"),
    ],
)
def test_groups_with_several_stars(tmp_path: Path, group: str, model: str, asked: str) -> None:
    text = f"model_list: [{{model_name: '{group}', litellm_params: {{model: '{model}'}}}}]"
    assert routes(read(tmp_path, text))[group].targets[0].model == asked


def test_a_star_without_any_key_is_noted(tmp_path: Path) -> None:
    loaded = read(tmp_path, ONE + '          - {model_name: "*", litellm_params: {model: "*"}}\n')
    assert "no provider's key is set" in notes(loaded)[0]


def test_an_openai_prefix_with_another_url_is_a_compatible_server(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        """\
        model_list:
          - model_name: m
            litellm_params: {model: openai/llama, api_base: "http://box:9/v1"}
          - model_name: n
            litellm_params: {model: nosuch/llama, api_base: "http://box:8/v1", api_key: k}
        """,
        {"OPENAI_API_KEY": "vendor's own"},
    )
    one, two = loaded.config.backends
    assert (one.kind, one.api_key) == ("openai-compatible", "")
    assert (two.kind, two.models) == ("openai-compatible", ("llama",))
    assert "OPENAI_API_KEY does not go to other servers" in notes(loaded)[0]
    assert "no provider is called 'nosuch'" in notes(loaded)[1]


def test_clouds(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        """\
        model_list:
          - model_name: c
            litellm_params:
              model: bedrock/us-west-2/anthropic.claude-v2
              aws_access_key_id: os.environ/AK
              aws_secret_access_key: os.environ/SK
          - model_name: g
            litellm_params: {model: vertex_ai/gemini-2.5-pro, vertex_project: p, vertex_location: l}
          - model_name: x
            litellm_params: {model: vertex_ai/claude-3@2, vertex_project: p}
          - model_name: r
            litellm_params: {model: bedrock/amazon.nova, aws_role_name: arn, region_name: eu-west-1}
        """,
        {"AK": "a", "SK": "s"},
    )
    providers = [backend.provider for backend in loaded.config.backends]
    assert providers == [
        {"region": "us-west-2", "access_key_id": "a", "secret_access_key": "s"},
        {"project": "p", "location": "l"},
        {"project": "p"},
        {"region": "eu-west-1"},
    ]
    assert "credentials by role or profile are not fetched" in notes(loaded)[-1]
    assert routes(loaded)["x"].targets[0].model == "claude-3@2"


def test_credentials_are_looked_up(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        """\
        model_list:
          - model_name: m
            litellm_params: {model: openai/a, litellm_credential_name: main}
          - model_name: n
            litellm_params: {model: openai/a, litellm_credential_name: gone}
        credential_list:
          - credential_name: main
            credential_values: {api_key: os.environ/K}
            credential_info: {description: production}
        """,
        {"K": "k"},
    )
    assert loaded.config.backends[0].api_key == "k"
    assert any("no credential is called 'gone'" in note for note in notes(loaded))


def test_keys_and_variables(tmp_path: Path) -> None:
    text = (
        ONE + "        general_settings: {master_key: os.environ/MASTER, max_request_size_mb: 3}\n"
    )
    text += "        environment_variables: {MASTER: sk-9}\n"
    loaded = read(tmp_path, text)
    assert loaded.config.client_keys() == ("sk-9",)
    assert loaded.config.server.max_body == 3 << 20
    assert read(tmp_path, ONE, {"LITELLM_MASTER_KEY": "sk-8"}).config.keys == ("sk-8",)
    assert read(tmp_path, ONE).config.keys == ()


def test_references_are_resolved_wherever_they_stand(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        """\
        model_list:
          - model_name: a
            litellm_params:
              model: openai/a
              temperature: os.environ/WARM
              extra_headers: {x-team: os.environ/TEAM}
              extra_body: {team: os.environ/TEAM, deep: [{one: os.environ/TEAM}, os.environ/GONE]}
          - {model_name: b, litellm_params: {model: openai/b}}
        router_settings:
          routing_strategy: os.environ/HOW
          optional_pre_call_checks: [os.environ/CHECK]
          fallbacks: [{a: [os.environ/OTHER]}]
          model_group_alias: {also: os.environ/OTHER}
        litellm_settings:
          default_fallbacks: [os.environ/OTHER]
          num_retries: os.environ/TRIES
        """,
        {
            "WARM": "0.5",
            "TEAM": "t",
            "HOW": "least-busy",
            "CHECK": "enforce_model_rate_limits",
            "OTHER": "b",
            "TRIES": "4",
        },
    )
    first = loaded.config.backends[0]
    assert first.default_body == {"temperature": 0.5}
    assert first.extra_body == {"team": "t", "deep": [{"one": "t"}]}
    assert first.headers == {"x-team": "t"}
    found = routes(loaded)
    assert (found["a"].strategy, found["a"].retries.attempts) == ("least_busy", 4)
    assert found["a"].fallbacks.error == ("b",)
    assert found["b"].aliases == ("also",)
    (note,) = [one for one in notes(loaded) if "GONE is not set" in one]
    assert note.startswith("7: model_list[0].litellm_params.extra_body.deep[1]: ")


@pytest.mark.parametrize("key", ["os.environ/GONE", "''"])
def test_a_server_that_is_meant_to_be_closed_is_not_opened(tmp_path: Path, key: str) -> None:
    (error,) = errors_of(tmp_path, ONE + f"        general_settings: {{master_key: {key}}}\n")
    assert error.startswith("4: general_settings.master_key: ")
    assert "the server would be open to all" in error
    assert ("GONE" in error) is key.endswith("GONE")


def test_a_missing_key_is_noted_and_a_missing_address_leaves_the_entry_out(tmp_path: Path) -> None:
    text = """\
          - {model_name: n, litellm_params: {model: openai/a, api_base: os.environ/GONE}}
          - {model_name: o, litellm_params: {model: groq/a, api_key: os.environ/ALSO_GONE}}
        """
    loaded = read(tmp_path, ONE + text)
    assert sorted(routes(loaded)) == ["m", "o"]
    assert "GONE is not set" in notes(loaded)[1]
    assert "its api_base is not known; the entry is left out" in notes(loaded)[0]
    assert "ALSO_GONE is not set" in notes(loaded)[2]


def test_an_entry_that_nobody_can_be_asked_for_is_left_out(tmp_path: Path) -> None:
    text = """\
          - {model_name: n, litellm_params: {model: vertex_ai/gemini-2.5-pro}}
          - {model_name: o, litellm_params: {model: openai/a, api_base: no url, api_key: k}}
          - {model_name: p, litellm_params: {model: openai/a, extra_headers: {"x y": z}}}
        """
    loaded = read(tmp_path, ONE + text)
    assert sorted(routes(loaded)) == ["m"]
    told = [note.partition(": ")[2].partition(": ")[2] for note in notes(loaded)]
    assert all(one.endswith("; the entry is left out") for one in told)
    assert [one.removesuffix("; the entry is left out") for one in told] == [
        "vertex_project: it must be given, or VERTEXAI_PROJECT or GOOGLE_CLOUD_PROJECT be set",
        "a URL begins with http://host, https://host or unix:/path",
        "the header field 'x y' cannot be sent",
    ]
    fields = [note.split(": ")[1] for note in notes(loaded)]
    assert fields[1:] == [
        "model_list[2].litellm_params.api_base",
        "model_list[3].litellm_params.extra_headers",
    ]


def test_what_is_not_supported_is_listed_with_line_and_reason(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        ONE
        + """\
          - model_name: e
            litellm_params: {model: openai/text-embedding-3-small, mock_response: hi, rpm: many}
            model_info: {mode: embedding}
            surprise: 1
        litellm_settings: {cache: true, callbacks: [x], json_logs: true}
        router_settings: {routing_strategy: clever, redis_host: h, set_verbose: false}
        general_settings: {database_url: postgres://u:p@h/d, alerting: [slack]}
        guardrails: [{guardrail_name: g}]
        """,
    )
    found = "\n".join(notes(loaded))
    for line in (
        "4: model_list[1].surprise: not supported, and left out",
        "5: model_list[1].litellm_params.mock_response: answers are not made up",
        "5: model_list[1].litellm_params.rpm: expected a number of at least 0, not 'many'",
        "6: model_list[1].model_info.mode: requests of mode 'embedding' are not served",
        "8: litellm_settings.cache: answers are not cached",
        "8: litellm_settings.callbacks: callbacks are Python code",
        "9: router_settings.routing_strategy: 'clever' is not known",
        "9: router_settings.redis_host: nothing is shared",
        "10: general_settings.database_url: nothing is kept",
        "10: general_settings.alerting: alerts are not sent",
        "11: guardrails: guardrails are not supported",
    ):
        assert line.split(": ", 1)[1] in found, found
    assert "json_logs" not in found
    assert "u:p@h" not in found


def test_a_file_needs_no_models_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text(
        "model_list:\n  - {model_name: n, litellm_params: {model: groq/x}}\n"
    )
    loaded = read(tmp_path, "include: [more.yaml]\n")
    assert sorted(routes(loaded)) == ["n"]
    for text in ("litellm_settings: {drop_params: true}", "general_settings: {}", "model_list: []"):
        loaded = read(tmp_path, text)
        assert routes(loaded) == {}
        assert notes(loaded) == ["1: : there is no model_list, or it is empty: no model is served"]
    # With a section of ours it is a file of ours with a fault.
    assert (
        "no section is called 'general_settings'"
        in errors_of(tmp_path, "general_settings: {}\nroutes: {a: openai/b}\n")[0]
    )


def test_of_keys_that_are_there_twice_the_last_counts(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("router_settings: {timeout: 3, timeout: 4}\n")
    text = """\
        litellm_settings: {num_retries: 1}
        include: [more.yaml]
        litellm_settings: {num_retries: 4}
        """
    loaded = read(tmp_path, ONE + text)
    assert routes(loaded)["m"].retries.attempts == 4
    assert loaded.config.backends[0].timeouts.first_token == 4
    assert notes(loaded) == [
        "6: litellm_settings: 'litellm_settings' is there twice, see line 4; the last one counts",
        "1: router_settings.timeout: 'timeout' is there twice, see line 1; the last one counts",
    ]
    assert "is there twice" in errors_of(tmp_path, "routes: {a: openai/b}\nroutes: {}\n")[0]


def test_included_files_are_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text(
        "model_list:\n  - {model_name: n, litellm_params: {model: groq/x, tags: [a]}}\n"
    )
    loaded = read(tmp_path, ONE + "        include: [more.yaml]\n")
    assert sorted(routes(loaded)) == ["m", "n"]
    assert loaded.files == (loaded.path, str(tmp_path / "more.yaml"))
    (note,) = loaded.notes
    assert (note.place.file, note.place.line) == (str(tmp_path / "more.yaml"), 2)
    assert "cannot be read" in errors_of(tmp_path, ONE + "        include: [gone.yaml]\n")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model_list: [{model_name: a, litellm_params: {model: sagemaker/x}}]",
            "model: sagemaker has a protocol or login of its own, which is not supported",
        ),
        ("model_list: [{model_name: a}]", "1: model_list[0]: an entry needs model_name, and"),
        ("model_list: [3]", "1: model_list[0]: an entry needs model_name, and"),
        (
            "model_list: [{model_name: a, litellm_params: {model: nosuch/x}}]",
            "1: model_list[0].litellm_params.model: no provider is called 'nosuch'",
        ),
        (
            "model_list: [{model_name: a, litellm_params: {model: hosted_vllm/x}}]",
            "1: model_list[0].litellm_params: vLLM has no URL of its own; give api_base.",
        ),
    ],
)
def test_a_file_of_which_nothing_can_be_served(tmp_path: Path, text: str, message: str) -> None:
    """LiteLLM starts with all but those that it cannot read."""
    if "an entry needs" in message:
        found = errors_of(tmp_path, text)
    else:
        found = notes(read(tmp_path, text))
        assert "no model is served" in found[0]
    assert any(message in line for line in found), found
