"""The worker: answers, cache, hostile grammars, death, many callers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from msgspec.structs import replace

from tests.support.processes import killed
from trunkline.core.errors import InvalidRequest, QueueFull, Unavailable
from trunkline.core.types import Grammar
from trunkline.engine.grammar.compiler import GrammarCompiler
from trunkline.engine.grammar.messages import outline
from trunkline.text.byte_tokenizer import ByteTokenizer

GOOD = Grammar("choice", '["a", "b"]')
# Keeps llguidance busy for many seconds.
SLOW = Grammar(
    "json_schema",
    json.dumps({"allOf": [{"type": "string", "pattern": f".*a.{{{n}}}b.*"} for n in range(5, 40)]}),
)


def make(cpu_seconds: float = 2.0, max_waiting: int = 64) -> GrammarCompiler:
    return GrammarCompiler(
        lambda: outline(ByteTokenizer()), cpu_seconds=cpu_seconds, max_waiting=max_waiting
    )


@pytest_asyncio.fixture
async def compiler() -> AsyncIterator[GrammarCompiler]:
    found = make(cpu_seconds=0.5)
    yield found
    await found.close()


async def test_the_worker_starts_with_the_first_grammar(compiler: GrammarCompiler) -> None:
    assert compiler.worker_pid == 0
    assert (await compiler.check(GOOD)).startswith("start: TEXT")
    assert compiler.worker_pid > 0


async def test_results_are_kept_good_and_bad(compiler: GrammarCompiler) -> None:
    source = await compiler.check(GOOD)
    with pytest.raises(InvalidRequest) as first:
        await compiler.check(Grammar("regex", "("))
    os.kill(compiler.worker_pid, signal.SIGSTOP)
    async with asyncio.timeout(30):
        assert await compiler.check(GOOD) == source
        with pytest.raises(InvalidRequest) as second:
            await compiler.check(Grammar("regex", "("))
    assert first.value.message == second.value.message
    assert second.value.param == "regex"


async def test_equal_grammars_that_come_together_are_checked_once() -> None:
    compiler = make(max_waiting=2)
    # What a client calls it makes no other grammar of it.
    named = [replace(GOOD, name=f"n{number}") for number in range(20)]
    sources = await asyncio.gather(*(compiler.check(one) for one in named))
    assert len(set(sources)) == 1
    await compiler.close()


async def test_a_slow_grammar_fails_alone_and_in_time(compiler: GrammarCompiler) -> None:
    await compiler.check(GOOD)
    before = compiler.worker_pid
    slow = asyncio.create_task(compiler.check(SLOW))
    other = asyncio.create_task(compiler.check(Grammar("regex", "[a-z]+")))
    with pytest.raises(InvalidRequest, match=r"takes more than 0\.5 s to compile"):
        await slow
    assert await other
    assert compiler.worker_pid not in (0, before)
    # It is known now: no worker ends of it again.
    before = compiler.worker_pid
    with pytest.raises(InvalidRequest, match=r"takes more than 0\.5 s to compile"):
        await compiler.check(SLOW)
    assert compiler.worker_pid == before


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("regex", "(" * 50_000 + "a" + ")" * 50_000),
        Grammar("lark", "start: " + "(" * 50_000 + '"a"' + ")" * 50_000),
        Grammar("gbnf", "root ::= " + "(" * 50_000 + '"a"' + ")" * 50_000),
        Grammar("json_schema", '{"items":' * 20_000 + "{}" + "}" * 20_000),
        Grammar("lark", "start: A0\n" + "".join(f"A{i}: A{i + 1} A{i + 1}\n" for i in range(40))),
        Grammar(
            "gbnf",
            "root ::= a0\n"
            + "".join(f'a{i} ::= a{i + 1} | "x"\n' for i in range(5000))
            + 'a5000 ::= "a"\n',
        ),
        Grammar(
            "json_schema",
            json.dumps({"properties": {f"p{i}": {"type": "string"} for i in range(8000)}}),
        ),
        Grammar(
            "lark", 'start: S\nS: %regex {"substring_chars": "' + "abcde fghij" * 20_000 + '"}'
        ),
    ],
    ids=["regex", "lark", "gbnf", "schema", "doubling", "chain", "properties", "substring"],
)
async def test_a_hostile_grammar_is_refused_and_the_next_one_works(
    compiler: GrammarCompiler, grammar: Grammar
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await compiler.check(grammar)
    assert caught.value.param == grammar.kind
    assert len(caught.value.message) < 1000
    assert await compiler.check(GOOD)


async def test_a_worker_killed_at_work_is_replaced() -> None:
    compiler = make(cpu_seconds=30)
    await compiler.check(GOOD)
    slow = asyncio.create_task(compiler.check(SLOW))
    await asyncio.sleep(0.1)
    os.kill(compiler.worker_pid, signal.SIGKILL)
    with pytest.raises(InvalidRequest, match="too much memory, or nests too deeply"):
        await slow
    assert await compiler.check(Grammar("regex", "x"))
    await compiler.close()


async def test_a_worker_killed_when_idle_costs_nobody_a_request(compiler: GrammarCompiler) -> None:
    await compiler.check(GOOD)
    await killed(compiler.worker_pid)
    assert await compiler.check(Grammar("regex", "x"))


async def test_the_queue_is_bounded() -> None:
    compiler = make(cpu_seconds=1, max_waiting=1)
    tasks = [asyncio.create_task(compiler.check(Grammar("regex", f"a{n}"))) for n in range(5)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(result, QueueFull) for result in results)
    assert any(isinstance(result, str) for result in results)
    await compiler.close()


async def test_a_caller_that_goes_away_leaves_the_others_their_result() -> None:
    compiler = make()
    first = asyncio.create_task(compiler.check(GOOD))
    second = asyncio.create_task(compiler.check(GOOD))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert first.cancelled()
    await compiler.close()


async def test_closing_ends_the_worker_and_those_who_wait() -> None:
    compiler = make(cpu_seconds=30)
    await compiler.check(GOOD)
    pid = compiler.worker_pid
    slow = asyncio.create_task(compiler.check(SLOW))
    await asyncio.sleep(0.05)
    await compiler.close()
    with pytest.raises(Unavailable):
        await slow
    with pytest.raises(Unavailable):
        await compiler.check(Grammar("regex", "y"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
