"""Questions about tokens."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.backends.engine import Engine, answer
from tests.backends.fakes import chat, speakers, text
from trunkline.backends.config import BackendConfig
from trunkline.backends.connect import connect
from trunkline.backends.http.client import HttpClient
from trunkline.backends.remote import RemoteBackend
from trunkline.core.errors import InvalidRequest, Unsupported, UpstreamFailed
from trunkline.core.types import Request, TokensInput

SAY = speakers("openai.chat", "anthropic.messages")


@contextlib.asynccontextmanager
async def asking(kind: str, engine: Engine, **more: Any) -> AsyncIterator[RemoteBackend]:
    async with engine.serving() as port:
        client = HttpClient()
        url = f"http://127.0.0.1:{port}"
        config = BackendConfig(name="one", kind=kind, url=url, api_key="k", **more)
        yield connect(config, client, SAY, {}).backend
        await client.close()


async def test_vllm() -> None:
    told = {"count": 3, "max_model_len": 4096, "tokens": [1, 2, 3]}
    engine = Engine({"/tokenize": answer(told), "/detokenize": answer({"prompt": "abc"})})
    async with asking("vllm", engine) as backend:
        assert await backend.count_tokens(chat()) == 3
        tokenization = await backend.tokenize(text("abc"))
        assert tokenization.token_ids == (1, 2, 3)
        assert tokenization.context_length == 4096
        assert (await backend.detokenize((1, 2, 3))).text == "abc"
    messages = [{"role": "user", "content": "Hi"}]
    assert engine.bodies[0] == {"model": "m", "messages": messages}
    assert engine.bodies[1] == {"model": "m", "prompt": "abc", "add_special_tokens": True}


async def test_what_may_change_the_prompt_is_not_left_out() -> None:
    engine = Engine({"/tokenize": answer({"count": 1, "max_model_len": 9, "tokens": [1]})})
    async with asking("vllm", engine, unsupported="drop") as backend:
        for asked in (chat(), text("abc")):
            beyond = msgspec.structs.replace(asked, beyond={"documents": "no 'documents' here"})
            for question in (backend.tokenize, backend.count_tokens):
                with pytest.raises(Unsupported, match="documents"):
                    await question(beyond)
                await question(asked)


async def test_llamacpp() -> None:
    engine = Engine(
        {
            "/apply-template": answer({"prompt": "<user>Hi"}),
            "/tokenize": answer({"tokens": [5, 6]}),
            "/detokenize": answer({"content": "Hi"}),
        }
    )
    async with asking("llamacpp", engine) as backend:
        tokenization = await backend.tokenize(chat())
        assert (tokenization.text, tokenization.token_ids) == ("<user>Hi", (5, 6))
        assert (await backend.detokenize((5,))).text == "Hi"
    assert engine.bodies[1]["content"] == "<user>Hi"


async def test_tgi() -> None:
    tokens = [{"id": 7, "text": "a", "start": 0, "stop": 1}, {"id": 8, "text": "b"}]
    told = {"tokenize_response": tokens, "templated_text": "[a]"}
    engine = Engine({"/tokenize": answer(tokens), "/chat_tokenize": answer(told)})
    async with asking("tgi", engine) as backend:
        tokenization = await backend.tokenize(text("ab"))
        assert (tokenization.token_ids, tokenization.pieces) == ((7, 8), (b"a", b"b"))
        assert (await backend.tokenize(chat())).text == "[a]"
        with pytest.raises(Unsupported, match="cannot detokenize"):
            await backend.detokenize((1,))
    assert engine.bodies[0] == {"inputs": "ab"}


async def test_anthropic() -> None:
    engine = Engine({"/v1/messages/count_tokens": answer({"input_tokens": 14})})
    async with asking("anthropic", engine) as backend:
        assert await backend.count_tokens(chat()) == 14
        with pytest.raises(Unsupported, match="cannot tokenize"):
            await backend.tokenize(chat())
    # Nothing that the endpoint would refuse, such as max_tokens.
    assert set(engine.bodies[0]) == {"model", "messages"}


async def test_token_ids_are_counted_here() -> None:
    engine = Engine({})
    async with asking("openai", engine) as backend:
        ids = Request(id="r", model="m", input=TokensInput((1, 2, 3)))
        assert await backend.count_tokens(ids) == 3
        with pytest.raises(Unsupported):
            await backend.count_tokens(chat())
    assert not engine.asked


async def test_refusals() -> None:
    engine = Engine({"/tokenize": answer({"error": "unknown model, k"}, 400)})
    async with asking("vllm", engine) as backend:
        with pytest.raises(InvalidRequest, match="answered 400"):
            await backend.tokenize(text())
        engine.replies["/tokenize"] = answer({}, 500)
        with pytest.raises(UpstreamFailed, match="answered 500"):
            await backend.tokenize(text())
        engine.replies["/tokenize"] = answer([1, 2])
        with pytest.raises(UpstreamFailed, match="no tokens"):
            await backend.tokenize(text())
        del engine.replies["/tokenize"]
        with pytest.raises(Unsupported):
            await backend.tokenize(text())
