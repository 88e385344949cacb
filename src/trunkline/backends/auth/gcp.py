"""Access tokens of Google Cloud: from a service account's key, from the metadata server, or given.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest and
https://cloud.google.com/compute/docs/access/authenticate-workloads (read 2026-11-21).
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import msgspec

from trunkline.backends.auth.schemes import Fields
from trunkline.backends.auth.secrets import Secret
from trunkline.core.errors import UpstreamFailed, UpstreamRefused

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
METADATA_URL = (
    "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
)
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME = 3600
# Seconds before its end that a token is not used any more.
_MARGIN = 120.0

# (method, url, header fields, body) -> (status, body). Raises `TrunklineError`.
Ask = Callable[[str, str, Fields, bytes], Awaitable[tuple[int, bytes]]]


class ServiceAccount(msgspec.Struct, frozen=True):
    """What is used of a service account's key file."""

    client_email: str
    private_key: str
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
    private_key_id: str = ""
    project_id: str = ""

    def __repr__(self) -> str:
        return f"ServiceAccount({self.client_email!r})"


class _Token(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float = _LIFETIME


def read_service_account(data: bytes) -> ServiceAccount:
    """The contents of a key file. Raises ValueError, which repeats nothing of it."""
    try:
        return msgspec.json.decode(data, type=ServiceAccount)
    except msgspec.DecodeError:
        raise ValueError("this is no key of a Google service account") from None


def assertion(account: ServiceAccount, now: int) -> str:
    """A signed JWT (RS256) that asks for an access token.

    Raises ValueError where the key cannot be used, and where `cryptography` is not installed.
    """
    try:
        # Only service accounts need it: it comes with the extra "gcp".
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
    except ImportError:
        raise ValueError(
            "Google service accounts need the package `cryptography`: pip install 'trunkline[gcp]'"
        ) from None
    header = {"alg": "RS256", "typ": "JWT", "kid": account.private_key_id}
    claims = {
        "iss": account.client_email,
        "scope": SCOPE,
        "aud": account.token_uri,
        "iat": now,
        "exp": now + _LIFETIME,
    }
    text = b".".join(_base64(msgspec.json.encode(part)) for part in (header, claims))
    try:
        key = serialization.load_pem_private_key(account.private_key.encode(), password=None)
    except ValueError:
        raise ValueError("the private key of the service account cannot be read") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("the private key of the service account is no RSA key")
    signature = key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    return (text + b"." + _base64(signature)).decode()


class GcpAuth:
    """A bearer token, renewed before it ends. Implements `Auth`.

    With an account the token comes from Google's token endpoint, else from the metadata server of
    the machine that this runs on.
    """

    signs = False
    steady = False

    def __init__(
        self,
        ask: Ask,
        account: ServiceAccount | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ask = ask
        self._account = account
        self._clock = clock
        self._token: Secret | None = None
        self._good_until = 0.0
        self._one = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether there is a token that is good for a while."""
        return self._token is not None and self._clock() < self._good_until

    async def prepare(self) -> None:
        """Get a token; those who come meanwhile wait for the same one."""
        async with self._one:
            if not self.ready:
                await self._renew()

    def fields(self) -> Fields:
        """The token."""
        return () if self._token is None else (("authorization", f"Bearer {self._token.reveal()}"),)

    def sign(self, method: str, host: str, target: str, headers: Fields, body: bytes) -> Fields:
        """Nothing."""
        return ()

    def query(self) -> str:
        """Nothing."""
        return ""

    def redact(self, text: str) -> str:
        """`text` without the token."""
        return text if self._token is None else self._token.redact(text)

    async def _renew(self) -> None:
        asked = self._clock()
        if self._account is None:
            fields: Fields = (("metadata-flavor", "Google"),)
            status, body = await self._ask("GET", METADATA_URL, fields, b"")
        else:
            try:
                signed = assertion(self._account, int(asked))
            except ValueError as error:
                raise UpstreamRefused(str(error)) from None
            form = urlencode({"grant_type": _GRANT, "assertion": signed}).encode()
            fields = (("content-type", "application/x-www-form-urlencoded"),)
            status, body = await self._ask("POST", self._account.token_uri, fields, form)
        if status != 200:
            raise UpstreamRefused(f"Google gave no access token (status {status})")
        try:
            token = msgspec.json.decode(body, type=_Token)
        except msgspec.DecodeError:
            raise UpstreamFailed("Google's token endpoint answered with no token") from None
        self._token = Secret(token.access_token)
        self._good_until = asked + token.expires_in - _MARGIN


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
