"""How a request shows who sends it."""

from __future__ import annotations

from typing import Literal, Protocol
from urllib.parse import quote

from trunkline.backends.auth.secrets import Secret

Scheme = Literal[
    "bearer", "x-api-key", "api-key", "foundry", "x-goog-api-key", "query", "sigv4", "gcp", "none"
]
Fields = tuple[tuple[str, str], ...]


class Auth(Protocol):
    """Adds credentials to requests of one backend."""

    # True: each request has fields of its own, which `sign` makes.
    signs: bool
    # True: it is always ready, and its fields never change.
    steady: bool

    @property
    def ready(self) -> bool:
        """False: `prepare` must be awaited before the next request."""

    async def prepare(self) -> None:
        """Get what is missing. Raises `UpstreamFailed` or `UpstreamRefused`."""

    def fields(self) -> Fields:
        """Header fields for any request made now."""

    def sign(self, method: str, host: str, target: str, headers: Fields, body: bytes) -> Fields:
        """Further fields, for this request alone. `target` is path and query, percent-encoded."""

    def query(self) -> str:
        """Added to the query of each request, or ""."""

    def redact(self, text: str) -> str:
        """`text` without any secret that it holds."""


class FixedAuth:
    """The same for every request. Implements `Auth`."""

    ready = True
    steady = True
    signs = False

    def __init__(self, scheme: Scheme, key: Secret | None) -> None:
        self._key = key
        self._fields: Fields = ()
        self._query = ""
        if key is None or scheme == "none":
            return
        if scheme == "bearer":
            self._fields = (("authorization", f"Bearer {key.reveal()}"),)
        elif scheme == "foundry":
            # Claude asks for Anthropic's field there, the other models for Azure's.
            self._fields = (("api-key", key.reveal()), ("x-api-key", key.reveal()))
        elif scheme == "query":
            self._query = f"key={quote(key.reveal(), safe='')}"
        else:
            self._fields = ((scheme, key.reveal()),)

    async def prepare(self) -> None:
        """Nothing is missing."""

    def fields(self) -> Fields:
        """The key."""
        return self._fields

    def sign(self, method: str, host: str, target: str, headers: Fields, body: bytes) -> Fields:
        """Nothing."""
        return ()

    def query(self) -> str:
        """The key, where it goes into the URL."""
        return self._query

    def redact(self, text: str) -> str:
        """`text` without the key."""
        return text if self._key is None else self._key.redact(text)
