"""Asking a server for the responses that it keeps: OpenAI's Responses API, beside making them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from trunkline.backends.site import Site
from trunkline.core.errors import UpstreamFailed, response_not_found
from trunkline.core.types import KeptAsk
from trunkline.wire.client import Speaker

# Seconds that a question may take: a look into a store, never the model.
_TIMEOUT = 30.0
# What is asked for, and how: method and what follows the id.
_ASKS: Mapping[str, tuple[str, str]] = {
    "get": ("GET", ""),
    "delete": ("DELETE", ""),
    "cancel": ("POST", "/cancel"),
    "input_items": ("GET", "/input_items"),
}


async def ask_kept(site: Site, speaker: Speaker, path: str, ask: KeptAsk) -> bytes:
    """The server's answer; `path` is where it has responses. Raises `TrunklineError`.

    `speaker` reads its errors.
    """
    method, more = _ASKS[ask.what]
    target = f"{path}/{quote(ask.response_id, safe='')}{more}"
    if ask.query:
        target += f"?{ask.query}"
    response = await site.fetch(method, target, timeout=_TIMEOUT)
    if response.head.status in (404, 405, 501):
        # Those that keep nothing have no such path.
        raise response_not_found(ask.response_id)
    if not response.ok:
        error = speaker.error(response.head, response.body)
        error.message = site.redact(error.message)
        raise error
    if not response.body.lstrip().startswith(b"{"):
        raise UpstreamFailed(f"{site.pool.title} answered with no JSON object")
    return response.body
