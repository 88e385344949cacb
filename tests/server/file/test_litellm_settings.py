"""LiteLLM's settings: routing, tries, limits, times and fallbacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.file.support import notes, read, routes
from trunkline.backends.config import Timeouts
from trunkline.gateway.config import Breaker, Fallbacks, Retries, Target

ONE = """\
        model_list:
          - model_name: m
            litellm_params: {model: openai/gpt-4o, api_key: k}
"""


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
    assert loaded.config.hidden == ("hidden",)
    assert one.retries == Retries(attempts=4, base=2)
    assert two.retries == Retries(attempts=9, base=2)
    assert one.breaker == Breaker(failures=7, cooldown=40)
    openai, groq = loaded.config.backends
    assert (openai.unsupported, groq.unsupported) == ("drop", "refuse")
    assert openai.timeouts == Timeouts(first_token=50, idle=50)
    assert not openai.verify_tls
    assert notes(loaded) == []


@pytest.mark.parametrize(
    ("first", "second", "settings", "attempts", "noted"),
    [
        ("num_retries: 5", "num_retries: 5", "", 5, False),
        ("num_retries: 5", "num_retries: 1", "", 5, True),
        ("num_retries: 0", "num_retries: 0", "num_retries: 3", 0, False),
        ("num_retries: 1", "", "num_retries: 3", 3, True),
        ("num_retries: 99", "num_retries: 99", "", 20, False),
        ("num_retries: 5", "", "model_group_retry_policy: {m: {TimeoutErrorRetries: 1}}", 1, False),
        ("num_retries: 5", "", "retry_policy: {TimeoutErrorRetries: 1}", 1, False),
    ],
)
def test_entries_say_how_often_to_try(
    tmp_path: Path, first: str, second: str, settings: str, attempts: int, noted: bool
) -> None:
    loaded = read(
        tmp_path,
        f"""\
        model_list:
          - {{model_name: m, litellm_params: {{model: openai/a, {first}}}}}
          - {{model_name: m, litellm_params: {{model: openai/b}}, {second}}}
        router_settings: {{{settings}}}
        """,
    )
    assert routes(loaded)["m"].retries.attempts == attempts
    assert any("num_retries: one number holds for all of 'm'" in one for one in notes(loaded)) is (
        noted
    )


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
