"""Where a backend is: URLs taken apart and put together."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import msgspec

_VERSION = re.compile(r"v\d+[a-z0-9]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
# What a target and a host may consist of (RFC 3986): visible ASCII, no fragment.
_VISIBLE = re.compile(r"[!-~]*")
# Segments that lead out of where they stand: a model may be called "..".
_DOTS = re.compile(r"/\.\.?(?:/|$)")
# Where OpenAI's dialect has its operations, below a version that clients put into the base URL.
_OPERATION = re.compile(
    r"(?:/v1)?(/(?:chat/completions|completions|responses|messages|models|embeddings)(?:[/?].*)?)"
)
# Names that no public resolver knows: RFC 6761, 6762, 8375, ICANN's .internal, and Kubernetes'.
_NEAR = (".localhost", ".local", ".internal", ".home.arpa", ".lan", ".svc", ".test")
# Addresses that operators share among their networks (RFC 6598); VPNs give them to machines.
_SHARED = ipaddress.ip_network("100.64.0.0/10")


class Origin(msgspec.Struct, frozen=True):
    """What a connection is opened to."""

    host: str
    port: int
    tls: bool = False
    # Path of a Unix socket, instead of host and port.
    unix: str = ""
    # False: any certificate will do.
    verify: bool = True

    @property
    def authority(self) -> str:
        """Value of the Host field."""
        if self.unix:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def near(self) -> bool:
        """Whether it is this machine or a network of one's own, as far as address or name tell."""
        host = self.host.lower().rstrip(".")
        named = "." in host or ":" in host
        if self.unix or not named or host.endswith(_NEAR):
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return address.is_private or address in _SHARED


class Base(msgspec.Struct, frozen=True):
    """The path of a base URL."""

    # Without a slash at the end.
    path: str = ""
    # True: OpenAI's operations are right below it, whatever it is called.
    whole: bool = False

    def join(self, path: str) -> str:
        """Where the server has what a dialect has at `path`."""
        if self.whole and (found := _OPERATION.fullmatch(path)):
            return self.path + found[1]
        return join_path(self.path, path)


def parse_url(url: str, *, verify: bool = True) -> tuple[Origin, str]:
    """The origin of `url`, and its path without a slash at the end.

    ``http://host:port/base``, ``https://...`` or ``unix:/path/of/socket``. Raises ValueError, with
    a message that does not repeat the URL's user and password.
    """
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError("a URL of a Unix socket is unix:/path/of/socket")
        return Origin("localhost", 0, unix=path), ""
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError("a URL begins with http://host, https://host or unix:/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL must not hold user and password; give the key as api_key")
    if parts.query or parts.fragment:
        raise ValueError("a base URL has neither a query nor a fragment")
    try:
        host = parts.hostname.encode("idna").decode("ascii")
    except UnicodeError:
        problem = "the parts of a host's name have 1 to 63 characters, none of them strange"
        raise ValueError(problem) from None
    if not _VISIBLE.fullmatch(host + parts.path):
        raise ValueError("a URL holds visible ASCII characters only")
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    tls = parts.scheme == "https"
    return Origin(host, port, tls, verify=verify), parts.path.rstrip("/")


def join_path(base: str, path: str) -> str:
    """`path` below the path `base`, which may or may not end with the version that `path` has.

    ``/api/v1`` + ``/v1/models`` and ``/api`` + ``/v1/models`` are the same; ``/v1`` + ``/health``
    is ``/health``; ``/paas/v4`` + ``/v1/models`` is ``/paas/v4/models``.
    """
    above, _, last = base.rpartition("/")
    if not _VERSION.fullmatch(last):
        return base + path
    if last == "v1" or path.startswith(f"/{last}/"):
        return above + path
    return base + path.removeprefix("/v1") if path.startswith("/v1/") else base + path


def has_version(base: str) -> bool:
    """Whether the path `base` ends with a version: ``/v1``, ``/api/paas/v4``."""
    return _VERSION.fullmatch(base.rpartition("/")[2]) is not None


def is_target(text: str) -> bool:
    """Whether `text` may stand in a request line, and leads nowhere but where it says."""
    if not text.startswith("/") or _VISIBLE.fullmatch(text) is None:
        return False
    return _DOTS.search(text.partition("?")[0]) is None
