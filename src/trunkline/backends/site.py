"""One backend's address: what requests to it begin with."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from urllib.parse import quote

from trunkline import __version__
from trunkline.backends.auth.schemes import Auth, Fields
from trunkline.backends.http.fetch import Response, fetch
from trunkline.backends.http.origin import Base, Origin, is_target
from trunkline.backends.http.pool import Pool
from trunkline.core.errors import InvalidRequest

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 9110, 5.5: visible characters, space and tab; what is beyond ASCII is sent as Latin-1.
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_JSON: Fields = (("content-type", "application/json"),)
# Heads that are remembered; paths may hold a model's name.
_MAX_HEADS = 512

# Shortest value of a configured field that is taken for a secret, in characters.
_SECRET = 8
# What the connection decides.
_OURS = frozenset(("host", "content-length", "transfer-encoding", "connection", "accept-encoding"))


class Site:
    """Builds heads of requests, and sends those that are not hot.

    Of header fields of one name these win, the last first: the kind's, the request's, the
    credentials, those of the configuration.
    """

    def __init__(
        self,
        pool: Pool,
        base: Base,
        auth: Auth,
        first: Mapping[str, str] | None = None,
        last: Mapping[str, str] | None = None,
    ) -> None:
        self.pool = pool
        self.auth = auth
        self._base = base
        self._first = checked(first or {})
        self._last = checked(last or {})
        # What configured fields hold may be a key as well.
        self._hidden = [value for value in self._last.values() if len(value) >= _SECRET]
        self._heads: dict[tuple[str, str, Fields, Fields], bytes] = {}

    @property
    def origin(self) -> Origin:
        """What is connected to."""
        return self.pool.origin

    def head(self, method: str, path: str, headers: Fields, body: bytes) -> bytes:
        """The head of a request, with its blank line. `path` is below the base URL.

        Raises `InvalidRequest` where path or fields cannot be sent.
        """
        auth = self.auth
        known = self.opening(method, path, headers, auth.fields())
        if not auth.signs:
            return known + length_line(len(body))
        signed = auth.sign(method, self.origin.authority, self._target(path), headers, body)
        more = "".join(f"{name}: {value}\r\n" for name, value in signed).encode()
        return b"%bcontent-length: %d\r\n%b\r\n" % (known, len(body), more)

    def opening(self, method: str, path: str, headers: Fields, credentials: Fields) -> bytes:
        """What a head begins with, as of `head`; `length_line` ends it, where nothing is signed."""
        key = (method, path, headers, credentials)
        known = self._heads.get(key)
        if known is None:
            known = self._build(*key)
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            self._heads[key] = known
        return known

    async def fetch(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Fields = _JSON,
        *,
        timeout: float,
    ) -> Response:
        """Send a request and wait for the whole response. Raises `TrunklineError`."""
        if not self.auth.ready:
            await self.auth.prepare()
        head = self.head(method, path, headers if body else (), body)
        return await fetch(self.pool, head, body, timeout=timeout)

    def redact(self, text: str) -> str:
        """`text` of the server, without credentials and configured fields: some repeat them."""
        text = self.auth.redact(text)
        for value in self._hidden:
            text = text.replace(value, "***")
        return text

    def _target(self, path: str) -> str:
        target = self._base.join(path)
        query = self.auth.query()
        return target if not query else f"{target}{'&' if '?' in target else '?'}{query}"

    def _build(self, method: str, path: str, headers: Fields, credentials: Fields) -> bytes:
        target = self._target(path)
        if not is_target(target):
            raise InvalidRequest(f"{self.pool.title} cannot be asked for {path!r}", param="model")
        fields = {"host": self.origin.authority, "user-agent": f"trunkline/{__version__}"}
        fields.update(self._first)
        fields.update(checked(dict(headers)))
        fields.update(checked(dict(credentials)))
        fields.update(self._last)
        # Compressed streams would have to be taken apart to be passed on.
        fields["accept-encoding"] = "identity"
        lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items())]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n"


@functools.lru_cache(maxsize=4096)
def length_line(size: int) -> bytes:
    """What ends the head of a request whose body has `size` bytes."""
    return b"content-length: %d\r\n\r\n" % size


def checked(fields: Mapping[str, str]) -> dict[str, str]:
    """Fields that can be sent; names in lower case. Raises `InvalidRequest`."""
    found: dict[str, str] = {}
    for name, value in fields.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            # Never the value: it may be a key.
            raise InvalidRequest(f"the header field {name!r} cannot be sent")
        if name.lower() not in _OURS:
            found[name.lower()] = value.strip()
    return found


def fill(template: str, values: Mapping[str, str], model: str, path: str) -> str:
    """A path of a `Kind` with its braces filled in; the dialect's own `path` where it is empty."""
    if not template:
        return path
    if "{" not in template:
        return template
    tail = "/" + path.lstrip("/").partition("/")[2]
    text = template
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value if value == "{model}" else quote(value, safe=""))
    return text.replace("{tail}", tail).replace("{model}", quote(model, safe=""))
