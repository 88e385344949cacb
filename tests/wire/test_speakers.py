"""The table of speakers."""

from __future__ import annotations

from trunkline.wire.speakers import SPEAKERS
from trunkline.wire.table import ROUTES


def test_each_stands_under_its_own_operation() -> None:
    assert all(operation == speaker.operation for operation, speaker in SPEAKERS.items())


def test_what_a_codec_says_can_be_passed_on_has_a_speaker() -> None:
    operations = {route.codec.operation for route in ROUTES if route.codec is not None}
    assert {"openai.chat", "openai.completions", "openai.responses"} <= operations
    assert "anthropic.messages" in operations
    assert operations - {""} <= SPEAKERS.keys()
