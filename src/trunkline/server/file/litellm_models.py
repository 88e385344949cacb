"""LiteLLM's `model_list`: each entry becomes a backend and a target."""

from __future__ import annotations

from collections.abc import Mapping as Environ
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from trunkline.backends.config import BackendConfig, Timeouts
from trunkline.backends.connect import Unusable, check
from trunkline.backends.kinds import ALIASES, KINDS, Kind
from trunkline.gateway.config import Target
from trunkline.server.file.document import Mapping, Scalar
from trunkline.server.file.litellm_calls import call_defaults
from trunkline.server.file.litellm_settings import Settings
from trunkline.server.file.names import (
    RESPONSES,
    ProviderModel,
    UnknownProvider,
    UnsupportedProvider,
    complete,
    kind_of,
    parse_name,
    unique,
)
from trunkline.server.file.problems import Place
from trunkline.server.file.section import Report, Section

_MILLION = 1_000_000
_URLS = ("api_base", "base_url", "aws_bedrock_runtime_endpoint")
# LiteLLM's parameter -> name in `BackendConfig.provider`.
_PROVIDER = {
    "api_version": "api_version",
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "aws_region_name": "region",
    # The older names first: the others win.
    "vertex_ai_project": "project",
    "vertex_ai_location": "location",
    "vertex_project": "project",
    "vertex_location": "location",
}
_CREDENTIALS = ("vertex_credentials", "vertex_ai_credentials")
# Field of a backend -> LiteLLM's parameters that it comes of, the usual one first.
_SOURCES = {
    "api_key": ("api_key", *_CREDENTIALS),
    "url": _URLS,
    "headers": ("extra_headers", "headers"),
    "provider.project": ("vertex_project", "vertex_ai_project"),
    "provider.location": ("vertex_location", "vertex_ai_location"),
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
_HARMLESS = frozenset(
    {
        "max_retries",
        "use_in_pass_through",
        "merge_reasoning_content_in_choices",
        # What cannot be taken is left out alone; the others pass in any case.
        "allowed_openai_params",
    }
)
# What of `model_info` does something in LiteLLM; the rest only informs.
_INFO_REASONS = {
    "team_id": "there are no teams: whoever has a key may use it",
    "access_groups": "there are no groups of keys: whoever has a key may use it",
    "access_windows": "it answers at any time",
    "blocked": "it is not blocked; take the entry out",
    "supported_environments": "it answers in every environment",
}
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


# Models of which the client names the provider, too.
_ANY = ("*", "*/*")
# Beginning of a group that has all models of a provider -> names that belong to it although it does
# not stand in front of them. LiteLLM knows them by its list of models (`inferred_provider`).
WELL_KNOWN = {
    "openai": ("gpt-*", "chatgpt-*", "o1*", "o3*", "o4*"),
    "anthropic": ("claude-*",),
    "vertex_ai": ("gemini-*",),
    "gemini": ("gemini-*",),
    "mistral": ("mistral-*",),
    "cohere": ("command-*",),
    "cohere_chat": ("command-*",),
}


class Deployment(msgspec.Struct, frozen=True):
    """One entry of the list."""

    group: str
    backend: BackendConfig
    target: Target
    place: Place
    # What LiteLLM weighs by, best first.
    weights: tuple[float, float, float] = (0.0, 0.0, 0.0)
    # Tries after the first; None = as for the others.
    retries: int | None = None


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
        elif name.text in _ANY and not url and not params.text("custom_llm_provider"):
            found = self._any(params, info, group, name)
        else:
            found = self._one(params, info, group.text, name, url)
        own = entry.whole("num_retries")
        found = [self._with_retries(one, params, own) for one in found]
        if found:
            entry.rest({})
            params.rest(_REASONS, _HARMLESS)
            self._info(info)
        return found

    def _with_retries(self, one: Deployment, params: Section, own: int | None) -> Deployment:
        inner = params.whole("num_retries")
        retries = own if inner is None else inner
        return one if retries is None else msgspec.structs.replace(one, retries=retries)

    def _info(self, info: Section) -> None:
        """Note what of `model_info` would do something in LiteLLM."""
        mode = info.text("mode")
        if mode in _OTHER_MODES:
            self.report.note(info.place_of("mode"), f"requests of mode {mode!r} are not served")
        for name in info.names():
            if name in _INFO_REASONS:
                self.report.note(info.place_of(name), _INFO_REASONS[name])
            elif name == "max_input_tokens" and self.settings.checks:
                message = "prompts are not counted before a call; longer ones go there, too"
                self.report.note(info.place_of(name), message)

    def _one(
        self, params: Section, info: Section, group: str, name: Scalar, url: str
    ) -> list[Deployment]:
        found = self._provider(params, name, url)
        if found is not None and info.text("mode") == "responses":
            found = _by_responses(found)
        backend = self._backend(params, found, url) if found is not None else None
        if found is None or backend is None:
            return []
        model = _of_wildcard(group, found)
        target = self._target(params, info, backend.name, model)
        weight, rpm, tpm = (params.number(key) or 0.0 for key in ("weight", "rpm", "tpm"))
        return [Deployment(group, backend, target, params.place, (weight, rpm, tpm))]

    def _any(self, params: Section, info: Section, group: Scalar, name: Scalar) -> list[Deployment]:
        """The model is what the client names: with its provider, which the group may tell."""
        if group.text in _ANY:
            return self._everything(params, group.place)
        prefix, _, rest = group.text.partition("/")
        if rest == "*" and kind_of(prefix):
            return self._one(
                params, info, group.text, msgspec.structs.replace(name, text=group.text), ""
            )
        self.report.note(name.place, "it does not say whose model it is; the entry is left out")
        return []

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
            names += [(name, name) for name in WELL_KNOWN.get(kind.name, ())]
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
            if not url or isinstance(error, UnsupportedProvider):
                self.report.note(name.place, f"{error}; the entry is left out")
                return None
            model = text.partition("/")[2] or text
            self.report.note(name.place, f"{error}; taken for a server with OpenAI's API")
            return ProviderModel("openai-compatible", model)
        host = urlsplit(url).hostname or ""
        if found.kind == "openai" and url and not host.endswith("openai.com"):
            # The prefix says which API is spoken there, not whose server it is.
            kind = "responses-compatible" if found.dialect else "openai-compatible"
            found = msgspec.structs.replace(found, kind=kind)
        return found

    def _backend(self, params: Section, found: ProviderModel, url: str) -> BackendConfig | None:
        headers = {**params.table("headers"), **params.table("extra_headers")}
        organization = params.text("organization")
        if organization:
            headers["OpenAI-Organization"] = organization
        token = params.text("azure_ad_token")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        kind = KINDS[found.kind]
        calls = call_defaults(params, kind, found.model)
        config = complete(
            BackendConfig(
                name="?",
                kind=found.kind,
                url=url,
                api_key=params.text("api_key"),
                dialect=found.dialect or calls.dialect,
                headers=headers,
                default_body=calls.body,
                extra_body=self._extra(params),
                unsupported=self._unsupported(params),
                verify_tls=self.settings.verify_tls and params.flag("ssl_verify") is not False,
                timeouts=self._timeouts(params),
                provider={**found.provider, **self._values(params, found.kind)},
            ),
            self._environ,
        )
        if kind.auth == "gcp":
            config = self._with_google(params, config)
        if not (config.url or kind.url):
            message = f"{kind.title} has no URL of its own; give api_base. The entry is left out"
            self.report.note(params.place, message)
            return None
        try:
            check(config, self._environ)
        except Unusable as error:
            self._left_out(params, error, kind)
            return None
        if found.kind == "openai-compatible" and url and not config.api_key:
            message = "no api_key, so none is sent; OPENAI_API_KEY does not go to other servers"
            self.report.note(params.place, message)
        return self._shared(config)

    def _left_out(self, params: Section, error: Unusable, kind: Kind) -> None:
        """Note that an entry is left out, at that of its parameters which is the reason."""
        sources = _SOURCES.get(error.field, (error.field,))
        if kind.auth == "gcp" and error.field == "api_key":
            sources = ("GOOGLE_APPLICATION_CREDENTIALS", *_CREDENTIALS)
        given = next((name for name in sources if name in params.names()), "")
        place = params.place_of(given) if given else params.place
        what = "" if given else f"{sources[0]}: "
        self.report.note(place, f"{what}{error.problem}; the entry is left out")

    def _with_google(self, params: Section, config: BackendConfig) -> BackendConfig:
        """With Google's credentials, a file or its text, and the project that they are of."""
        given = next((name for name in _CREDENTIALS if params.take(name) is not None), "")
        inline = params.plain(given) if given else None
        text = params.text(given) if isinstance(inline, str) else ""
        if isinstance(inline, dict):
            text = msgspec.json.encode(inline).decode()
        provider = {**self.settings.vertex, **config.provider}
        if text.lstrip().startswith("{"):
            config = msgspec.structs.replace(config, api_key=text.lstrip())
        elif text:
            provider["credentials"] = text
        path = provider.get("credentials", "")
        if "project" not in provider and (project := _project(config.api_key, path)):
            provider["project"] = project
        return msgspec.structs.replace(config, provider=provider)

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


def _of_wildcard(group: str, found: ProviderModel) -> str:
    """The model to ask for, which may have fewer `*` than the group: then the group's name counts.

    As LiteLLM asks for the name that the client gave, less its provider.
    """
    if not 0 < found.model.count("*") < group.count("*"):
        return found.model
    prefix, _, rest = group.partition("/")
    return rest if kind_of(prefix) == found.kind else group


def _by_responses(found: ProviderModel) -> ProviderModel:
    """The same, asked by OpenAI's newer operation, where its kind is known to have that."""
    if found.kind == "openai-compatible":
        found = msgspec.structs.replace(found, kind="responses-compatible")
    has = RESPONSES in KINDS[found.kind].paths
    return msgspec.structs.replace(found, dialect=RESPONSES) if has else found


def _project(text: str, path: str) -> str:
    """The project of a service account; "" where none can be found out."""
    try:
        data = text.encode() if text.startswith("{") else Path(path).read_bytes() if path else b""
        return msgspec.json.decode(data, type=_Account).project_id
    except (OSError, msgspec.DecodeError):
        # Whoever uses them says what is wrong with them.
        return ""


class _Account(msgspec.Struct):
    project_id: str = ""


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
