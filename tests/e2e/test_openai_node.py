"""Node's `openai` package with its helpers. It runs outside Python; see `clients`."""

from __future__ import annotations

from pathlib import Path

from tests.support.clients import run_node_client
from tests.support.server import serve, write_rules

REPLY = "Hello from the rails."
UNICODE = "naïve 東京 🚂🚃 e\u0301"


def test_nodes_client(tmp_path: Path) -> None:
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    rules = write_rules(
        tmp_path / "rules.json",
        {"contains": "18 degrees", "text": "It is 18 degrees in Paris."},
        {"contains": "weather in Paris", "text": call},
        {"contains": "unicode", "text": UNICODE},
        {"contains": "a sum", "text": '{"left": 17, "right": 25}'},
        {"contains": "fail", "text": "so far", "action": "fail", "after": 4},
        default={"text": REPLY},
    )
    parser = ("--tool-call-parser", "hermes")
    with serve(tmp_path, str(rules), "--executor", "scripted", *parser) as server:
        told = run_node_client("openai_calls.mjs", server.url)
    assert told == {
        "chat": [REPLY, "stop", True],
        "stream": [UNICODE, len(UNICODE.encode()) + 1],
        "tool_run": ["It is 18 degrees in Paris.", ["Paris"]],
        "parse": {"left": 17, "right": 25},
        "responses": [REPLY, REPLY],
        "responses_tool_stream": ["get_weather", {"city": "Paris"}, True],
        "responses_parse": {"left": 17, "right": 25},
        "models": True,
        "errors": [True, "model_not_found", True, "server_error"],
    }
