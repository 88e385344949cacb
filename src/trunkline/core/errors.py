"""The error tree. Every error that a caller can see is one of these.

    TrunklineError                  kind                  usual HTTP status
    ├── InvalidRequest              invalid_request       400
    │   ├── ContextOverflow         context_overflow      400
    │   ├── Unprocessable           unprocessable         422
    │   ├── Unsupported             unsupported           400
    │   ├── PreviousNotFound        previous_not_found    400
    │   └── ContentRefused          content_refused       400
    ├── Unauthenticated             unauthenticated       401
    ├── PermissionDenied            permission_denied     403
    ├── NotFound                    not_found             404
    │   └── ModelNotFound           model_not_found       404
    ├── MethodNotAllowed            method_not_allowed    405
    ├── RequestTimeout              request_timeout       408
    ├── PayloadTooLarge             payload_too_large     413
    ├── QueueFull                   queue_full            429
    │   └── RateLimited             rate_limited          429
    ├── Cancelled                   cancelled             499
    ├── InternalError               internal              500
    │   └── EngineCrashed           engine_crashed        500
    ├── UpstreamFailed              upstream_failed       502
    │   └── UpstreamRefused         upstream_refused      502
    ├── UpstreamTimeout             upstream_timeout      504
    └── Unavailable                 unavailable           503

A codec in ``wire/`` renders them in the dialect of the caller. Between processes they travel as
``ErrorInfo`` and come back as the same class through ``from_info``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec


class ErrorInfo(msgspec.Struct, frozen=True, array_like=True):
    """An error as it crosses a process boundary."""

    # `kind` of the class, the key of `from_info`.
    kind: str
    # One sentence: what was wrong, where, and what to do.
    message: str
    # The request field at fault, in the caller's spelling, or None.
    param: str | None = None
    # Seconds after which a retry makes sense, or None.
    retry_after: float | None = None


class TrunklineError(Exception):
    """Base of every error that a caller can see; `message` is shown to that caller as it is."""

    kind: ClassVar[str] = "internal"
    status: ClassVar[int] = 500

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        # Of the request that failed, told by who answers it; some dialects show it in the body.
        self.request_id = ""
        # Events (`core.types.Event`) of an answer that came in one piece with it, before it.
        self.before: Sequence[Any] = ()

    def info(self) -> ErrorInfo:
        """The same error as a value that can be sent to another process."""
        return ErrorInfo(self.kind, self.message, self.param, self.retry_after)


class InvalidRequest(TrunklineError):
    """The request is malformed or asks for something that makes no sense."""

    kind = "invalid_request"
    status = 400


class ContextOverflow(InvalidRequest):
    """Prompt, or prompt plus max_tokens, does not fit the context."""

    kind = "context_overflow"


class Unprocessable(InvalidRequest):
    """Well-formed, but a value is outside what is allowed (TGI's validation errors)."""

    kind = "unprocessable"
    status = 422


class Unsupported(InvalidRequest):
    """A known field that this model or backend cannot honour."""

    kind = "unsupported"


class PreviousNotFound(InvalidRequest):
    """The stored response that a request goes on from is not there."""

    kind = "previous_not_found"


class ContentRefused(InvalidRequest):
    """A provider's content policy refuses the prompt."""

    kind = "content_refused"


class Unauthenticated(TrunklineError):
    """No key, or a wrong one."""

    kind = "unauthenticated"
    status = 401


class PermissionDenied(TrunklineError):
    """The key is good but may not do this."""

    kind = "permission_denied"
    status = 403


class NotFound(TrunklineError):
    """No such path or object."""

    kind = "not_found"
    status = 404


def response_not_found(response_id: str) -> NotFound:
    """There is no stored response of that id, or not for who asks: OpenAI's words."""
    return NotFound(f"Response with id '{response_id[:100]}' not found.")


class ModelNotFound(NotFound):
    """No model of that name; the message lists those that exist."""

    kind = "model_not_found"


class MethodNotAllowed(TrunklineError):
    """The path exists, the method does not."""

    kind = "method_not_allowed"
    status = 405


class RequestTimeout(TrunklineError):
    """The client did not finish sending its request, or the answer took longer than allowed."""

    kind = "request_timeout"
    status = 408


class PayloadTooLarge(TrunklineError):
    """Body or headers over the limit."""

    kind = "payload_too_large"
    status = 413


class QueueFull(TrunklineError):
    """The waiting queue is at its bound; `retry_after` says when to come back."""

    kind = "queue_full"
    status = 429


class RateLimited(QueueFull):
    """A backend takes no more from us for now; `retry_after` is what it said, if it did."""

    kind = "rate_limited"


class Cancelled(TrunklineError):
    """The client went away, or the server is shutting down."""

    kind = "cancelled"
    status = 499


class InternalError(TrunklineError):
    """A fault of ours."""

    kind = "internal"
    status = 500


class EngineCrashed(InternalError):
    """The engine process died while this request was in flight."""

    kind = "engine_crashed"


class UpstreamFailed(TrunklineError):
    """A backend could not be reached, broke off, answered with a 5xx or what is no answer."""

    kind = "upstream_failed"
    status = 502


class UpstreamRefused(UpstreamFailed):
    """A backend refused our key, or does not know the model that it was configured for."""

    kind = "upstream_refused"


class UpstreamTimeout(TrunklineError):
    """A backend did not answer in time."""

    kind = "upstream_timeout"
    status = 504


class Unavailable(TrunklineError):
    """Nothing can answer now: loading, draining or restarting."""

    kind = "unavailable"
    status = 503


def _classes(base: type[TrunklineError]) -> dict[str, type[TrunklineError]]:
    found = {base.kind: base}
    for sub in base.__subclasses__():
        found.update(_classes(sub))
    return found


def from_info(info: ErrorInfo) -> TrunklineError:
    """Rebuild the error that `info` describes; an unknown kind becomes `InternalError`."""
    cls = _classes(TrunklineError).get(info.kind, InternalError)
    return cls(info.message, param=info.param, retry_after=info.retry_after)


def refuse(beyond: Mapping[str, str]) -> None:
    """Raise `Unsupported` for the first field of a request's `beyond`, if there is one."""
    for name, problem in beyond.items():
        raise Unsupported(problem, param=name)
