"""What checks say."""

from __future__ import annotations

from trunkline.backends.health import Judge
from trunkline.backends.http.fetch import Response
from trunkline.backends.kind import HealthCheck
from trunkline.core.errors import UpstreamFailed, UpstreamTimeout
from trunkline.core.types import Health
from trunkline.wire.client import Head

LATE = UpstreamTimeout("late")


def judge(state: Health | None = None) -> Judge:
    return Judge(HealthCheck("/health"), state or Health("starting"))


def answer(status: int) -> Response:
    return Response(Head(status, {}), b"")


def test_an_answer_decides() -> None:
    one = judge()
    assert one.answered(answer(503)).state == "starting"
    assert one.answered(answer(200)) == Health("ready")
    assert one.answered(answer(500)) == Health("failed", "/health answers 500")
    assert one.answered(answer(200)).state == "ready"


def test_refusal_decides() -> None:
    one = judge(Health("ready"))
    assert one.missed(UpstreamFailed("refuses"), busy=True, heard=False) == Health(
        "failed", "refuses"
    )


def test_silence_needs_patience() -> None:
    one = judge(Health("ready"))
    states = [one.missed(LATE, busy=False, heard=False).state for _ in range(3)]
    assert states == ["ready", "ready", "failed"]
    assert one.answered(answer(200)).state == "ready"
    assert one.missed(LATE, busy=False, heard=False).state == "ready"


def test_silence_at_work_is_a_stall() -> None:
    one = judge(Health("ready"))
    states = [one.missed(LATE, busy=True, heard=False).state for _ in range(3)]
    assert states[-1] == "stalled"


def test_whoever_goes_on_answering_is_well() -> None:
    one = judge(Health("ready"))
    states = {one.missed(LATE, busy=True, heard=True).state for _ in range(9)}
    assert states == {"ready"}


def test_whoever_is_heard_of_again_is_what_it_was() -> None:
    one = judge(Health("ready"))
    for _ in range(3):
        one.missed(LATE, busy=True, heard=False)
    assert one.health.state == "stalled"
    assert one.missed(LATE, busy=True, heard=True).state == "ready"
    one.answered(answer(500))
    for _ in range(3):
        one.missed(LATE, busy=True, heard=False)
    assert one.missed(LATE, busy=True, heard=True).detail == "/health answers 500"
