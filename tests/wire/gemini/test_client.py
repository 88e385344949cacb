"""generateContent, after ai.google.dev/api/generate-content and .../gemini-api/docs/...:
function-calling, thinking and thought-signatures (read 2026-11-21)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.speaking import (
    JSON,
    WEATHER,
    asking,
    body,
    called,
    chat,
    fails,
    head,
    raw,
    read,
    terms,
)
from trunkline.core.errors import (
    ContentRefused,
    ContextOverflow,
    InvalidRequest,
    RateLimited,
    TrunklineError,
    Unsupported,
    UpstreamFailed,
    UpstreamRefused,
)
from trunkline.core.types import (
    Grammar,
    Message,
    SamplingParams,
    TextInput,
    TextPart,
    Thought,
    Usage,
)
from trunkline.wire.gemini.client import GENERATE
from trunkline.wire.gemini.signatures import SKIP, call_id, signature_of

SIGNATURE = "Et8ECtwEAXLI2nyC+1jKZUE4/xdH0w=="


def _events(*answers: Any) -> bytes:
    # Its lines end with CRLF.
    return b"".join(b"data: %b\r\n\r\n" % json.dumps(one).encode() for one in answers)


def _answer(*parts: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "gemini-3-pro"} | more


USAGE = {
    "promptTokenCount": 29,
    "candidatesTokenCount": 10,
    "totalTokenCount": 149,
    "thoughtsTokenCount": 110,
    "cachedContentTokenCount": 8,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 29}],
}


def test_thoughts_then_text() -> None:
    data = _events(
        _answer({"text": "**Planning**\n", "thought": True}),
        _answer({"text": "Paris "}, usageMetadata={"promptTokenCount": 29}),
        _answer({"text": "is it. 🌍"}),
        _answer({"text": "", "thoughtSignature": "AY89"}, finish="STOP", usageMetadata=USAGE),
    )
    said = read(GENERATE, data)
    assert (said.reasoning, said.text) == ("**Planning**\n", "Paris is it. 🌍")
    assert said.finish == "stop"
    assert said.usage == Usage(29, 120, 8, 110)


def test_two_calls_in_one_turn_and_their_signature() -> None:
    first = {"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}}
    second = {"functionCall": {"name": "now", "args": {}}}
    data = _events(
        _answer(first | {"thoughtSignature": SIGNATURE}, second),
        _answer({"text": ""}, finish="STOP", usageMetadata=USAGE),
    )
    said = read(GENERATE, data)
    assert [(name, json.loads(arguments)) for _, name, arguments in said.calls] == [
        ("get_weather", {"city": "Paris"}),
        ("now", {}),
    ]
    assert said.finish == "tool_calls"
    first_id, second_id = said.calls[0][0] or "", said.calls[1][0] or ""
    assert first_id != second_id
    assert signature_of(first_id) == SIGNATURE
    assert signature_of(second_id) is None


def test_a_signature_comes_back_with_its_call() -> None:
    identifier = call_id("r", 0, SIGNATURE)
    conversation = chat(
        "Weather?",
        called(identifier),
        Message("tool", '{"degrees": 21}', tool_call_id=identifier),
        tools=(WEATHER,),
    )
    sent = body(GENERATE.encode(asking(conversation), terms()))
    part = sent["contents"][1]["parts"][0]
    assert part["thoughtSignature"] == SIGNATURE
    assert part["functionCall"] == {"name": "get_weather", "args": {"city": "Paris"}}
    result = sent["contents"][2]
    assert result["role"] == "user"
    assert result["parts"] == [
        {"functionResponse": {"name": "get_weather", "response": {"result": '{"degrees": 21}'}}}
    ]


def test_calls_that_others_made_have_no_signature_to_check() -> None:
    sent = body(GENERATE.encode(asking(chat("x", called("toolu_1"))), terms()))
    assert sent["contents"][1]["parts"][0]["thoughtSignature"] == SKIP


def test_a_whole_answer() -> None:
    answer = _answer({"text": '{"a": 1}'}, finish="MAX_TOKENS", usageMetadata=USAGE)
    said = read(GENERATE, json.dumps(answer, indent=2).encode(), JSON)
    assert (said.text, said.finish, said.usage.prompt_tokens) == ('{"a": 1}', "length", 29)


def test_log_probabilities() -> None:
    chosen = [{"token": "Hi", "tokenId": 7, "logProbability": -0.5}]
    top = [{"candidates": [*chosen, {"token": "Yo", "tokenId": 8, "logProbability": -1.5}]}]
    answer = _answer({"text": "Hi"}, finish="STOP")
    answer["candidates"][0]["logprobsResult"] = {"chosenCandidates": chosen, "topCandidates": top}
    assert read(GENERATE, _events(answer)).logprobs == [("Hi", -0.5)]


@pytest.mark.parametrize("reason", ["SAFETY", "RECITATION", "IMAGE_RECITATION", "ESCALATION"])
def test_a_policys_end_of_an_answer_leaves_what_came(reason: str) -> None:
    last = _answer(finish=reason, usageMetadata=USAGE)
    said = read(GENERATE, _events(_answer({"text": "Well, "}), _answer({"text": "so"}), last))
    assert (said.text, said.finish, said.usage) == (
        "Well, so",
        "content_filter",
        Usage(29, 120, 8, 110),
    )
    whole = _answer({"text": "Well"}, finish=reason, finishMessage="no", usageMetadata=USAGE)
    said = read(GENERATE, json.dumps(whole).encode(), JSON)
    assert (said.text, said.finish, said.usage.completion_tokens) == ("Well", "content_filter", 120)


def test_a_prompt_that_is_blocked_late_leaves_what_came() -> None:
    blocked = {"promptFeedback": {"blockReason": "MODEL_ARMOR"}, "usageMetadata": USAGE}
    said = read(GENERATE, _events(_answer({"text": "Well"}), blocked))
    assert (said.text, said.finish) == ("Well", "content_filter")


def test_code_that_was_run_is_text() -> None:
    data = _events(
        _answer({"text": "I count."}),
        _answer({"executableCode": {"language": "PYTHON", "code": "print(6 * 7)\n"}}),
        _answer({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42\n"}}),
        _answer({"codeExecutionResult": {"outcome": "OUTCOME_FAILED", "output": "a ``` b"}}),
        _answer({"text": "It is 42."}, finish="STOP"),
    )
    said = read(GENERATE, data)
    assert said.text == (
        "I count.\n```python\nprint(6 * 7)\n```\n\n```\n42\n```\n\n````\na ``` b\n````\nIt is 42."
    )


def test_an_image_beside_text_is_named() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}
    line = "\n[image/png, 5 bytes, not passed on]\n"
    said = read(GENERATE, _events(_answer({"text": "Here:"}), _answer(image, finish="STOP")))
    assert said.text == f"Here:{line}"
    said = read(GENERATE, _events(_answer(image), _answer({"text": "That."}, finish="STOP")))
    assert said.text == f"{line}That."
    file = {"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/v"}}
    said = read(GENERATE, _events(_answer({"text": "See"}, file, finish="STOP")))
    assert said.text == "See\n[video/mp4: gs://b/v]\n"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"promptFeedback": {"blockReason": "SAFETY"}}, ContentRefused),
        (_answer({"text": "x", "thought": True}, finish="SAFETY"), ContentRefused),
        (
            _answer({"inlineData": {"mimeType": "image/png", "data": "aGk="}}, finish="STOP"),
            Unsupported,
        ),
        (_answer(finish="PROHIBITED_CONTENT"), ContentRefused),
        (_answer(finish="RECITATION"), ContentRefused),
        (_answer(finish="MALFORMED_FUNCTION_CALL"), UpstreamFailed),
        (_answer({"text": "cut off"}), UpstreamFailed),
        ({"error": {"code": 503, "message": "overloaded"}}, UpstreamFailed),
        ({"error": {"code": 429, "message": "quota"}}, RateLimited),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_answers_that_fail(answer: Any, kind: type[TrunklineError], stream: bool) -> None:
    data = _events(answer) if stream else json.dumps(answer).encode()
    reader = GENERATE.reader(asking(), terms(), head() if stream else head(JSON))
    assert type(fails(reader, data)) is kind


def _failed(status: int, message: str, **more: Any) -> TrunklineError:
    error = {"code": status, "message": message, "status": "X"} | more
    whole = GENERATE.error(head(JSON, status), json.dumps({"error": error}).encode())
    # Streams have it in a list.
    listed = GENERATE.error(head(JSON, status), json.dumps([{"error": error}]).encode())
    assert whole.info() == listed.info()
    return whole


def test_errors() -> None:
    info = "type.googleapis.com/google.rpc.RetryInfo"
    limited = _failed(429, "Quota exceeded.", details=[{"@type": info, "retryDelay": "27.5s"}])
    assert isinstance(limited, RateLimited)
    assert limited.retry_after == 27.5
    words = "The input token count (9) exceeds the maximum number of tokens allowed (8)."
    assert isinstance(_failed(400, words), ContextOverflow)
    reason = [{"@type": "google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    assert isinstance(_failed(400, "API key not valid.", details=reason), UpstreamRefused)
    assert isinstance(_failed(404, "models/x is not found"), UpstreamRefused)
    assert type(_failed(400, "Invalid JSON payload")) is InvalidRequest
    assert type(_failed(503, "The model is overloaded.")) is UpstreamFailed
    assert type(GENERATE.error(head("text/html", 502), b"<html>")) is UpstreamFailed


def test_what_is_sent() -> None:
    request = asking(
        chat(
            Message("system", "Be brief."),
            "Hi",
            Message("assistant", "Hello"),
            "Weather?",
            tools=(WEATHER, {"type": "function", "function": {"name": "now"}}),
            template_kwargs={"reasoning_effort": "low"},
        ),
        sampling=SamplingParams(
            temperature=0.0, top_k=3, top_p=0.5, max_tokens=9, seed=4, presence_penalty=0.1
        ),
        stop=("END",),
        tool_choice="named",
        tool_name="now",
    )
    outgoing = GENERATE.encode(request, terms(model="models/gemini-3-pro"))
    assert outgoing.path == "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"
    function = WEATHER["function"]
    assert isinstance(function, dict)
    declared = {key: function[key] for key in ("name", "description")}
    declared["parametersJsonSchema"] = function["parameters"]
    assert body(outgoing) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"text": "Hello"}]},
            {"role": "user", "parts": [{"text": "Weather?"}]},
        ],
        "tools": [{"functionDeclarations": [declared, {"name": "now"}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["now"]}},
        "generationConfig": {
            "temperature": 0.0,
            "topK": 3,
            "topP": 0.5,
            "maxOutputTokens": 9,
            "seed": 4,
            "presencePenalty": 0.1,
            "stopSequences": ["END"],
            "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "LOW"},
        },
    }


def test_a_schema_without_a_stream() -> None:
    grammar = Grammar("json_schema", '{"x-guidance":{"lenient":true},"type":"object"}')
    outgoing = GENERATE.encode(asking(grammar=grammar), terms("stream", "reasoning"))
    assert outgoing.path == "/v1beta/models/m:generateContent"
    assert body(outgoing)["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
    }


def test_blocks_stay_apart() -> None:
    blocks = (TextPart("One."), TextPart(""), TextPart("Two."))
    conversation = chat(
        Message("system", blocks), Message("user", blocks), Message("assistant", blocks), "x"
    )
    sent = body(GENERATE.encode(asking(conversation), terms()))
    parts = [{"text": "One."}, {"text": "Two."}]
    assert sent["systemInstruction"]["parts"] == parts
    assert [turn["parts"] for turn in sent["contents"][:2]] == [parts, parts]


@pytest.mark.parametrize(
    "turns",
    [
        ("",),
        ("", Message("assistant", "y"), "z"),
        ("x", Message("assistant", "y"), ""),
        (Message("system", "x"),),
    ],
)
def test_a_turn_without_text_is_refused(turns: tuple[str | Message, ...]) -> None:
    with pytest.raises(InvalidRequest, match="without text") as caught:
        GENERATE.encode(asking(chat(*turns)), terms())
    assert caught.value.param == "messages"


def test_an_empty_message_among_others_is_none() -> None:
    result = Message("tool", "", tool_call_id="call_1", name="get_weather")
    conversation = chat("", "x", Message("assistant", ""), "y", called(), result, tools=(WEATHER,))
    outgoing = GENERATE.encode(asking(conversation), terms())
    turns = body(outgoing)["contents"]
    assert turns[0] == {"role": "user", "parts": [{"text": "x"}, {"text": "y"}]}
    assert [turn["role"] for turn in turns] == ["user", "model", "user"]
    assert outgoing.dropped == ()


def test_values_that_are_given_arrive_though_neutral() -> None:
    request = asking(explicit=("temperature", "top_p", "presence_penalty", "min_p", "top_k"))
    outgoing = GENERATE.encode(request, terms("reasoning"))
    expected = {"temperature": 1.0, "topP": 1.0, "presencePenalty": 0.0}
    assert body(outgoing)["generationConfig"] == expected
    # Of min_p there is none anyway; of top_k always some.
    assert outgoing.dropped == ("top_k",)


def test_defaults_of_the_clients_dialect_are_not_googles() -> None:
    sampling = SamplingParams(temperature=0.8, top_k=40, top_p=0.9)
    implied = ("temperature", "top_k", "top_p")
    outgoing = GENERATE.encode(
        asking(sampling=sampling, implied=implied), terms("reasoning", hosted=True)
    )
    assert "generationConfig" not in body(outgoing)
    assert outgoing.dropped == ()


def test_what_is_left_out_is_told() -> None:
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}  # type: ignore[dict-item]
    conversation = chat(
        Message("system", "Be brief."),
        Message("user", "Hi", name="ada"),
        Message("assistant", "Hello", reasoning_content="Hm.", thoughts=(Thought("Hm.", "s"),)),
        Message("system", "Be briefer."),
        "x",
        tools=(strict,),
    )
    outgoing = GENERATE.encode(asking(conversation, notes={"user": "ada"}), terms())
    assert outgoing.dropped == (
        "messages.name",
        "reasoning_content",
        "messages.system",
        "tools.strict",
        "user",
    )
    sent = body(outgoing)
    assert sent["systemInstruction"]["parts"] == [{"text": "Be brief."}, {"text": "Be briefer."}]


@pytest.mark.parametrize(
    ("tier", "sent", "dropped"),
    [
        ("flex", "flex", ()),
        ("default", "standard", ()),
        ("auto", None, ()),
        ("scale", None, ("service_tier",)),
    ],
)
def test_service_tiers(tier: str, sent: str | None, dropped: tuple[str, ...]) -> None:
    outgoing = GENERATE.encode(asking(notes={"service_tier": tier}), terms())
    assert (body(outgoing).get("serviceTier"), outgoing.dropped) == (sent, dropped)


def test_what_it_has_not() -> None:
    with pytest.raises(Unsupported, match="grammar"):
        GENERATE.encode(asking(grammar=Grammar("gbnf", 'root ::= "a"')), terms())
    with pytest.raises(Unsupported, match="min_p"):
        GENERATE.encode(asking(sampling=SamplingParams(min_p=0.1)), terms())
    with pytest.raises(Unsupported, match="conversations"):
        GENERATE.encode(asking(TextInput("x")), terms())
    with pytest.raises(Unsupported):
        GENERATE.patch(raw("gemini.generate", {}), terms())


def test_a_signature_too_long_for_an_id_is_left_out() -> None:
    assert signature_of(call_id("r", 1, "A" * 20_000)) is None
    assert signature_of("call_ts_not base64!") is None
