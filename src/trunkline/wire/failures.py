"""What the status and the words of another server's error mean here.

429                      RateLimited, with what it says of a retry
401, 403, 404            UpstreamRefused: our key, or a model that it does not know
400, 413, 422            ContextOverflow or ContentRefused by its words, else InvalidRequest
408, 504                 UpstreamTimeout
anything else            UpstreamFailed
"""

from __future__ import annotations

import email.utils
import re
import zlib
from datetime import UTC, datetime

from trunkline.core.errors import (
    ContentRefused,
    ContextOverflow,
    InvalidRequest,
    RateLimited,
    TrunklineError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from trunkline.wire.client import Head

_MAX_SHOWN = 600
# Bytes of an error's body that are of use.
_MOST_ERROR = 1 << 16
# How servers say that a prompt does not fit; tests/wire/test_failures.py has them with sources.
_OVERFLOW = re.compile(
    r"context (length|size|window)|maximum context|too many (input )?tokens|prompt is too long"
    r"|input is too long|exceeds? (the |its )?(maximum|max|available|allowed|limit)[^.]*tokens?"
    r"|input token count|max_model_len|maximum (input|prompt|sequence) length"
    r"|`?inputs?`? (tokens|must have less than)[^.]*",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"content (policy|filter|management)|safety (policy|system|filter)|guardrail|usage policy"
    r"|blocked by|responsible ai|moderation",
    re.IGNORECASE,
)


def failure(head: Head, message: str, *, retry_after: float | None = None) -> TrunklineError:
    """The error of a response with a status other than 2xx that says `message`."""
    status = head.status
    said = shown(message) or f"HTTP {status} without a reason"
    after = retry_after_of(head) if retry_after is None else retry_after
    if status == 429:
        return RateLimited(f"The backend takes no more for now: {said}", retry_after=after)
    if status in (401, 403, 404):
        return UpstreamRefused(f"The backend refused (HTTP {status}): {said}")
    if status in (408, 504):
        return UpstreamTimeout(f"The backend ran out of time: {said}", retry_after=after)
    if status in (400, 413, 422):
        return rejected(message or said)
    return UpstreamFailed(f"The backend failed (HTTP {status}): {said}", retry_after=after)


def rejected(message: str) -> InvalidRequest:
    """The error of a server that finds the request wrong."""
    said = shown(message)
    if _OVERFLOW.search(message):
        return ContextOverflow(said)
    if _REFUSED.search(message):
        return ContentRefused(said)
    return InvalidRequest(f"The backend rejected the request: {said}")


def shown(message: str) -> str:
    """As much of a server's words as an error of ours repeats."""
    line = " ".join(message.split())
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}..."


def retry_after_of(head: Head) -> float | None:
    """Seconds that Retry-After asks for; a date counts from the response's own, else from now."""
    value = head.headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    until = _moment(value)
    if until is None:
        return None
    # Our clock's time where the response does not say when it was made.
    now = _moment(head.headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _moment(text: str) -> datetime | None:
    """A date of HTTP in any of its three forms (RFC 9110, 5.6.7); the oldest names no zone."""
    try:
        found = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def plain(body: bytes, encoding: str) -> bytes:
    """The body of an error, decompressed as far as it can be and is of use; else nothing of it."""
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return b""
    try:
        # Any header that zlib knows (zlib.decompressobj, `wbits`).
        return zlib.decompressobj(wbits=47).decompress(body, _MOST_ERROR)
    except zlib.error:
        return b""
