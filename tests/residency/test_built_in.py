"""Our own engines and llama.cpp's server, loaded on demand in one budget."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec
import pytest

import trunkline
from tests.residency.opened import open_residency
from tests.residency.processes import alive, until
from tests.residency.test_on_demand import Sink
from tests.support.llama_server import SCRIPT
from tests.support.server import write_rules
from trunkline.backends.config import BackendConfig, LaunchConfig
from trunkline.core.errors import Unavailable, Unsupported
from trunkline.core.types import Request, SamplingParams, TextInput
from trunkline.engine.config import EngineConfig
from trunkline.residency import compose
from trunkline.residency.built_in import BuiltInResident, estimate
from trunkline.residency.compose import EnginePlan, Launchers, Tenant, local_launchers
from trunkline.residency.launched import LaunchedEngine
from trunkline.residency.slot import Choosy
from trunkline.residency.view import MakeBackend

CABOOSE = Path(trunkline.__file__).with_name("models_bundled") / "caboose.gguf"


def request(model: str) -> Request:
    return Request(
        id=f"ask-{model}",
        model=model,
        input=TextInput("Once upon a time"),
        sampling=SamplingParams(temperature=0.0, max_tokens=4),
    )


async def test_a_built_in_model_comes_and_goes(tmp_path: Path) -> None:
    rules = write_rules(tmp_path / "rules.json", {"contains": "", "text": "all aboard"})
    resident = BuiltInResident(EngineConfig(name="s", model=str(rules), executor="scripted"))
    assert not resident.backend.relays("openai.chat")
    assert [card.source for card in resident.backend.models()] == [str(rules)]
    for _ in range(2):
        await resident.load()
        assert resident.backend.health().state == "ready"
        sink = Sink()
        resident.backend.submit(request("s"), sink)
        await asyncio.wait_for(sink.ended.wait(), 60)
        assert sink.text() == "all "
        await resident.unload()
        with pytest.raises(Unavailable):
            await resident.backend.count_tokens(request("s"))
    await resident.unload()
    assert isinstance(resident, Choosy)
    with pytest.raises(Unsupported, match="no echo"):
        resident.refuse(msgspec.structs.replace(request("s"), beyond={"echo": "no echo"}))
    resident.refuse(request("s"))


async def test_the_next_version_of_a_model_leans_on_the_one_before(
    tmp_path: Path, launchers: Launchers
) -> None:
    """As a reload brings it: the old one answers until the new one can, or has failed."""
    files = {text: tmp_path / f"{text}.json" for text in ("old", "new")}
    write_rules(files["old"], {"contains": "", "text": "old"})
    # A pipe: whoever reads it waits until something is written.
    os.mkfifo(files["new"])
    plans = [
        EnginePlan(config=EngineConfig(name="s", model=str(file), executor="scripted"))
        for file in files.values()
    ]
    broken = EnginePlan(config=EngineConfig(name="s", model=str(tmp_path / "none.gguf")))

    async def said(tenant: Tenant) -> str:
        sink = Sink()
        tenant.backend.submit(request("s"), sink)
        await asyncio.wait_for(sink.ended.wait(), 60)
        return sink.text()

    async with compose.open_residency(None, launchers, os.environ) as residency:
        old = residency.add_engine(plans[0])
        await until(lambda: old.slot.phase == "loaded")
        wrong = residency.add_engine(broken)
        assert wrong.backend.health().state == "ready"
        await until(lambda: wrong.backend.health().state == "failed")
        await residency.remove(wrong)
        # One that is taken back while it starts needs nobody.
        taken_back = residency.add_engine(plans[1])
        assert old.backend.in_flight == 1  # type: ignore[attr-defined]
        await residency.remove(taken_back)
        assert not old.backend.in_flight  # type: ignore[attr-defined]
        # One that corrects a wrong one leans on who really answers.
        wrong = residency.add_engine(broken)
        new = residency.add_engine(plans[1])
        assert old.backend.in_flight == 2  # type: ignore[attr-defined]
        assert await said(new) == "old"
        assert old.backend.in_flight  # type: ignore[attr-defined]
        await asyncio.to_thread(write_rules, files["new"], {"contains": "", "text": "new"})
        await until(lambda: new.slot.phase == "loaded")
        await until(lambda: not old.backend.in_flight)  # type: ignore[attr-defined]
        assert await said(new) == "new"
        await residency.remove(old)
        assert await said(new) == "new"


async def test_a_built_in_model_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    config = EngineConfig(name="x", model=str(tmp_path / "none.gguf"))
    assert estimate(config) == 0
    resident = BuiltInResident(config)
    with pytest.raises(Unavailable, match=r"none\.gguf"):
        await resident.load()
    health = resident.backend.health()
    assert health.state == "failed"
    assert "none.gguf" in health.detail


def test_memory_of_a_built_in_model_is_what_its_executor_plans() -> None:
    small = estimate(EngineConfig(name="c", model=str(CABOOSE), kv_memory=8 * 1024**2))
    large = estimate(EngineConfig(name="c", model=str(CABOOSE), kv_memory=64 * 1024**2))
    assert CABOOSE.stat().st_size < small
    assert large - small == pytest.approx(56 * 1024**2, rel=0.2)


async def test_a_built_in_model_and_a_launched_engine_take_turns(
    make_backend: MakeBackend, tmp_path: Path
) -> None:
    launch = LaunchConfig(
        command=(sys.executable, "-c", SCRIPT, "{model}", "{port}", "512"),
        model=str(CABOOSE),
        on_demand=True,
        memory=1024**3,
        start_timeout=60.0,
    )
    theirs = BackendConfig(name="theirs", kind="llamacpp", dialect="openai", launch=launch)
    config = EngineConfig(name="ours", model=str(CABOOSE), ctx_size=512, kv_memory=8 * 1024**2)
    async with open_residency(
        [theirs],
        [EnginePlan(config=config, on_demand=True)],
        1200 * 1024**2,
        make_backend,
        local_launchers(tmp_path / "logs"),
        os.environ,
    ) as residency:
        for name in ("theirs", "ours"):
            sink = Sink()
            residency.backend(name).submit(request(name), sink)
            await asyncio.wait_for(sink.ended.wait(), 60)
            assert sink.text(), sink.events
            others = {"theirs": "ours", "ours": "theirs"}[name]
            assert residency.on_demand(name).resident
            assert not residency.on_demand(others).resident
            assert residency.backend(others).health().load_seconds > 0
        await residency.on_demand("theirs").load()
        engine = residency.slots()["theirs"].resident
        assert isinstance(engine, LaunchedEngine)
        pid = engine.pid
        assert alive(pid)
    await until(lambda: not alive(pid))
