from __future__ import annotations

import json
import re

import pytest

from tests.wire.llamacpp.support import GOLDEN, golden, same_shape
from trunkline.core.errors import (
    ContextOverflow,
    InternalError,
    InvalidRequest,
    ModelNotFound,
    QueueFull,
    TrunklineError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from trunkline.core.types import BackendStats, ModelCard
from trunkline.wire.llamacpp.errors import render_error, status, stream_error
from trunkline.wire.llamacpp.server_info import (
    METRICS,
    render_health,
    render_props,
    render_slots,
)

CARD = ModelCard("m", 2048, quantization="F16", max_rows=4, chat_template="x", source="m.gguf")

# Of its web page, of images, of templates' internals, and texts that we do not know.
NOT_OURS = frozenset(
    ("ui", "ui_settings", "media_marker", "chat_template_caps", "cors_proxy_enabled")
)
NOT_OURS |= {"bos_token", "eos_token"}


def test_props() -> None:
    ours = json.loads(render_props("m", CARD, "trunkline-1"))
    theirs = golden("props.json")
    same_shape(ours, theirs, NOT_OURS)
    for key in ("total_slots", "model_alias", "model_ftype", "modalities"):
        assert ours[key] == theirs[key]
    ours, theirs = (one["default_generation_settings"]["params"] for one in (ours, theirs))
    for key in ("seed", "temperature", "top_k", "top_p", "min_p", "n_predict", "typical_p"):
        assert ours[key] == pytest.approx(theirs[key], rel=1e-6)


def test_slots() -> None:
    ours = json.loads(render_slots(CARD, BackendStats(running=1)))
    theirs = golden("slots.json")
    assert len(ours) == len(theirs)
    same_shape(ours[0], theirs[0])
    assert [one["is_processing"] for one in ours] == [True, False, False, False]


def test_health() -> None:
    assert render_health() == b'{"status":"ok"}'


def test_metrics_have_its_names_and_texts() -> None:
    theirs = (GOLDEN / "metrics.txt").read_text()
    for metric in METRICS:
        assert f"# HELP {metric.name} {metric.help}\n" in theirs
        assert re.search(rf"^# TYPE {metric.name} {metric.kind}$", theirs, re.MULTILINE)
    stats = BackendStats(running=1, waiting=2, prefix_queries=30, prefix_hits=10, steps=5)
    assert [metric.value(stats) for metric in METRICS] == [20, 10, 5, 1, 2]


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (InvalidRequest("x"), 400, "invalid_request_error"),
        (ContextOverflow("x"), 400, "exceed_context_size_error"),
        (Unauthenticated("x"), 401, "authentication_error"),
        (ModelNotFound("x"), 404, "not_found_error"),
        (InternalError("x"), 500, "server_error"),
        (Unsupported("x"), 501, "not_supported_error"),
        (Unavailable("x"), 503, "unavailable_error"),
        (QueueFull("x"), 503, "unavailable_error"),
    ],
)
def test_errors(error: TrunklineError, code: int, name: str) -> None:
    body = {"error": {"code": code, "message": "x", "type": name}}
    assert json.loads(render_error(error)) == body
    assert status(error) == code
    assert stream_error(error) == b"data: " + render_error(error) + b"\n\n"
