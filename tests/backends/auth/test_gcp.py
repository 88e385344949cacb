"""Access tokens of Google Cloud."""

from __future__ import annotations

import asyncio
import base64
from urllib.parse import parse_qs

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from trunkline.backends.auth.gcp import (
    METADATA_URL,
    GcpAuth,
    ServiceAccount,
    assertion,
    read_service_account,
)
from trunkline.backends.auth.schemes import Fields
from trunkline.core.errors import UpstreamFailed, UpstreamRefused

KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()
ACCOUNT = ServiceAccount("me@project.iam", PEM, "https://token.test/x", "kid1")


class Endpoint:
    """Gives tokens, and remembers who asked."""

    def __init__(self, status: int = 200, body: bytes = b"") -> None:
        self.asked: list[tuple[str, str, Fields, bytes]] = []
        self._status = status
        self._body = body

    async def ask(self, method: str, url: str, fields: Fields, body: bytes) -> tuple[int, bytes]:
        self.asked.append((method, url, fields, body))
        await asyncio.sleep(0)
        number = len(self.asked)
        told = {"access_token": f"token-{number}", "expires_in": 3599, "token_type": "Bearer"}
        return self._status, self._body or msgspec.json.encode(told)


def _part(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _ready(auth: GcpAuth) -> bool:
    return auth.ready


def test_assertion_is_signed() -> None:
    head, claims, signature = assertion(ACCOUNT, 1000).split(".")
    assert msgspec.json.decode(_part(head)) == {"alg": "RS256", "typ": "JWT", "kid": "kid1"}
    told = msgspec.json.decode(_part(claims))
    assert (told["iss"], told["aud"]) == ("me@project.iam", "https://token.test/x")
    assert (told["iat"], told["exp"]) == (1000, 4600)
    signed = f"{head}.{claims}".encode()
    # Raises where the signature is not right.
    KEY.public_key().verify(_part(signature), signed, padding.PKCS1v15(), hashes.SHA256())


async def test_token_of_an_account_is_kept_until_it_ends() -> None:
    now = [1000.0]
    endpoint = Endpoint()
    auth = GcpAuth(endpoint.ask, ACCOUNT, lambda: now[0])
    assert not _ready(auth)
    await asyncio.gather(*(auth.prepare() for _ in range(5)))
    assert _ready(auth)
    assert auth.fields() == (("authorization", "Bearer token-1"),)
    assert len(endpoint.asked) == 1
    method, url, _, body = endpoint.asked[0]
    assert (method, url) == ("POST", "https://token.test/x")
    assert parse_qs(body.decode())["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    now[0] += 3500
    assert not _ready(auth)
    await auth.prepare()
    assert auth.fields() == (("authorization", "Bearer token-2"),)


async def test_token_of_the_machine() -> None:
    endpoint = Endpoint()
    auth = GcpAuth(endpoint.ask)
    await auth.prepare()
    assert endpoint.asked == [("GET", METADATA_URL, (("metadata-flavor", "Google"),), b"")]
    assert auth.redact("<token-1>") == "<***>"
    assert "token-1" not in repr(vars(auth))


async def test_refusals() -> None:
    with pytest.raises(UpstreamRefused, match="403"):
        await GcpAuth(Endpoint(403, b"{}").ask).prepare()
    with pytest.raises(UpstreamFailed, match="no token"):
        await GcpAuth(Endpoint(200, b"<html>").ask).prepare()
    broken = ServiceAccount("x", "no key")
    with pytest.raises(UpstreamRefused, match="cannot be read"):
        await GcpAuth(Endpoint().ask, broken).prepare()


def test_key_files() -> None:
    told = {"client_email": "a@b", "private_key": PEM, "type": "service_account"}
    account = read_service_account(msgspec.json.encode(told))
    assert account.token_uri == "https://oauth2.googleapis.com/token"
    assert "PRIVATE" not in repr(account)
    with pytest.raises(ValueError, match="no key of a Google service account"):
        read_service_account(b'{"private_key": "SECRET"}')
