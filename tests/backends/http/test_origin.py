"""URLs."""

from __future__ import annotations

import pytest

from trunkline.backends.http.origin import Origin, is_target, join_path, parse_url


@pytest.mark.parametrize(
    ("url", "origin", "base"),
    [
        ("http://localhost:8000", Origin("localhost", 8000), ""),
        ("http://localhost:8000/v1/", Origin("localhost", 8000), "/v1"),
        ("https://api.openai.com", Origin("api.openai.com", 443, True), ""),
        ("https://[::1]:1/a/b", Origin("::1", 1, True), "/a/b"),
        ("unix:/run/engine.sock", Origin("localhost", 0, unix="/run/engine.sock"), ""),
        ("http://bücher.example", Origin("xn--bcher-kva.example", 80), ""),
    ],
)
def test_urls_are_taken_apart(url: str, origin: Origin, base: str) -> None:
    assert parse_url(url) == (origin, base)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://h:80", "h"),
        ("https://h:443/x", "h"),
        ("http://h:443", "h:443"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("unix:/x", "localhost"),
    ],
)
def test_authority(url: str, authority: str) -> None:
    assert parse_url(url)[0].authority == authority


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("http://localhost:8000", True),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000", True),
        ("http://[fd00::1]", True),
        ("http://10.1.2.3", True),
        ("http://192.168.1.2", True),
        ("http://172.17.0.1", True),
        ("http://169.254.1.1", True),
        ("http://100.100.1.2", True),
        ("unix:/run/x.sock", True),
        ("http://vllm:8000", True),
        ("http://host.docker.internal", True),
        ("http://vllm.team.svc.cluster.local", True),
        ("http://vllm.team.svc", True),
        ("http://Mac.LOCAL.:1", True),
        ("https://api.openai.com", False),
        ("https://local.example.com", False),
        ("http://8.8.8.8", False),
        ("http://[2606:4700::1111]", False),
    ],
)
def test_what_is_near(url: str, near: bool) -> None:
    assert parse_url(url)[0].near is near


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://h",
        "http://",
        "http://h?x=1",
        "http://h/#x",
        "unix:relative",
        "http://user:hunter2@h",
        "http://h/a b",
        "http://a..b",
        f"http://{'a' * 64}.b",
        "http://a\u2100b",
    ],
)
def test_bad_urls_are_refused_without_their_secrets(url: str) -> None:
    with pytest.raises(ValueError) as info:
        parse_url(url)
    assert type(info.value) is ValueError
    assert "hunter2" not in str(info.value)


@pytest.mark.parametrize(
    ("base", "path", "joined"),
    [
        ("", "/v1/models", "/v1/models"),
        ("/v1", "/v1/models", "/v1/models"),
        ("/api/v1", "/v1/models", "/api/v1/models"),
        ("/api", "/v1/models", "/api/v1/models"),
        ("/v1", "/health", "/health"),
        ("/v1", "/api/chat", "/api/chat"),
        ("/api/paas/v4", "/v1/models", "/api/paas/v4/models"),
        ("/api/paas/v4", "/chat/completions", "/api/paas/v4/chat/completions"),
        ("/v1beta", "/v1beta/models/x:generateContent", "/v1beta/models/x:generateContent"),
        ("/v1/openai", "/chat/completions", "/v1/openai/chat/completions"),
    ],
)
def test_versions_meet_once(base: str, path: str, joined: str) -> None:
    assert join_path(base, path) == joined


def test_targets() -> None:
    assert is_target("/v1/models?x=%20")
    assert not is_target("/a b")
    assert not is_target("/a\r\nx: y")
    assert not is_target("v1")
    # A model may be called so.
    assert not is_target("/model/../converse")
    assert not is_target("/model/./converse?x=1")
    assert not is_target("/v1/models/..")
    assert is_target("/model/.../a..b/..c?x=/../y")
