"""The table of speakers."""

from __future__ import annotations

import pytest

from tests.wire.speaking import asking, chat, terms
from trunkline.core.errors import Unsupported
from trunkline.core.types import Request, TextInput
from trunkline.wire.speakers import SPEAKERS
from trunkline.wire.table import ROUTES


def test_each_stands_under_its_own_operation() -> None:
    for name, speaker in SPEAKERS.items():
        assert name.partition("/")[0] == speaker.operation


def test_what_a_codec_says_can_be_passed_on_has_a_speaker() -> None:
    operations = {route.codec.operation for route in ROUTES if route.codec is not None}
    assert {"openai.chat", "openai.completions", "openai.responses"} <= operations
    assert "anthropic.messages" in operations
    assert operations - {""} <= SPEAKERS.keys()


@pytest.mark.parametrize("operation", SPEAKERS)
def test_what_nobody_can_translate_is_refused_by_name_or_left_out_and_told(operation: str) -> None:
    speaker = SPEAKERS[operation]
    sources = (chat("Hi"), TextInput("Hi"))
    takes = [one for one in sources if _takes(operation, asking(one))]
    assert takes
    for source in takes:
        request = asking(source, beyond={"audio": "'audio' is not supported."})
        with pytest.raises(Unsupported, match="'audio'") as caught:
            speaker.encode(request, terms())
        assert caught.value.param == "audio"
        outgoing = speaker.encode(request, terms(unsupported="drop"))
        assert "audio" in outgoing.dropped
        assert outgoing.body == speaker.encode(asking(source), terms()).body


def _takes(operation: str, request: Request) -> bool:
    try:
        SPEAKERS[operation].encode(request, terms())
    except Unsupported:
        return False
    return True
