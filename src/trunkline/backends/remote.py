"""A server that we reach over HTTP, as a backend."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgspec

from trunkline.backends.config import BackendConfig
from trunkline.backends.http.ticker import Ticker
from trunkline.backends.kept import ask_kept
from trunkline.backends.kind import Kind
from trunkline.backends.lane import Lane, lane_of
from trunkline.backends.remote_call import Refusal, RemoteCall, UnderWay
from trunkline.backends.site import Site, fill
from trunkline.backends.tokens import Tokens
from trunkline.core.errors import TrunklineError, Unsupported, UpstreamRefused, response_not_found
from trunkline.core.types import (
    Abilities,
    BackendStats,
    Call,
    ChatInput,
    EventSink,
    Health,
    Input,
    KeptAsk,
    MixedInput,
    ModelCard,
    RawRequest,
    Request,
    TextInput,
    Tokenization,
    TokensInput,
)
from trunkline.wire.client import Feature, Outgoing, Speaker, Terms

_CHAT = (ChatInput,)
_PROMPT = (TextInput, TokensInput, MixedInput)
# Operation -> what it can express best. Others are asked when none of these is spoken, so that the
# dialect itself says what it lacks.
_TAKES: Mapping[str, tuple[type, ...]] = {
    "openai.chat": _CHAT,
    "openai.responses": _CHAT,
    "openai.completions": _PROMPT,
    "anthropic.messages": _CHAT,
    "ollama.chat": _CHAT,
    "ollama.generate": (TextInput,),
    "tgi.generate": (TextInput,),
    "llamacpp.completion": _PROMPT,
    "kserve.generate": (TextInput,),
    "gemini.generate": _CHAT,
    "cohere.chat": _CHAT,
    "bedrock.converse": _CHAT,
}
_RESPONSES = "openai.responses"
# Models whose terms are remembered; clients may name any where a route passes names on.
_MAX_TERMS = 1024


class Conformance(msgspec.Struct, frozen=True, kw_only=True):
    """What a server was found to do, beside what its kind says."""

    gained: frozenset[Feature] = frozenset()
    lost: frozenset[Feature] = frozenset()
    # Operation -> whether it is there.
    operations: Mapping[str, bool] = {}
    # What was seen, for people: "tools: refused (400)".
    notes: tuple[str, ...] = ()


class RemoteBackend:
    """Implements `core.types.Backend`. `watch.Watcher` keeps health, load and models up to date."""

    def __init__(
        self,
        config: BackendConfig,
        kind: Kind,
        site: Site,
        speakers: Mapping[str, Speaker],
        ticker: Ticker,
        values: Mapping[str, str] | None = None,
        missing: str = "",
    ) -> None:
        self.name = config.name
        self.title = f"backend {config.name!r}"
        self.config = config
        self.kind = kind
        self.site = site
        self.ticker = ticker
        self.timeouts = config.timeouts
        self.heard = False
        self.conformance: Conformance | None = None
        self._values = values or {}
        # Why nothing can be sent: a key that is missing.
        self._missing = missing
        own = {op: speakers.get(f"{op}/{name}") for op, name in kind.platforms.items()}
        self._speakers = {**speakers, **{op: one for op, one in own.items() if one is not None}}
        self.calls: set[UnderWay] = set()
        # True: the ticker has us.
        self.watched = False
        self._time = site.pool.loop.time
        self._terms: dict[tuple[str, str], Terms] = {}
        # By model and operation, as long as what they rest on holds.
        self._lanes: dict[tuple[str, str], Lane | None] = {}
        self._listed: dict[str, ModelCard] = {}
        self._stats: BackendStats | None = None
        # As of `Holder`: it tells which models are in memory.
        self.loads = kind.metrics is not None and kind.metrics.shape == "ollama"
        self._resident: frozenset[str] | None = None
        self._health = Health("ready")
        if missing:
            self._health = Health("failed", missing)
        elif not kind.hosted and kind.health is not None:
            self._health = Health("starting", "not checked yet")
        self._settle()

    def _settle(self) -> None:
        """Work out what is spoken and what is taken, of kind, probe and configuration."""
        found = self.conformance or Conformance()
        features = set(self.kind.features) | found.gained
        features -= found.lost
        for name, there in self.config.features.items():
            (features.add if there else features.discard)(name)  # type: ignore[arg-type]
        self.features: frozenset[Feature] = frozenset(features)
        given = frozenset(name for name, there in self.config.features.items() if there)
        self._without = {op: lacks - given for op, lacks in self.kind.without.items()}
        self._forget_terms()
        paths = dict(self.kind.paths)
        for operation, there in found.operations.items():
            if there:
                paths.setdefault(operation, "")
            else:
                paths.pop(operation, None)
        dialect = self.config.dialect
        if dialect:
            paths = {
                operation: path
                for operation, path in paths.items()
                if operation == dialect or operation.startswith(dialect + ".")
            }
        self._paths = {op: path for op, path in paths.items() if op in self._speakers}
        order = dict.fromkeys((*self.kind.preferred, *self._paths))
        self._spoken = tuple(self._speakers[op] for op in order if op in self._paths)
        self._suited: dict[type, tuple[Speaker, ...]] = {}
        self._tokens = Tokens(self.kind.tokens, self.site, self._speakers, self.name)

    # core.types.Backend

    def submit(self, request: Request, sink: EventSink) -> Call:
        """Translate to the dialect that fits best, and send."""
        try:
            speaker, terms, outgoing = self._encode(request)
            streams = "stream" in terms.features
            return self._started(request, speaker, terms, outgoing, streams, sink)
        except TrunklineError as error:
            return Refusal(self.site.pool.loop, request.id, error, sink)

    def relays(self, operation: str) -> bool:
        """Whether the server speaks that dialect itself."""
        return operation in self._paths

    def relay(self, raw: RawRequest, sink: EventSink) -> Call:
        """Send the body nearly as it is; what asks for a stream that cannot be, or a model that
        does not speak the dialect, is translated.
        """
        try:
            operation = raw.operation
            speaker = self._speakers[operation]
            terms = self._terms.get((raw.model, operation)) or self.terms(raw.model, operation)
            passes = not self.kind.only or self._speaks(operation, raw.model)
            if not passes or (raw.stream and "stream" not in terms.features):
                return self.submit(msgspec.structs.replace(raw.translate(), model=raw.model), sink)
            outgoing = speaker.patch(raw, terms)
            return self._started(raw, speaker, terms, outgoing, raw.stream, sink)
        except TrunklineError as error:
            return Refusal(self.site.pool.loop, raw.id, error, sink)

    def lane(self, model: str, operation: str) -> Lane | None:
        """The short way for calls that want a whole answer; None: there is none now."""
        key = (model, operation)
        if key not in self._lanes:
            if len(self._lanes) >= _MAX_TERMS:
                self._forget_terms()
            lane = None
            if operation in self._paths and self._speaks(operation, model) and not self._missing:
                lane = lane_of(self, self._speakers[operation], self.terms(model, operation))
            self._lanes[key] = lane
        return self._lanes[key] if self.site.auth.ready else None

    def adopt(
        self, raw: RawRequest, outgoing: Outgoing, sink: EventSink, began: float
    ) -> RemoteCall:
        """As of `LaneOwner`."""
        speaker, terms = self._speakers[raw.operation], self.terms(raw.model, raw.operation)
        path = self.reach(raw.operation, raw.model, outgoing.path)
        call = RemoteCall(self, raw, speaker, terms, outgoing, path, raw.stream, sink, began, began)
        self.calls.add(call)
        return call

    def reach(self, operation: str, model: str, path: str) -> str:
        """As of `LaneOwner`."""
        template = self._paths.get(operation)
        return fill(template, self._values, model, path) if template else path

    def trial(self, operation: str, model: str, path: str) -> str | None:
        """Where to try whether the server speaks a dialect whose own path is `path`.

        None: it speaks it in a way of its own, or `model` does not speak it.
        """
        kind = self.kind
        if operation in kind.platforms or not self._speaks(operation, model):
            return None
        return fill(kind.paths.get(operation, ""), self._values, model, path)

    def watch(self) -> None:
        """As of `LaneOwner`."""
        if not self.watched:
            self.watched = True
            self.ticker.add(self)

    async def count_tokens(self, request: Request) -> int:
        """Ask the server. Raises `TrunklineError`; `Unsupported` where it cannot tell."""
        return await self._tokens.count(request, self.terms(request.model))

    async def tokenize(self, request: Request) -> Tokenization:
        """Ask the server. Raises as `count_tokens`."""
        return await self._tokens.tokenize(request, self.terms(request.model))

    async def detokenize(self, token_ids: tuple[int, ...]) -> Tokenization:
        """Ask the server, about its first model. Raises as `count_tokens`."""
        models = self.models()
        return await self._tokens.detokenize(
            token_ids, self.terms(models[0].name if models else "")
        )

    async def kept(self, ask: KeptAsk) -> bytes:
        """As of `Keeper`: ask the server. Raises `TrunklineError`."""
        speaker = self._speakers.get(_RESPONSES)
        if speaker is None or _RESPONSES not in self._paths:
            raise response_not_found(ask.response_id)
        path = self.reach(_RESPONSES, "", "/v1/responses")
        return await ask_kept(self.site, speaker, path, ask)

    def models(self) -> tuple[ModelCard, ...]:
        """Those of the configuration, else those that the server lists."""
        if not self.config.models:
            return tuple(self._listed.values())
        unknown = functools.partial(ModelCard, context_length=0, owned_by=self.kind.name)
        return tuple(self._listed.get(name) or unknown(name) for name in self.config.models)

    def health(self) -> Health:
        """As the last check found it."""
        return self._health

    def stats(self) -> BackendStats:
        """What the server told last; what we know is under way there counts in any case."""
        own = len(self.calls)
        told = self._stats
        if told is None:
            return BackendStats(running=own)
        if told.running + told.waiting >= own:
            return told
        return msgspec.structs.replace(told, running=own - told.waiting)

    def holds(self, model: str) -> bool:
        """As of `Holder`. Ollama takes a name without a tag for one with the tag `latest`."""
        resident = self._resident
        return resident is None or model in resident or f"{model}:latest" in resident

    def abilities(self) -> Abilities:
        """As of `Able`."""
        found = self.conformance or Conformance()
        return Abilities(
            passes=tuple(self._paths), features=tuple(sorted(self.features)), probed=found.notes
        )

    # for the watcher

    def set_health(self, health: Health) -> None:
        """What a check found."""
        self._health = health

    def set_stats(self, stats: BackendStats) -> None:
        """What a scrape brought."""
        self._stats = stats
        if self.loads:
            self._resident = frozenset(stats.resident_models)

    def set_models(self, cards: tuple[ModelCard, ...]) -> None:
        """What the server lists."""
        listed = {card.name: card for card in cards}
        if listed != self._listed:
            self._listed = listed
            self._forget_terms()

    def learn(self, found: Conformance) -> None:
        """What a probe found decides from now on what is passed through, translated or refused."""
        self.conformance = found
        self._settle()

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return len(self.calls)

    # http.ticker.Watched

    def check(self, now: float) -> None:
        """Time limits of the calls under way."""
        for call in tuple(self.calls):
            call.check(now)
        if not self.calls:
            self.watched = False
            self.ticker.discard(self)

    def cut(self) -> None:
        """Cancel all calls under way; their sinks hear nothing more."""
        for call in tuple(self.calls):
            call.cancel()

    def terms(self, model: str, operation: str = "") -> Terms:
        """What the server takes for `model`, with `operation` in particular."""
        terms = self._terms.get((model, operation))
        if terms is None:
            if len(self._terms) >= _MAX_TERMS:
                self._forget_terms()
            card = self._listed.get(model)
            terms = self._terms[model, operation] = Terms(
                model=model,
                features=self.features - self._without.get(operation, frozenset()),
                context_length=card.context_length if card else 0,
                unsupported=self.config.unsupported,
                default_body=self.config.default_body,
                extra_body=self.config.extra_body,
                hosted=self.kind.hosted,
            )
        return terms

    # internals

    def _forget_terms(self) -> None:
        self._terms.clear()
        for lane in self._lanes.values():
            if lane is not None:
                lane.open = False
        self._lanes.clear()

    def _encode(self, request: Request) -> tuple[Speaker, Terms, Outgoing]:
        """The first dialect that can express all of `request`, else the preferred one that leaves
        out least. Raises what the first of them says.
        """
        first: Unsupported | None = None
        best: tuple[Speaker, Terms, Outgoing] | None = None
        for speaker in self._candidates(request.input):
            if best is not None and speaker.operation not in self.kind.preferred:
                break
            if not self._speaks(speaker.operation, request.model):
                continue
            terms = self.terms(request.model, speaker.operation)
            try:
                outgoing = speaker.encode(request, terms)
            except Unsupported as error:
                first = first or error
                continue
            if not outgoing.dropped:
                return speaker, terms, outgoing
            if best is None or len(outgoing.dropped) < len(best[2].dropped):
                best = speaker, terms, outgoing
        if best is not None:
            return best
        raise first or Unsupported(f"{self.title} speaks no dialect that we know")

    def _speaks(self, operation: str, model: str) -> bool:
        """Whether `model` does, of a server that speaks `operation`."""
        if not self.kind.only:
            return True
        name = model.lower()
        own = [op for op, part in self.kind.only.items() if part in name]
        return operation in own if own else operation not in self.kind.only

    def _candidates(self, given: Input) -> tuple[Speaker, ...]:
        kind = type(given)
        found = self._suited.get(kind)
        if found is None:
            suited = tuple(s for s in self._spoken if kind in _TAKES.get(s.operation, ()))
            found = self._suited[kind] = suited or self._spoken
        return found

    def _started(
        self,
        asked: Request | RawRequest,
        speaker: Speaker,
        terms: Terms,
        outgoing: Outgoing,
        streams: bool,
        sink: EventSink,
    ) -> Call:
        if self._missing:
            raise UpstreamRefused(f"{self.title} cannot be asked: {self._missing}")
        path = self.reach(speaker.operation, terms.model, outgoing.path)
        now = self._time()
        call = RemoteCall(self, asked, speaker, terms, outgoing, path, streams, sink, now, now)
        self.calls.add(call)
        try:
            call.start()
        except TrunklineError:
            call.cancel()
            raise
        self.watch()
        return call
