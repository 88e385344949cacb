"""LiteLLM's settings: how to route, retry, fall back and time out.

docs.litellm.ai/docs/proxy/config_settings and docs/routing; defaults that are not named here are
ours. `router_settings` wins over `litellm_settings`, as in LiteLLM's proxy.
"""

from __future__ import annotations

from collections.abc import Mapping as Names

import msgspec

from trunkline.gateway.config import Breaker, Retries, Strategy
from trunkline.gateway.strategies import ALIASES
from trunkline.server.file.document import Mapping, Scalar, Sequence
from trunkline.server.file.section import Section

_REDIS = "nothing is shared between servers through Redis; each counts for itself"
_ROUTER_REASONS = {
    "redis_host": _REDIS,
    "redis_port": _REDIS,
    "redis_password": _REDIS,
    "redis_url": _REDIS,
    "allowed_fails_policy": "failures are counted alike, whatever their kind; left out",
    "enable_tag_filtering": "tags do not choose among targets; left out",
    "provider_budget_config": "budgets of providers are not kept; left out",
    "max_fallbacks": "every fallback that is named is tried; left out",
}
_LITELLM_REASONS = {
    "cache": "answers are not cached; left out",
    "cache_params": "answers are not cached; left out",
    "callbacks": "callbacks are Python code of LiteLLM; use /metrics and the log",
    "success_callback": "callbacks are Python code of LiteLLM; use /metrics and the log",
    "failure_callback": "callbacks are Python code of LiteLLM; use /metrics and the log",
    "set_verbose": "use --log-level debug",
}
# What LiteLLM logs and shows, and what we do in any case.
_HARMLESS = frozenset({"json_logs", "telemetry", "turn_off_message_logging", "suppress_debug_info"})

# Of `Retries.attempts`.
MAX_RETRIES = 20
# Of a breaker that never opens.
_NEVER = 1_000_000_000
_AFFINITY: Names[str, Strategy] = {
    "prompt_caching": "prefix_affinity",
    "session_affinity": "session_affinity",
    "deployment_affinity": "session_affinity",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for every route and backend of the file."""

    strategy: Strategy = "weighted"
    retries: Retries = Retries()
    # Group -> tries, where it has its own.
    group_retries: dict[str, int] = {}
    # True: `retries` is a policy by kind of error, which wins over what an entry says.
    policy: bool = False
    breaker: Breaker = Breaker()
    timeout: float | None = None
    stream_timeout: float | None = None
    max_parallel: int = 0
    # rpm and tpm are limits, not only weights.
    limits: bool = False
    drop_params: bool = False
    verify_tls: bool = True
    # Kind of fallback ("error", ...) -> group or "*" -> names.
    fallbacks: dict[str, dict[str, tuple[str, ...]]] = {}
    # Alias -> group.
    aliases: dict[str, str] = {}
    # Those of them that are not listed.
    hidden: frozenset[str] = frozenset()
    # Deployments are checked before a call: for their limits, and whether the prompt fits.
    checks: bool = False
    # Of Vertex AI, for entries without: project, location.
    vertex: dict[str, str] = {}


def read_settings(router: Section, litellm: Section) -> Settings:
    """The settings of both sections; what is not supported is noted."""
    strategy, limits = _strategy(router)
    retries, group_retries, policy = _retries(router, litellm)
    aliases, hidden = _aliases(litellm, router)
    settings = Settings(
        strategy=strategy,
        retries=retries,
        group_retries=group_retries,
        policy=policy,
        breaker=_breaker(router, litellm),
        timeout=_first(router.number("timeout"), litellm.number("request_timeout")),
        stream_timeout=router.number("stream_timeout"),
        max_parallel=router.whole("default_max_parallel_requests") or 0,
        limits=limits,
        drop_params=bool(litellm.flag("drop_params")),
        verify_tls=litellm.flag("ssl_verify") is not False,
        fallbacks=_all_fallbacks(router, litellm),
        aliases=aliases,
        hidden=hidden,
        checks=bool(router.flag("enable_pre_call_checks")),
        vertex={
            name: text
            for name in ("project", "location")
            if (text := litellm.text(f"vertex_{name}"))
        },
    )
    router.rest(_ROUTER_REASONS, frozenset({"set_verbose", "debug_level", "polling_interval"}))
    litellm.rest(_LITELLM_REASONS, _HARMLESS)
    return settings


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _strategy(router: Section) -> tuple[Strategy, bool]:
    """The strategy, and whether rpm and tpm bound a deployment.

    LiteLLM enforces them with usage-based routing and when it checks before each call; otherwise
    they only weigh.
    """
    name = router.scalar("routing_strategy")
    chosen: Strategy = "weighted"
    if name is not None:
        if name.text in ALIASES:
            chosen = ALIASES[name.text]
        else:
            message = f"{name.text!r} is not known; requests are spread by weight"
            router.report.note(name.place, message)
    checks = router.texts("optional_pre_call_checks")
    for check in checks:
        if check in _AFFINITY and chosen == "weighted":
            chosen = _AFFINITY[check]
        elif check not in _AFFINITY and check != "enforce_model_rate_limits":
            place = router.place_of("optional_pre_call_checks")
            router.report.note(place, f"{check!r} is not supported, and left out")
    before = bool(router.flag("enable_pre_call_checks"))
    limits = before or chosen == "lowest_usage" or "enforce_model_rate_limits" in checks
    return chosen, limits


def _retries(router: Section, litellm: Section) -> tuple[Retries, dict[str, int], bool]:
    """For every route, for single groups, and whether the first is a policy."""
    attempts = _first(router.number("num_retries"), litellm.number("num_retries"))
    policy = _most_retries(router.section("retry_policy"))
    retries = Retries()
    tries = policy if policy is not None else attempts
    if tries is not None:
        retries = msgspec.structs.replace(retries, attempts=min(int(tries), MAX_RETRIES))
    wait = router.number("retry_after")
    if wait:
        longest = max(wait, retries.longest)
        retries = msgspec.structs.replace(retries, base=wait, longest=longest)
    groups = router.section("model_group_retry_policy")
    found = {}
    for group, node in groups.entries():
        tries = _most_retries(Section(node, groups.place, groups.report))
        if tries is not None:
            found[group] = min(int(tries), MAX_RETRIES)
    return retries, found, policy is not None


def _most_retries(policy: Section) -> float | None:
    """The most tries of a policy by kind of error; None when there is none."""
    numbers = [
        number for name, _ in policy.entries() if (number := policy.number(name)) is not None
    ]
    if not numbers:
        return None
    if len(set(numbers)) > 1:
        message = f"one number of tries holds for every kind of error: {int(max(numbers))}"
        policy.report.note(policy.place, message)
    return max(numbers)


def _breaker(router: Section, litellm: Section) -> Breaker:
    breaker = Breaker()
    fails = _first(router.number("allowed_fails"), litellm.number("allowed_fails"))
    if fails is not None:
        # So many may fail; the next one is too many.
        breaker = msgspec.structs.replace(breaker, failures=int(fails) + 1)
    cooldown = _first(router.number("cooldown_time"), litellm.number("cooldown_time"))
    if cooldown:
        breaker = msgspec.structs.replace(breaker, cooldown=cooldown)
    if router.flag("disable_cooldowns"):
        breaker = Breaker(failures=_NEVER, ratio=1.0, least=_NEVER)
    return breaker


def _all_fallbacks(router: Section, litellm: Section) -> dict[str, dict[str, tuple[str, ...]]]:
    found = {}
    for kind, name in (
        ("error", "fallbacks"),
        ("context_window", "context_window_fallbacks"),
        ("content_policy", "content_policy_fallbacks"),
    ):
        found[kind] = {**_fallbacks(litellm, name), **_fallbacks(router, name)}
    default = router.texts("default_fallbacks") or litellm.texts("default_fallbacks")
    if default:
        found["error"].setdefault("*", default)
    return found


def _fallbacks(section: Section, name: str) -> dict[str, tuple[str, ...]]:
    """[{group: [names]}, ...] as one table."""
    found: dict[str, tuple[str, ...]] = {}
    for item in section.items(name):
        if not isinstance(item, Mapping):
            section.report.note(item.place, "expected a group with a list of models; left out")
            continue
        for group, node in item.entries.items():
            names = node.items if isinstance(node, Sequence) else (node,)
            for other in names:
                if not isinstance(other, Scalar):
                    section.report.note(other.place, "expected the name of a model; left out")
            texts = [section.resolved(other) for other in names if isinstance(other, Scalar)]
            found[group] = tuple(text.text for text in texts if isinstance(text, Scalar))
    return found


def _aliases(*sections: Section) -> tuple[dict[str, str], frozenset[str]]:
    """``model_group_alias``: a name, or {model: name, hidden: bool}. A later section wins.

    Alias -> group, and which aliases are not listed.
    """
    found: dict[str, str] = {}
    hidden: dict[str, bool] = {}
    for section in sections:
        inner = section.section("model_group_alias")
        for alias, node in inner.entries():
            hides = None
            if isinstance(node, Mapping):
                more = Section(node, node.place, section.report)
                hides = more.flag("hidden")
                node = node.entries.get("model", node)
            named = inner.resolved(node)
            if isinstance(named, Scalar):
                found[alias] = named.text
                hidden[alias] = bool(hides)
    return found, frozenset(alias for alias, hides in hidden.items() if hides)
