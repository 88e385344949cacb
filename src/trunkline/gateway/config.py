"""Routes: which backends answer to a name, and how to choose among them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Strategy = Literal[
    "weighted",
    "round_robin",
    "least_busy",
    "lowest_latency",
    "lowest_cost",
    "lowest_usage",
    "power_of_two",
    "prefix_affinity",
    "session_affinity",
]


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of one backend, within a route."""

    backend: Annotated[str, Meta(description="Name of the backend.")]
    model: Annotated[str, Meta(description="Model there; empty = the only one that it has.")] = ""
    weight: Annotated[float, Meta(ge=0, description="Share of the requests.")] = 1.0
    order: Annotated[
        int, Meta(description="Targets of a higher order are asked only when the lower cannot.")
    ] = 0
    arm: Annotated[str, Meta(description="Arm of the A/B split that it belongs to.")] = ""
    input_cost: Annotated[float, Meta(ge=0, description="Dollars per million prompt tokens.")] = 0
    output_cost: Annotated[float, Meta(ge=0, description="Dollars per million output tokens.")] = 0
    max_parallel: Annotated[
        int, Meta(ge=0, description="Most requests at a time; 0 = no bound.")
    ] = 0
    rpm: Annotated[int, Meta(ge=0, description="Most requests a minute; 0 = no bound.")] = 0
    tpm: Annotated[int, Meta(ge=0, description="Most tokens a minute; 0 = no bound.")] = 0


class Retries(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often to try again before the first byte has gone out."""

    attempts: Annotated[
        int,
        Meta(
            ge=0,
            le=20,
            description="Tries after the first; each order is asked once, come what may.",
        ),
    ] = 2
    base: Annotated[float, Meta(gt=0, description="Seconds before the first one.")] = 0.25
    longest: Annotated[float, Meta(gt=0, description="Most seconds between two.")] = 8.0
    retry_after: Annotated[
        float, Meta(ge=0, description="Longest Retry-After that a request waits for.")
    ] = 10.0


class Breaker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to leave a target alone for a while."""

    failures: Annotated[int, Meta(ge=1, description="Failures in a row.")] = 5
    ratio: Annotated[
        float, Meta(gt=0, le=1, description="Share of failures within the window.")
    ] = 0.5
    least: Annotated[
        int, Meta(ge=1, description="Requests in the window before the share counts.")
    ] = 10
    window: Annotated[float, Meta(gt=0, description="Seconds that are looked at.")] = 60.0
    cooldown: Annotated[float, Meta(gt=0, description="Seconds until one request may try.")] = 5.0


class Fallbacks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names of routes to go on with, in order, by what went wrong."""

    error: Annotated[
        tuple[str, ...],
        Meta(description="After any failure, also where a backend finds the request wrong."),
    ] = ()
    context_window: Annotated[
        tuple[str, ...], Meta(description="When the prompt is too long.")
    ] = ()
    content_policy: Annotated[
        tuple[str, ...], Meta(description="When the provider refuses the prompt.")
    ] = ()
    rate_limit: Annotated[
        tuple[str, ...], Meta(description="When all targets are at their limits.")
    ] = ()


class Hedge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ask a second target when the first is slow; whoever answers first wins."""

    after: Annotated[float, Meta(gt=0, description="Seconds without a first byte.")]
    most: Annotated[int, Meta(ge=1, le=4, description="Most further targets.")] = 1


class Shadow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Send a copy of some requests elsewhere; the answer to the client is never affected."""

    route: Annotated[str, Meta(description="Where the copies go.")]
    share: Annotated[float, Meta(ge=0, le=1, description="Share of the requests.")] = 1.0
    most: Annotated[int, Meta(ge=1, description="Most copies under way.")] = 16


class RouteConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name that clients may ask for, and who answers."""

    name: Annotated[str, Meta(min_length=1, description="The model name that clients send.")]
    targets: tuple[Target, ...] = ()
    aliases: Annotated[tuple[str, ...], Meta(description="Further names of it.")] = ()
    strategy: Annotated[Strategy, Meta(description="How to choose among targets.")] = "weighted"
    retries: Retries = Retries()
    breaker: Breaker = Breaker()
    fallbacks: Fallbacks = Fallbacks()
    hedge: Hedge | None = None
    shadow: Shadow | None = None
    sticky: Annotated[
        bool, Meta(description="Keep a user (else a key) on the arm it was first given.")
    ] = True
    continue_streams: Annotated[
        bool, Meta(description="Let another backend go on with an answer that broke off.")
    ] = True
    timeout: Annotated[
        float, Meta(ge=0, description="Seconds for the whole call, retries included; 0 = none.")
    ] = 0.0
    queue: Annotated[
        int, Meta(ge=0, description="Most requests that wait for a target at its limits.")
    ] = 256
    queue_timeout: Annotated[float, Meta(gt=0, description="Seconds that they may wait.")] = 30.0
