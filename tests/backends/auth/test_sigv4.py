"""AWS signatures, compared with those of botocore."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from unittest import mock

import pytest
from botocore.auth import SigV4Auth as Oracle
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.backends.auth.secrets import Secret
from trunkline.backends.auth.sigv4 import AwsCredentials, SigV4Auth, find_credentials

WHEN = datetime(2026, 11, 21, 5, 35, 12, tzinfo=UTC)
HOST = "bedrock-runtime.eu-west-1.amazonaws.com"
ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SIGNATURE = re.compile(r"SignedHeaders=([^,]+), Signature=(\w+)")


def ours(
    method: str, target: str, headers: dict[str, str], body: bytes, token: str | None
) -> dict[str, str]:
    credentials = AwsCredentials(ACCESS, Secret(SECRET), Secret(token) if token else None)
    auth = SigV4Auth(credentials, "eu-west-1", "bedrock", lambda: WHEN)
    return dict(auth.sign(method, HOST, target, tuple(headers.items()), body))


def theirs(
    method: str, target: str, headers: dict[str, str], body: bytes, token: str | None
) -> dict[str, str]:
    request = AWSRequest(method, f"https://{HOST}{target}", headers=headers, data=body)
    oracle = Oracle(Credentials(ACCESS, SECRET, token), "bedrock", "eu-west-1")
    with (
        mock.patch("botocore.auth.get_current_datetime", return_value=WHEN, create=True),
        mock.patch("botocore.compat.get_current_datetime", return_value=WHEN, create=True),
    ):
        oracle.add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


def check(
    method: str, target: str, headers: dict[str, str], body: bytes, token: str | None
) -> None:
    mine, other = (
        ours(method, target, headers, body, token),
        theirs(method, target, headers, body, token),
    )
    assert mine["x-amz-date"] == other["x-amz-date"] == "20261121T053512Z"
    assert mine.get("x-amz-security-token") == other.get("x-amz-security-token")
    assert mine["authorization"] == other["authorization"]


@pytest.mark.parametrize("token", [None, "session/token+=="])
@pytest.mark.parametrize(
    "target",
    [
        "/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0/converse-stream",
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fx/converse",
        "/model/plain/converse?b=2&a=1&flag",
        "/",
    ],
)
def test_as_botocore_signs(target: str, token: str | None) -> None:
    headers = {"content-type": "application/json", "X-Extra": "  two   words "}
    check("POST", target, headers, b'{"messages":[]}', token)
    check("GET", target, {}, b"", token)


@settings(max_examples=50)
@given(
    model=st.text("abcXYZ019._-~%", max_size=20).map(lambda s: "m" + s.replace("%", "%3A")),
    body=st.binary(max_size=64),
)
def test_as_botocore_signs_anything(model: str, body: bytes) -> None:
    check("POST", f"/model/{model}/converse", {"content-type": "application/json"}, body, None)


def test_nothing_secret_is_shown() -> None:
    credentials = AwsCredentials(ACCESS, Secret(SECRET), Secret("tok"))
    auth = SigV4Auth(credentials, "r", "s")
    assert SECRET not in repr([credentials, auth])
    assert auth.redact(f"{SECRET} and tok") == "*** and ***"


def test_where_credentials_come_from() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
    found = find_credentials(None, {}, environ)
    assert found is not None
    assert found.session_token is not None
    assert (found.access_key, found.secret_key.reveal()) == ("id", "s")
    given_ = find_credentials(Secret("a:b"), {}, environ)
    assert given_ is not None
    assert (given_.access_key, given_.session_token) == ("a", None)
    # A key without a colon is one of Bedrock's own, and signs nothing.
    assert find_credentials(Secret("plain"), {}, {}) is None
    with pytest.raises(ValueError, match="both"):
        find_credentials(None, {"access_key_id": "x"}, {})
