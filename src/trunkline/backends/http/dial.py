"""Opening connections: names to addresses, TLS, one bound on the time for all of it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from trunkline.backends.http.origin import Origin
from trunkline.core.errors import UpstreamFailed, UpstreamTimeout

# Seconds that an answer of the resolver is used again.
_FRESH = 30.0
# Most names whose addresses are kept, and most addresses of a name that are tried.
_MAX_NAMES = 256
_MAX_ADDRESSES = 4

P = TypeVar("P", bound=asyncio.Protocol)


class Dialer:
    """Opens connections; keeps addresses for a short while, and TLS contexts."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # (host, port) -> the loop's time when it becomes stale, addresses.
        self._addresses: dict[tuple[str, int], tuple[float, tuple[str, ...]]] = {}
        self._contexts: dict[bool, ssl.SSLContext] = {}

    async def dial(self, origin: Origin, title: str, timeout: float, make: Callable[[], P]) -> P:
        """A connection to `origin` within `timeout` seconds (0 = no bound), TLS included.

        Raises `UpstreamFailed` and `UpstreamTimeout`, whose messages call the backend `title`.
        """
        try:
            async with asyncio.timeout(timeout or None):
                if origin.unix:
                    _, protocol = await self._loop.create_unix_connection(make, origin.unix)
                    return protocol
                return await self._dial_any(origin, timeout, make)
        except TimeoutError:
            raise UpstreamTimeout(f"no connection to {title} within {timeout:g} s") from None
        except ssl.SSLCertVerificationError as error:
            because = error.verify_message
            raise UpstreamFailed(f"the certificate of {title} is not valid: {because}") from None
        except ssl.SSLError as error:
            raise UpstreamFailed(f"TLS with {title} failed: {error.reason}") from None
        except socket.gaierror as error:
            raise UpstreamFailed(f"{title} cannot be found: {error.strerror}") from None
        except ConnectionRefusedError:
            raise UpstreamFailed(f"{title} refuses connections") from None
        except OSError as error:
            because = error.strerror or type(error).__name__
            raise UpstreamFailed(f"{title} cannot be reached: {because}") from None

    async def _dial_any(self, origin: Origin, timeout: float, make: Callable[[], P]) -> P:
        """Try one address after the other; each may use its share of the time that is left."""
        addresses = await self._resolve(origin.host, origin.port)
        deadline = self._loop.time() + timeout
        for index, address in enumerate(addresses):
            left = len(addresses) - index
            share = (deadline - self._loop.time()) / left if timeout else None
            try:
                async with asyncio.timeout(share):
                    protocol = await self._dial_one(origin, address, make)
            except ssl.SSLError:
                raise
            except OSError:
                # TimeoutError is one of these.
                if left == 1:
                    self._addresses.pop((origin.host, origin.port), None)
                    raise
            else:
                if index:
                    self._prefer(origin, address)
                return protocol
        raise OSError("the name has no address")

    async def _dial_one(self, origin: Origin, address: str, make: Callable[[], P]) -> P:
        if not origin.tls:
            _, protocol = await self._loop.create_connection(make, address, origin.port)
            return protocol
        _, protocol = await self._loop.create_connection(
            make,
            address,
            origin.port,
            ssl=self._context(origin.verify),
            server_hostname=origin.host,
        )
        return protocol

    async def _resolve(self, host: str, port: int) -> tuple[str, ...]:
        if _is_address(host):
            return (host,)
        key = (host, port)
        known = self._addresses.get(key)
        if known is not None and known[0] > self._loop.time():
            return known[1]
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))[:_MAX_ADDRESSES]
        if len(self._addresses) >= _MAX_NAMES:
            self._addresses.clear()
        self._addresses[key] = (self._loop.time() + _FRESH, addresses)
        return addresses

    def _prefer(self, origin: Origin, address: str) -> None:
        """Begin with `address` the next time."""
        key = (origin.host, origin.port)
        known = self._addresses.get(key)
        if known is not None:
            rest = tuple(other for other in known[1] if other != address)
            self._addresses[key] = (known[0], (address, *rest))

    def _context(self, verify: bool) -> ssl.SSLContext:
        """The system's certificate authorities; SSL_CERT_FILE and SSL_CERT_DIR are honoured."""
        context = self._contexts.get(verify)
        if context is None:
            context = ssl.create_default_context()
            context.set_alpn_protocols(["http/1.1"])
            if not verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._contexts[verify] = context
        return context


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
