"""Where to listen."""

from __future__ import annotations

from typing import NamedTuple


class Address(NamedTuple):
    """A place to listen: a path, or a host and a port."""

    path: str
    host: str
    port: int


def parse_address(text: str) -> Address:
    """Read "HOST:PORT", "[IPV6]:PORT" or "unix:PATH". Raises ValueError that says what is right."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise ValueError(f"{text!r}: expected a path after unix:")
        return Address(path, "", 0)
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError(f"{text!r}: expected HOST:PORT, [IPV6]:PORT or unix:PATH")
    return Address("", host[1:-1] if bracketed else host, int(port))
