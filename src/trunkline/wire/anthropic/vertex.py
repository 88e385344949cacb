"""Anthropic's Messages as Vertex AI has them: the path names the model and the way to answer.

After the official client's `lib/vertex/_client.py` (anthropic 2.12) and
docs.anthropic.com/en/api/claude-on-vertex-ai, read 2026-11-22. Vertex refuses `model` in a body,
and takes the version there instead of in a header: by a name of its own for the oldest one, as that
client sends it for others; a body that has one keeps it. Answers are Anthropic's own.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from trunkline.core.errors import TrunklineError
from trunkline.core.types import RawRequest, Request
from trunkline.wire.anthropic.client import MessagesSpeaker
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Speaker, Terms
from trunkline.wire.raw import with_fields

_VERSION = "anthropic-version"
_FIELD = "anthropic_version"
_NAMES = {"2023-06-01": "vertex-2023-10-16"}
_MESSAGES = MessagesSpeaker()
_fields = msgspec.json.Decoder(dict[str, Raw])


class _VertexSpeaker:
    """See `Speaker`. Nothing passes the short way: each model has a path of its own."""

    operation = _MESSAGES.operation

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """A conversation. Raises `Unsupported` for any other prompt, too."""
        return _placed(_MESSAGES.encode(request, terms), terms, stream="stream" in terms.features)

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """As Anthropic's."""
        return _MESSAGES.reader(request, terms, head)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """See `Speaker`."""
        return _placed(_MESSAGES.patch(raw, terms), terms, stream=raw.stream)

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """As Anthropic's."""
        return _MESSAGES.relay(raw, terms, head)

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """As Anthropic's; Google's own errors have the same members."""
        return _MESSAGES.error(head, body)


def _placed(outgoing: Outgoing, terms: Terms, *, stream: bool) -> Outgoing:
    """A request to Anthropic's own API, as Vertex AI takes it."""
    model = urllib.parse.quote(terms.model, safe="@")
    fields = _fields.decode(outgoing.body)
    changes: dict[str, Any] = {"model": UNSET}
    if _FIELD not in fields:
        version = dict(outgoing.headers)[_VERSION]
        changes[_FIELD] = _NAMES.get(version, version)
    return msgspec.structs.replace(
        outgoing,
        path=f"/v1/models/{model}:{'streamRawPredict' if stream else 'rawPredict'}",
        body=with_fields(fields, changes),
        headers=tuple(one for one in outgoing.headers if one[0] != _VERSION),
    )


VERTEX: Speaker = _VertexSpeaker()
