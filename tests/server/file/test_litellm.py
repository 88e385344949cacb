"""LiteLLM's `config.yaml`: what becomes of each part, and what is listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.file.support import errors_of, read
from trunkline.backends.config import Timeouts
from trunkline.gateway.config import Breaker, Fallbacks, Retries, RouteConfig, Target
from trunkline.server.file.config import Loaded

ONE = """\
        model_list:
          - model_name: m
            litellm_params: {model: openai/gpt-4o, api_key: k}
"""


def routes(loaded: Loaded) -> dict[str, RouteConfig]:
    assert loaded.format == "litellm"
    return {route.name: route for route in loaded.config.routes}


def notes(loaded: Loaded) -> list[str]:
    return [f"{note.place.line}: {note.place.path}: {note.message}" for note in loaded.notes]


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


@pytest.mark.parametrize(
    ("params", "weights"),
    [
        (("weight: 2, rpm: 9", "rpm: 1"), (2, 0)),
        (("rpm: 9", "rpm: 1"), (9, 1)),
        (("tpm: 50", "tpm: 10"), (50, 10)),
        (("order: 1", "order: 2"), (1, 1)),
    ],
)
def test_weights_are_chosen_as_simple_shuffle_does(
    tmp_path: Path, params: tuple[str, str], weights: tuple[float, float]
) -> None:
    loaded = read(
        tmp_path,
        f"""\
        model_list:
          - {{model_name: m, litellm_params: {{model: openai/a, {params[0]}}}}}
          - {{model_name: m, litellm_params: {{model: openai/b, {params[1]}}}}}
        """,
    )
    assert tuple(target.weight for target in routes(loaded)["m"].targets) == weights


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ("routing_strategy: simple-shuffle", 0),
        ("routing_strategy: usage-based-routing-v2", 7),
        ("enable_pre_call_checks: true", 7),
        ("optional_pre_call_checks: [enforce_model_rate_limits]", 7),
    ],
)
def test_rpm_is_a_limit_where_litellm_enforces_it(
    tmp_path: Path, settings: str, limit: int
) -> None:
    loaded = read(
        tmp_path,
        f"""\
        model_list: [{{model_name: m, litellm_params: {{model: openai/a, rpm: 7}}}}]
        router_settings: {{{settings}}}
        """,
    )
    assert routes(loaded)["m"].targets[0].rpm == limit
    assert notes(loaded) == []


def test_settings_hold_for_every_route(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        ONE
        + """\
          - {model_name: n, litellm_params: {model: groq/x, drop_params: false}}
        router_settings:
          routing_strategy: latency-based-routing
          num_retries: 4
          retry_after: 2
          allowed_fails: 6
          cooldown_time: 40
          model_group_retry_policy: {n: {RateLimitErrorRetries: 9}}
          model_group_alias: {alias: m, hidden: {model: m, hidden: true}}
          timeout: 50
        litellm_settings: {drop_params: true, num_retries: 1, request_timeout: 9, ssl_verify: false}
        """,
    )
    one, two = routes(loaded)["m"], routes(loaded)["n"]
    assert one.strategy == two.strategy == "lowest_latency"
    assert one.aliases == ("alias", "hidden")
    assert one.retries == Retries(attempts=4, base=2)
    assert two.retries == Retries(attempts=9, base=2)
    assert one.breaker == Breaker(failures=7, cooldown=40)
    openai, groq = loaded.config.backends
    assert (openai.unsupported, groq.unsupported) == ("drop", "refuse")
    assert openai.timeouts == Timeouts(first_token=50, idle=50)
    assert not openai.verify_tls
    assert notes(loaded) == []


def test_a_policy_of_retries_becomes_one_number_and_says_so(tmp_path: Path) -> None:
    text = "router_settings: {retry_policy: {TimeoutErrorRetries: 2, RateLimitErrorRetries: 5}}\n"
    loaded = read(tmp_path, ONE + "        " + text)
    assert routes(loaded)["m"].retries.attempts == 5
    assert notes(loaded) == [
        "4: router_settings.retry_policy: one number of tries holds for every kind of error: 5"
    ]


def test_disabled_cooldowns_never_open_the_breaker(tmp_path: Path) -> None:
    loaded = read(tmp_path, ONE + "        router_settings: {disable_cooldowns: true}\n")
    assert routes(loaded)["m"].breaker.failures >= 10**9


def test_fallbacks_go_to_groups_and_to_names_outside_the_list(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        """\
        model_list:
          - {model_name: a, litellm_params: {model: openai/a}}
          - {model_name: b, litellm_params: {model: openai/b}}
          - {model_name: anthropic/*, litellm_params: {model: anthropic/*}}
        router_settings:
          fallbacks: [{a: [b, groq/llama, anthropic/claude-x]}]
          context_window_fallbacks: [{a: [b]}]
          content_policy_fallbacks: [{"*": [b]}]
        litellm_settings: {default_fallbacks: [a, nobody]}
        """,
        {"GROQ_API_KEY": "gk"},
    )
    found = routes(loaded)
    assert found["a"].fallbacks == Fallbacks(
        error=("b", "groq/llama", "anthropic/claude-x"),
        context_window=("b",),
        content_policy=("b",),
    )
    assert found["b"].fallbacks == Fallbacks(error=("a",))
    assert found["groq/llama"].targets == (Target(backend="groq", model="llama"),)
    assert {b.name: b.api_key for b in loaded.config.backends}["groq"] == "gk"
    assert notes(loaded) == [
        "1: : fallbacks: 'nobody' is neither a group nor provider/model; left out"
    ]


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
            litellm_params: {model: vertex_ai/claude-3, vertex_project: p}
          - model_name: r
            litellm_params: {model: bedrock/amazon.nova, aws_role_name: arn, region_name: eu-west-1}
        """,
        {"AK": "a", "SK": "s"},
    )
    providers = [backend.provider for backend in loaded.config.backends]
    assert providers == [
        {"region": "us-west-2", "access_key_id": "a", "secret_access_key": "s"},
        {"project": "p", "location": "l"},
        {"region": "eu-west-1"},
    ]
    assert "Claude on Vertex AI is not supported" in notes(loaded)[0]
    assert "credentials by role or profile are not fetched" in notes(loaded)[-1]
    assert "x" not in routes(loaded)


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


def test_parameters_of_calls_go_where_they_mean_something(tmp_path: Path) -> None:
    text = """\
          - {model_name: g, litellm_params: {model: gemini/x, api_key: k, temperature: 0}}
          - {model_name: c, litellm_params: {model: anthropic/x, api_key: k, max_tokens: 9}}
        """
    loaded = read(tmp_path, ONE + text)
    assert [one.default_body for one in loaded.config.backends[1:]] == [{}, {"max_tokens": 9}]
    (left_out,) = notes(loaded)
    assert left_out.endswith(
        "temperature: cannot be set for all requests to Google Gemini; left out"
    )


@pytest.mark.parametrize(
    ("params", "timeouts"),
    [
        ("", Timeouts()),
        ("timeout: 600", Timeouts(first_token=600, idle=600)),
        ("timeout: 9000", Timeouts(first_token=9000, idle=9000, attempt=9000)),
        ("stream_timeout: 5", Timeouts(idle=5)),
    ],
)
def test_timeouts_never_cut_a_stream_that_moves(
    tmp_path: Path, params: str, timeouts: Timeouts
) -> None:
    more = f", {params}" if params else ""
    loaded = read(
        tmp_path,
        f"model_list: [{{model_name: m, litellm_params: {{model: openai/x, api_key: k{more}}}}}]",
    )
    assert loaded.config.backends[0].timeouts == timeouts


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
        "provider.project: it must be given, or VERTEXAI_PROJECT or GOOGLE_CLOUD_PROJECT be set",
        "url: a URL begins with http://host, https://host or unix:/path",
        "headers: the header field 'x y' cannot be sent",
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
        ("model_list: []", "1: : no entry of model_list can be served; see the notes"),
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
def test_a_file_that_serves_nothing_is_refused(tmp_path: Path, text: str, message: str) -> None:
    found = errors_of(tmp_path, text)
    assert any(message in line for line in found), found
