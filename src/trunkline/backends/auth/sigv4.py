"""AWS Signature Version 4, for header fields and bodies that are at hand.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html (read
2026-11-21). Path segments are encoded twice, as every service but S3 wants it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from trunkline.backends.auth.schemes import Fields
from trunkline.backends.auth.secrets import Secret

_ALGORITHM = "AWS4-HMAC-SHA256"
# Fields that proxies change; the other ones are signed.
_UNSIGNED = frozenset(("connection", "expect", "user-agent", "accept-encoding", "authorization"))


class AwsCredentials(msgspec.Struct, frozen=True):
    """Who signs. `session_token` is None for keys that do not expire."""

    access_key: str
    secret_key: Secret
    session_token: Secret | None = None


def find_credentials(
    key: Secret | None, provider: Mapping[str, str], environ: Mapping[str, str]
) -> AwsCredentials | None:
    """From ``ACCESS:SECRET[:TOKEN]``, from `provider`, or from AWS's environment variables.

    Raises ValueError where only a part is given.
    """
    if key is not None and ":" in key.reveal():
        access, secret, token = (*key.reveal().split(":", 2), "")[:3]
    else:
        access, secret, token = (
            provider.get(name) or environ.get(f"AWS_{variable}", "")
            for name, variable in (
                ("access_key_id", "ACCESS_KEY_ID"),
                ("secret_access_key", "SECRET_ACCESS_KEY"),
                ("session_token", "SESSION_TOKEN"),
            )
        )
    if not access and not secret:
        return None
    if not access or not secret:
        raise ValueError("AWS needs both an access key id and a secret access key")
    return AwsCredentials(access, Secret(secret), Secret(token) if token else None)


class SigV4Auth:
    """Signs each request for one region and service. Implements `Auth`."""

    ready = True
    signs = True
    steady = False

    def __init__(
        self,
        credentials: AwsCredentials,
        region: str,
        service: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._credentials = credentials
        self._region = region
        self._service = service
        self._now = now
        # The key derived for one day, which is most of the work.
        self._day = ""
        self._derived = b""

    async def prepare(self) -> None:
        """Nothing is missing."""

    def fields(self) -> Fields:
        """Nothing: each request has its own signature."""
        return ()

    def query(self) -> str:
        """Nothing."""
        return ""

    def redact(self, text: str) -> str:
        """`text` without the secret key and the session token."""
        token = self._credentials.session_token
        text = self._credentials.secret_key.redact(text)
        return text if token is None else token.redact(text)

    def sign(self, method: str, host: str, target: str, headers: Fields, body: bytes) -> Fields:
        """Date, token and signature; all of `headers` and the host are signed."""
        stamp = self._now().strftime("%Y%m%dT%H%M%SZ")
        added: list[tuple[str, str]] = [("x-amz-date", stamp)]
        token = self._credentials.session_token
        if token is not None:
            added.append(("x-amz-security-token", token.reveal()))
        signed = [(name.lower(), " ".join(value.split())) for name, value in (*headers, *added)]
        signed = sorted([("host", host), *(f for f in signed if f[0] not in _UNSIGNED)])
        names = ";".join(name for name, _ in signed)
        path, _, query = target.partition("?")
        canonical = "\n".join(
            (
                method,
                quote(path, safe="/~"),
                "&".join(sorted(_pairs(query))),
                *(f"{name}:{value}" for name, value in signed),
                "",
                names,
                hashlib.sha256(body).hexdigest(),
            )
        )
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
        signature = hmac.digest(self._key(stamp[:8]), text.encode(), "sha256").hex()
        who = f"Credential={self._credentials.access_key}/{scope}"
        line = f"{_ALGORITHM} {who}, SignedHeaders={names}, Signature={signature}"
        return (*added, ("authorization", line))

    def _key(self, day: str) -> bytes:
        if day != self._day:
            key = b"AWS4" + self._credentials.secret_key.reveal().encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day, self._derived = day, key
        return self._derived


def _pairs(query: str) -> list[str]:
    """Parameters of a query that is percent-encoded already, each with its equals sign."""
    return [pair if "=" in pair else f"{pair}=" for pair in query.split("&") if pair]
