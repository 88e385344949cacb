"""Log probabilities of prompts through the front and a core process, piece by piece."""

from __future__ import annotations

from pathlib import Path

from tests.engine.front.test_service import running
from trunkline.core.types import Completed, Delta, PromptToken, PromptTokens, RowFinished


async def test_every_token_once_and_before_the_answer(tmp_path: Path) -> None:
    text = "a long story " * 300
    async with running(tmp_path, context=8000) as house:
        gateway = await house.gateway()
        await gateway.ready()
        gateway.submit(text, id="r", n=2, prompt_logprobs=2)
        completed = await gateway.outcome("r")
        assert isinstance(completed, Completed)
        kinds = [type(event) for event in gateway.events["r"]]
        pieces = kinds.count(PromptTokens)
        # The scripted executor scores 1,024 tokens in a step at most.
        assert pieces > len(text) / 1024
        assert kinds[:pieces] == [PromptTokens] * pieces
        told = [
            token
            for event in gateway.events["r"]
            if isinstance(event, PromptTokens)
            for token in event.tokens
        ]
        assert b"".join(token.data for token in told).decode() == text
        assert told[0].logprob is None
        assert all(token.logprob == 0.0 and token.rank == 1 for token in told[1:])
        assert [one[3] for one in told[-1].top] == [0.0, -1.0]
        assert completed.usage.prompt_tokens == len(told)


async def test_the_prompt_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        gateway = await house.gateway()
        await gateway.ready()
        gateway.submit("né", max_tokens=0, show_prompt=True)
        completed = await gateway.outcome("né")
        assert isinstance(completed, Completed)
        assert (completed.usage.prompt_tokens, completed.usage.completion_tokens) == (3, 0)
        first, finished, _ = gateway.events["né"]
        assert first == PromptTokens(
            "né",
            tuple(
                PromptToken(shown, data, data[0])
                for shown, data in (("n", b"n"), ("�", b"\xc3"), ("�", b"\xa9"))
            ),
        )
        assert finished == RowFinished("né", 0, "length")
        assert not any(isinstance(event, Delta) for event in gateway.events["né"])
        await gateway.idle()


async def test_a_prefix_that_nobody_asks_about_is_reused(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        gateway = await house.gateway()
        await gateway.ready()
        text = "a story " * 20
        cached = []
        for number, start in enumerate((None, 0, 100)):
            scores = None if start is None else 0
            request = gateway.submit(
                text, id=str(number), prompt_logprobs=scores, prompt_logprobs_start=start or 0
            )
            completed = await gateway.outcome(request)
            assert isinstance(completed, Completed)
            cached.append(completed.usage.cached_tokens)
        assert cached == [0, 0, 100]
