"""API keys: who asks."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping

from trunkline.core.errors import Unauthenticated

# Where a key may be; the last is what clients of Azure send.
_FIELDS = (b"authorization", b"x-api-key", b"api-key")


class Keys:
    """Static keys. They are compared as digests, are never logged, and cannot be read back."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple({_digest(key.encode()) for key in keys if key})

    def replace(self, other: Keys) -> None:
        """From now on these are the keys of `other`."""
        self._digests = other._digests

    def fit(self, headers: Mapping[str, str]) -> bool:
        """Whether `headers`, names in lower case, have a key, or none is needed."""
        try:
            self.holder_of(headers)
        except Unauthenticated:
            return False
        return True

    def holder_of(self, headers: Mapping[str, str]) -> str:
        """As `holder`, of fields in text."""
        given = ((name, headers.get(name.decode())) for name in _FIELDS)
        return self.holder({name: key.encode("latin-1") for name, key in given if key is not None})

    def holder(self, fields: Mapping[bytes, bytes]) -> str:
        """`tenant`, of a request with these header fields, names in lower case."""
        authorization, x_api_key, api_key = map(fields.get, _FIELDS)
        return self.tenant(authorization, x_api_key or api_key)

    def tenant(self, authorization: bytes | None, x_api_key: bytes | None) -> str:
        """Name of the key's holder, the same in every process; "" when no keys are set.

        Takes the headers `Authorization: Bearer KEY` and `x-api-key: KEY` (clients of Azure call
        that `api-key`), either of which will do. Raises `Unauthenticated`.
        """
        if not self._digests:
            return ""
        given = [key for key in (_bearer(authorization), x_api_key) if key]
        if not given:
            raise Unauthenticated(
                "You didn't provide an API key. Send it in an Authorization header: "
                "Bearer YOUR_KEY."
            )
        for key in given:
            digest = _digest(key)
            # Every key is compared, so that time says nothing about which one came close.
            if sum([hmac.compare_digest(digest, known) for known in self._digests]):
                return hashlib.sha256(digest).hexdigest()[:16]
        raise Unauthenticated("Incorrect API key provided.")


def _bearer(authorization: bytes | None) -> bytes | None:
    scheme, _, key = (authorization or b"").strip().partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else None


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
