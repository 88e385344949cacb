"""LiteLLM's `model_list`: each entry becomes a backend and a target."""

from __future__ import annotations

from collections.abc import Mapping as Environ
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from trunkline.backends.config import BackendConfig, Timeouts
from trunkline.backends.connect import Unusable, check
from trunkline.backends.kinds import ALIASES, KINDS, Kind
from trunkline.gateway.config import Target
from trunkline.server.file.document import Mapping, Scalar
from trunkline.server.file.litellm_settings import Settings
from trunkline.server.file.names import (
    ProviderModel,
    UnknownProvider,
    complete,
    parse_name,
    unique,
)
from trunkline.server.file.problems import Place
from trunkline.server.file.section import Report, Section

_MILLION = 1_000_000
_URLS = ("api_base", "base_url", "aws_bedrock_runtime_endpoint")
# Parameters of calls that an entry may set for all of its requests.
_CALL_PARAMETERS = (
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "reasoning_effort",
    "top_k",
    "min_p",
    "repetition_penalty",
)
# Dialects that call these alike, at the top of their bodies.
_SAME_NAMES = ("openai", "anthropic")
# LiteLLM's parameter -> name in `BackendConfig.provider`.
_PROVIDER = {
    "api_version": "api_version",
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "aws_region_name": "region",
    "vertex_project": "project",
    "vertex_location": "location",
    "vertex_credentials": "credentials",
}
_ROLES = "credentials by role or profile are not fetched; give keys, or set AWS's variables"
_REASONS = {
    "aws_role_name": _ROLES,
    "aws_session_name": _ROLES,
    "aws_profile_name": _ROLES,
    "aws_web_identity_token": _ROLES,
    "tenant_id": "Azure's tokens are not fetched; give an api_key or azure_ad_token",
    "client_id": "Azure's tokens are not fetched; give an api_key or azure_ad_token",
    "client_secret": "Azure's tokens are not fetched; give an api_key or azure_ad_token",
    "mock_response": "answers are not made up; left out",
    "silent_model": "write a route with `shadow` in trunkline.yaml",
    "tags": "tags do not choose among targets; left out",
    "max_budget": "budgets are not kept; left out",
    "budget_duration": "budgets are not kept; left out",
}
_HARMLESS = frozenset({"max_retries", "use_in_pass_through", "merge_reasoning_content_in_choices"})
# What a model may be for, besides chat and completions.
_OTHER_MODES = frozenset(
    {
        "embedding",
        "rerank",
        "image_generation",
        "audio_speech",
        "audio_transcription",
        "moderation",
        "batch",
        "realtime",
    }
)


# Names that belong to a provider although it does not stand in front of them.
_WELL_KNOWN = {
    "openai": ("gpt-*", "chatgpt-*", "o1*", "o3*", "o4*"),
    "anthropic": ("claude-*",),
    "gemini": ("gemini-*",),
    "mistral": ("mistral-*",),
    "cohere": ("command-*",),
}


class Deployment(msgspec.Struct, frozen=True):
    """One entry of the list."""

    group: str
    backend: BackendConfig
    target: Target
    place: Place
    # What LiteLLM weighs by, best first.
    weights: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Deployments:
    """Collects backends; equal ones are one."""

    def __init__(self, settings: Settings, environ: Environ[str, str], report: Report) -> None:
        self.settings = settings
        self.report = report
        self._environ = environ
        # Everything but name and models -> the backend.
        self._known: dict[bytes, BackendConfig] = {}
        self._models: dict[str, dict[str, None]] = {}

    def backends(self) -> tuple[BackendConfig, ...]:
        """All backends, with the models that are asked of each."""
        return tuple(
            msgspec.structs.replace(backend, models=self._asked(backend.name))
            for backend in self._known.values()
        )

    def _asked(self, name: str) -> tuple[str, ...]:
        models = tuple(self._models[name])
        return () if any("*" in model for model in models) else models

    def read(self, entry: Section, credentials: dict[str, Mapping]) -> list[Deployment]:
        """One entry, which is several when its model is "*".

        Empty, with the reason noted, when nobody can answer it.
        """
        group = entry.scalar("model_name")
        params = _with_credentials(entry, credentials)
        name = params.scalar("model")
        if group is None or name is None:
            message = "an entry needs model_name, and litellm_params with model"
            self.report.problem(entry.place, message)
            return []
        info = entry.section("model_info")
        urls = [params.text(key) for key in _URLS if params.take(key) is not None]
        url = urls[0] if urls else ""
        found: list[Deployment] = []
        if urls and not url:
            # What was meant for one server must not go to the provider's public one.
            self.report.note(params.place, "its api_base is not known; the entry is left out")
        elif name.text == "*" and not url and not params.text("custom_llm_provider"):
            found = self._everything(params, entry.place)
        else:
            found = self._one(params, info, group.text, name, url)
        entry.rest({})
        params.rest(_REASONS, _HARMLESS)
        return found

    def _one(
        self, params: Section, info: Section, group: str, name: Scalar, url: str
    ) -> list[Deployment]:
        found = self._provider(params, name, url)
        backend = self._backend(params, found, url) if found is not None else None
        if found is None or backend is None:
            return []
        mode = info.text("mode")
        if mode in _OTHER_MODES:
            self.report.note(info.place_of("mode"), f"requests of mode {mode!r} are not served")
        target = self._target(params, info, backend.name, found.model)
        weight, rpm, tpm = (params.number(key) or 0.0 for key in ("weight", "rpm", "tpm"))
        return [Deployment(group, backend, target, params.place, (weight, rpm, tpm))]

    def _everything(self, params: Section, place: Place) -> list[Deployment]:
        """What "*" stands for: `provider/...` of each provider with a key, and well-known names."""
        found = []
        for kind in KINDS.values():
            if not (kind.hosted and any(self._environ.get(name) for name in kind.key_variables)):
                continue
            backend = self._backend(params, ProviderModel(kind.name, "*"), "")
            if backend is None:
                continue
            prefixes = [kind.name, *(name for name, other in ALIASES.items() if other == kind.name)]
            names = [(f"{prefix}/*", "*") for prefix in prefixes]
            names += [(name, name) for name in _WELL_KNOWN.get(kind.name, ())]
            for group, model in names:
                target = self._target(params, params.section("model_info"), backend.name, model)
                found.append(Deployment(group, backend, target, place))
        if not found:
            message = "no provider's key is set (OPENAI_API_KEY, ANTHROPIC_API_KEY, ...); left out"
            self.report.note(place, message)
        return found

    def of_name(self, name: str, place: Place) -> Target | None:
        """A target for a `provider/model` name outside the list, by what the environment says."""
        try:
            found = parse_name(name)
        except UnknownProvider:
            return None
        params = Section(Mapping(place), place, self.report)
        backend = self._backend(params, found, "")
        if backend is None:
            return None
        self._models[backend.name].setdefault(found.model)
        return Target(backend=backend.name, model=found.model)

    # Parts of an entry

    def _provider(self, params: Section, name: Scalar, url: str) -> ProviderModel | None:
        text = name.text
        provider = params.text("custom_llm_provider")
        if provider and not text.startswith(f"{provider}/"):
            text = f"{provider}/{text}"
        try:
            found = parse_name(text)
        except UnknownProvider as error:
            if not url:
                self.report.note(name.place, f"{error}; the entry is left out")
                params.ignore()
                return None
            model = text.partition("/")[2] or text
            self.report.note(name.place, f"{error}; taken for a server with OpenAI's API")
            return ProviderModel("openai-compatible", model)
        host = urlsplit(url).hostname or ""
        if found.kind == "openai" and url and not host.endswith("openai.com"):
            # The prefix says which API is spoken there, not whose server it is.
            found = msgspec.structs.replace(found, kind="openai-compatible")
        if found.kind == "vertex" and found.model.startswith("claude"):
            self.report.note(name.place, "Claude on Vertex AI is not supported; left out")
            params.ignore()
            return None
        return found

    def _backend(self, params: Section, found: ProviderModel, url: str) -> BackendConfig | None:
        headers = {**params.table("headers"), **params.table("extra_headers")}
        organization = params.text("organization")
        if organization:
            headers["OpenAI-Organization"] = organization
        token = params.text("azure_ad_token")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        config = complete(
            BackendConfig(
                name="?",
                kind=found.kind,
                url=url,
                api_key=params.text("api_key"),
                headers=headers,
                default_body=self._defaults(params, KINDS[found.kind]),
                extra_body=self._extra(params),
                unsupported=self._unsupported(params),
                verify_tls=self.settings.verify_tls and params.flag("ssl_verify") is not False,
                timeouts=self._timeouts(params),
                provider={**found.provider, **self._values(params, found.kind)},
            ),
            self._environ,
        )
        kind = KINDS[found.kind]
        if not (config.url or kind.url):
            message = f"{kind.title} has no URL of its own; give api_base. The entry is left out"
            self.report.note(params.place, message)
            return None
        try:
            check(config, self._environ)
        except Unusable as error:
            message = f"{error.field}: {error.problem}; the entry is left out"
            self.report.note(params.place, message)
            return None
        if found.kind == "openai-compatible" and url and not config.api_key:
            message = "no api_key, so none is sent; OPENAI_API_KEY does not go to other servers"
            self.report.note(params.place, message)
        return self._shared(config)

    def _shared(self, config: BackendConfig) -> BackendConfig:
        """The backend that is the same but for its name, or this one with a name of its own."""
        key = msgspec.json.encode(config, order="deterministic")
        known = self._known.get(key)
        if known is None:
            host = urlsplit(config.url).hostname if config.url else ""
            wanted = f"{config.kind}-{host}" if host else config.kind
            name = unique(wanted, {backend.name for backend in self._known.values()})
            known = self._known[key] = msgspec.structs.replace(config, name=name)
            self._models[name] = {}
        return known

    def _values(self, params: Section, kind: str) -> dict[str, str]:
        # A provider's own parameter comes later, and wins.
        region = {"region_name": "location" if kind == "vertex" else "region"}
        found = {}
        for name, field in {**region, **_PROVIDER}.items():
            value = params.text(name)
            if value:
                found[field] = value
        return found

    def _extra(self, params: Section) -> dict[str, object]:
        extra = params.plain("extra_body")
        return dict(extra) if isinstance(extra, dict) else {}

    def _defaults(self, params: Section, kind: Kind) -> dict[str, object]:
        """As there, what a client says for itself wins."""
        body: dict[str, object] = {}
        for name in _CALL_PARAMETERS:
            value = params.plain(name)
            if value is None:
                continue
            place = params.place_of(name)
            if kind.preferred[0].partition(".")[0] not in _SAME_NAMES:
                self.report.note(place, f"cannot be set for all requests to {kind.title}; left out")
                continue
            body[name] = value
        return body

    def _unsupported(self, params: Section) -> Literal["refuse", "drop"]:
        own = params.flag("drop_params")
        return "drop" if (self.settings.drop_params if own is None else own) else "refuse"

    def _timeouts(self, params: Section) -> Timeouts:
        """LiteLLM's timeouts bound each wait for a byte of an answer, as it gives them to httpx.

        So a whole answer must come within `timeout`, and a stream may take longer while it moves;
        `stream_timeout` is for streams alone.
        """
        timeouts = Timeouts()
        wait = params.number("timeout") or self.settings.timeout
        stream = params.number("stream_timeout") or self.settings.stream_timeout
        return Timeouts(
            first_token=wait or timeouts.first_token,
            idle=stream or wait or timeouts.idle,
            attempt=max(timeouts.attempt, wait or 0.0),
        )

    def _target(self, params: Section, info: Section, backend: str, model: str) -> Target:
        self._models[backend].setdefault(model)
        rpm, tpm = params.whole("rpm") or 0, params.whole("tpm") or 0
        parallel = params.whole("max_parallel_requests")
        return Target(
            backend=backend,
            model=model,
            order=params.whole("order") or 0,
            input_cost=_cost(params, info, "input_cost_per_token"),
            output_cost=_cost(params, info, "output_cost_per_token"),
            max_parallel=self.settings.max_parallel if parallel is None else parallel,
            rpm=rpm if self.settings.limits else 0,
            tpm=tpm if self.settings.limits else 0,
        )


def _cost(params: Section, info: Section, name: str) -> float:
    """Dollars per million tokens; LiteLLM gives them per token."""
    own, listed = params.number(name), info.number(name)
    return round((own if own is not None else listed or 0.0) * _MILLION, 9)


def _with_credentials(entry: Section, credentials: dict[str, Mapping]) -> Section:
    """The entry's parameters, over those of the credential that it names."""
    node = entry.take("litellm_params")
    params = Section(node, entry.place, entry.report)
    name = params.text("litellm_credential_name")
    if not name or not isinstance(node, Mapping):
        return params
    if name not in credentials:
        message = f"no credential is called {name!r}; left out"
        entry.report.note(params.place_of("litellm_credential_name"), message)
        return params
    base = credentials[name]
    merged = Mapping(
        node.place, {**base.entries, **node.entries}, {**base.keys, **node.keys}
    ).without("litellm_credential_name")
    return Section(merged, entry.place, entry.report)
