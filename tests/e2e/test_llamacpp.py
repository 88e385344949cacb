"""llama.cpp's dialect against its own server, out of the same wheel and on the same model."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import trunkline
from tests.support.llama_server import llama_server
from tests.support.server import Server, serve, write_rules
from tests.wire.llamacpp.support import events, same_shape

MODEL = Path(trunkline.__file__).parent / "models_bundled" / "caboose.gguf"
# Fields of its answers that are about its slots, its clock, and settings that we have not.
OWN = frozenset(("id_slot", "model", "timings", "generation_settings"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """llama.cpp's server with the bundled model."""
    with llama_server(MODEL, tmp_path_factory.mktemp("llama.cpp")) as url:
        yield url


@pytest.fixture(scope="module")
def trains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The scripted executor: its tokens are bytes, so everything is cut at every byte."""
    directory = tmp_path_factory.mktemp("trains")
    rules = write_rules(
        directory / "rules.json",
        {"contains": "fail", "text": "so far", "action": "fail", "after": 4},
        {"contains": "unicode", "text": "naïve 東京 🚂🚃 é"},
        {"contains": "lines", "text": "one\ntwo END three"},
        {"contains": "rows", "text": ["first", "second"]},
        default={"text": "Hello from the rails."},
    )
    with serve(directory, str(rules), "--executor", "scripted") as server:
        yield server


def both(caboose: Server, theirs: str, path: str, body: Any) -> tuple[Any, Any]:
    """Our answer and theirs."""
    ours = caboose.post(path, body)
    other = httpx.post(f"{theirs}{path}", json=body, timeout=60)
    assert ours.status_code == other.status_code, (ours.text, other.text)
    return ours.json(), other.json()


@pytest.mark.parametrize(
    "body",
    [
        {"content": "Hello é 🚂, wagon!"},
        {"content": "Hello", "add_special": True},
        {"content": "<|im_start|>user", "parse_special": True},
        {"content": "<|im_start|>user", "parse_special": False},
        {"content": "a 🚂 b", "with_pieces": True},
        {"content": ["a b", 5, 6, "c"]},
        {"content": ""},
    ],
)
def test_tokenize(caboose: Server, theirs: str, body: dict[str, Any]) -> None:
    ours, other = both(caboose, theirs, "/tokenize", body)
    assert ours == other


def test_detokenize(caboose: Server, theirs: str) -> None:
    tokens = caboose.post("/tokenize", {"content": "Hello é 🚂"}).json()["tokens"]
    ours, other = both(caboose, theirs, "/detokenize", {"tokens": tokens})
    assert ours["content"] == other["content"] == "Hello é 🚂"


def test_template(caboose: Server, theirs: str) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    ours, other = both(caboose, theirs, "/apply-template", {"messages": messages})
    assert ours == other


# Short of its end: that token is in their `tokens` and probabilities, and not in ours.
GREEDY = {"prompt": "Hello", "n_predict": 4, "temperature": 0}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"return_tokens": True},
        {"stop": ["a"]},
        {"prompt": ["Hello", "A wagon"]},
        {"prompt": ["The train", 5, "is"]},
        {"ignore_eos": True, "n_predict": 30},
        {"logit_bias": [[11, -100], [12, False]]},
        {"response_fields": ["content", "tokens_evaluated"]},
        {"n_predict": 1},
    ],
)
def test_completion(caboose: Server, theirs: str, more: dict[str, Any]) -> None:
    ours, other = both(caboose, theirs, "/completion", GREEDY | more)
    pairs = zip(ours, other, strict=True) if isinstance(other, list) else [(ours, other)]
    for one, two in pairs:
        assert set(one) == set(two)
        if "prompt" in more and "prompt" in two:
            # Tokens between texts are not told as text.
            one = one | {"prompt": two["prompt"]}
        assert {key: one[key] for key in set(one) - OWN} == {
            key: two[key] for key in set(two) - OWN
        }
        for key in OWN & set(two):
            same_shape(one[key], two[key])


def test_grammar(caboose: Server, theirs: str) -> None:
    body = GREEDY | {"grammar": 'root ::= "yes" | "no"', "n_predict": 9}
    ours, other = both(caboose, theirs, "/completion", body)
    for key in ("content", "stop_type"):
        assert ours[key] == other[key]
    # They predict an end of text behind the grammar's.
    assert ours["tokens_predicted"] == other["tokens_predicted"] - 1


def test_probabilities(caboose: Server, theirs: str) -> None:
    ours, other = both(caboose, theirs, "/completion", GREEDY | {"n_probs": 3})
    mine, its = ours["completion_probabilities"], other["completion_probabilities"]
    same_shape(mine, its)
    for one, two in zip(mine, its, strict=True):
        assert (one["id"], one["token"], one["bytes"]) == (two["id"], two["token"], two["bytes"])
        assert one["logprob"] == pytest.approx(two["logprob"], abs=1e-2)
        assert {top["id"] for top in one["top_logprobs"]} == {
            top["id"] for top in two["top_logprobs"]
        }


def test_stream(caboose: Server, theirs: str) -> None:
    body = GREEDY | {"stream": True}
    answer = caboose.post("/completion", body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    ours = events(answer.content)
    other = events(httpx.post(f"{theirs}/completion", json=body, timeout=60).content)
    for one in (ours, other):
        assert [part["stop"] for part in one] == [False] * (len(one) - 1) + [True]
    assert "".join(one["content"] for one in ours) == "".join(one["content"] for one in other)
    tokens = [token for one in ours for token in one["tokens"]]
    assert tokens == [token for one in other for token in one["tokens"]]
    same_shape(ours[0], other[0], frozenset(("tokens_evaluated",)))
    same_shape(ours[-1], other[-1])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/completion", {}),
        ("/completion", {"prompt": []}),
        ("/completion", {"prompt": "a", "n_predict": -2}),
        ("/completion", {"prompt": "a", "temperature": "x"}),
        ("/completion", {"prompt": "word " * 9000}),
        ("/infill", {"input_prefix": "a", "input_suffix": "b"}),
    ],
)
def test_errors(caboose: Server, theirs: str, path: str, body: dict[str, Any]) -> None:
    ours, other = both(caboose, theirs, path, body)
    assert set(ours) == set(other) == {"error"}
    assert ours["error"]["type"] == other["error"]["type"]
    assert ours["error"]["code"] == other["error"]["code"]


def test_what_the_server_says_of_itself(caboose: Server, theirs: str) -> None:
    ours = httpx.get(f"{caboose.url}/props").json()
    other = httpx.get(f"{theirs}/props").json()
    for key in ("model_ftype", "modalities"):
        assert ours[key] == other[key]
    # It drops the newline at the end, as Jinja does.
    assert ours["chat_template"].rstrip("\n") == other["chat_template"]
    slots = httpx.get(f"{caboose.url}/slots").json()
    # Theirs tells of a slot's last task as well, once it had one.
    slot = httpx.get(f"{theirs}/slots").json()[0]
    same_shape(slots[0], {key: slot[key] for key in slots[0]})
    assert len(slots) == ours["total_slots"]


def test_every_byte_of_a_stream(trains: Server) -> None:
    body = {"prompt": "unicode", "stream": True}
    ours = events(trains.post("/completion", body).content)
    assert "".join(one["content"] for one in ours) == "naïve 東京 🚂🚃 é"
    assert ours[-1]["stop_type"] == "eos"
    assert ours[-1]["tokens_predicted"] == len("naïve 東京 🚂🚃 é".encode()) + 1


def test_stop_word_and_lines(trains: Server) -> None:
    ours = trains.post("/completion", {"prompt": "lines", "stop": ["END"]}).json()
    assert (ours["content"], ours["stop_type"], ours["stopping_word"]) == (
        "one\ntwo ",
        "word",
        "END",
    )
    assert ours["has_new_line"]


def test_rows_and_the_other_name(trains: Server) -> None:
    ours = trains.post("/completions", {"prompt": "rows", "n": 2}).json()
    assert [(one["index"], one["content"]) for one in ours] == [(0, "first"), (1, "second")]


def test_an_error_after_the_first_byte(trains: Server) -> None:
    body = {"prompt": "fail", "stream": True}
    data = b""
    # The connection breaks off behind the error: the answer is not whole.
    with (
        httpx.stream("POST", f"{trains.url}/completion", json=body) as answer,
        contextlib.suppress(httpx.RemoteProtocolError),
    ):
        for piece in answer.iter_bytes():
            data += piece
    assert answer.status_code == 200
    *_, last = data.decode().removesuffix("\n\n").split("\n\n")
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["code"], error["type"]) == (500, "server_error")


def test_refused_by_name(trains: Server) -> None:
    refused = trains.post("/completion", {"prompt": "a", "mirostat": 2})
    assert refused.status_code == 501
    assert refused.json()["error"]["message"] == "Field 'mirostat': not supported"
