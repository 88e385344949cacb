"""One configuration of a launched engine follows another."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import pytest

from tests.backends.fakes import Sink
from tests.residency.configured import config
from tests.residency.processes import alive, until
from trunkline.backends.config import BackendConfig, Probe
from trunkline.backends.connect import Remote
from trunkline.core.errors import Unavailable
from trunkline.core.types import Backend, ChatInput, Completed, Message, Request
from trunkline.residency import compose
from trunkline.residency import launched as launched_module
from trunkline.residency.compose import Launchers, OpenResidency, Tenant
from trunkline.residency.launched import LaunchedEngine
from trunkline.residency.on_demand import OnDemandBackend
from trunkline.residency.switch import SwitchBackend
from trunkline.residency.view import MakeBackend


def slowly(made: BackendConfig, interval: float = 0.05, **fields: object) -> BackendConfig:
    """The same engine with other settings."""
    return msgspec.structs.replace(made, health=Probe(interval=interval, timeout=2.0), **fields)


async def shared(
    residency: OpenResidency, made: BackendConfig, make_backend: MakeBackend
) -> Tenant:
    assert made.launch is not None
    return await residency.add_backend(made, made.launch, make_backend)


def resident(tenant: Tenant) -> LaunchedEngine:
    found = tenant.slot.resident
    assert isinstance(found, LaunchedEngine)
    return found


async def loaded(tenant: Tenant) -> None:
    await until(lambda: tenant.backend.health().state == "ready")


async def answer_of(backend: Backend) -> str:
    """What it says: the number of its process."""
    sink, said = Sink(), ChatInput((Message(role="user", content="hello"),))
    backend.submit(Request(id="1", model="tiny", input=said), sink)
    events = await sink.done()
    assert isinstance(events[-1], Completed), events
    return sink.text


@pytest.mark.parametrize("on_demand", [False, True])
async def test_other_settings_of_a_running_engine_leave_it_running(
    make_backend: MakeBackend, launchers: Launchers, on_demand: bool
) -> None:
    """The new backend answers at once, the old one until it is removed."""
    first = config("--slow", "0.3", on_demand=on_demand)
    async with compose.open_residency(None, launchers, os.environ) as residency:
        old = await shared(residency, first, make_backend)
        if isinstance(old.backend, OnDemandBackend):
            await old.backend.load()
        await loaded(old)
        pid = str(resident(old).pid)
        under_way = asyncio.create_task(answer_of(old.backend))
        await asyncio.sleep(0.05)
        new = await shared(residency, slowly(first, 0.07, models=("tiny", "b")), make_backend)
        assert new.slot is old.slot
        assert new.backend is not old.backend
        assert new.backend.health().state == "ready"
        assert [card.name for card in new.backend.models()] == ["tiny", "b"]
        assert await answer_of(new.backend) == await under_way == pid
        await residency.remove(old)
        await residency.remove(old)
        assert await answer_of(new.backend) == pid
        # Whichever remains has it started again.
        os.kill(int(pid), signal.SIGKILL)
        await until(lambda: resident(new).pid not in (0, int(pid)))
        await loaded(new)
        assert await answer_of(new.backend) == str(resident(new).pid)
        assert new.backend.stats().restarts == 1
        again = resident(new).pid
        await residency.remove(new)
        assert not alive(again)
        with pytest.raises(Unavailable):
            await new.backend.detokenize((1,))


async def test_settings_that_are_taken_back_change_nothing(
    make_backend: MakeBackend, launchers: Launchers
) -> None:
    async with compose.open_residency(None, launchers, os.environ) as residency:
        old = await shared(residency, config(), make_backend)
        await loaded(old)
        new = await shared(residency, slowly(config(), 0.07), make_backend)
        await residency.remove(new)
        assert old.backend.health().state == "ready"
        assert await answer_of(old.backend) == str(resident(old).pid)

        def fail(config: BackendConfig, url: str) -> Remote:
            raise ValueError("no such header")

        with pytest.raises(ValueError, match="backend 'tiny': no such header"):
            await shared(residency, slowly(config(), 0.08), fail)
        assert await answer_of(old.backend) == str(resident(old).pid)
        assert resident(old).backend is old.backend


async def test_an_engine_that_is_being_loaded_is_shared_too(
    make_backend: MakeBackend, launchers: Launchers, tmp_path: Path
) -> None:
    well = tmp_path / "well"
    made = config("--when", str(well))
    async with compose.open_residency(None, launchers, os.environ) as residency:
        old = await shared(residency, made, make_backend)
        await until(lambda: "503" in old.backend.health().detail)
        new = await shared(residency, slowly(made, 0.07), make_backend)
        await residency.remove(old)
        assert new.backend.health().state == "starting"
        well.touch()
        await loaded(new)
        assert await answer_of(new.backend) == str(resident(new).pid)


async def test_another_process_is_started_for_what_concerns_it(
    make_backend: MakeBackend, launchers: Launchers
) -> None:
    async with compose.open_residency(None, launchers, os.environ) as residency:
        old = await shared(residency, config(), make_backend)
        await loaded(old)
        new = await shared(residency, config("--slow", "0.01"), make_backend)
        assert new.slot is not old.slot
        await loaded(new)
        assert resident(new).pid != resident(old).pid


async def test_one_answers_until_its_new_version_can(
    make_backend: MakeBackend, launchers: Launchers, tmp_path: Path
) -> None:
    well = tmp_path / "well"
    made = msgspec.structs.replace(config("--when", str(well)), models=("tiny",))
    before = msgspec.structs.replace(config(), models=("tiny",))
    async with compose.open_residency(None, launchers, os.environ) as residency:
        old = await shared(residency, before, make_backend)
        await loaded(old)
        pid = str(resident(old).pid)
        new = await shared(residency, made, make_backend)
        newest = await shared(residency, slowly(made, 0.07), make_backend)
        assert newest.slot is new.slot
        await until(lambda: resident(new).pid > 0)
        for tenant in (old, new, newest):
            assert tenant.backend.health().state == "ready"
            assert await answer_of(tenant.backend) == pid
        # Both need the one that answers, and neither the other.
        assert [in_flight(one) for one in (old, new, newest)] == [2, 0, 0]
        well.touch()
        await until(lambda: in_flight(old) == 0)
        assert [in_flight(one) for one in (new, newest)] == [0, 0]
        await residency.remove(old)
        await residency.remove(new)
        assert await answer_of(newest.backend) == str(resident(newest).pid) != pid


def in_flight(tenant: Tenant) -> int:
    assert isinstance(tenant.backend, SwitchBackend)
    return tenant.backend.in_flight


async def test_one_whose_new_version_fails_is_not_kept_for_it(
    make_backend: MakeBackend, launchers: Launchers
) -> None:
    """They may not fit beside each other, on a GPU say, which nobody told us of."""
    async with compose.open_residency(None, launchers, os.environ) as residency:
        old = await shared(residency, slowly(config(), models=("tiny",)), make_backend)
        await loaded(old)
        failing = slowly(config("--exit", "1"), models=("tiny",))
        new = await shared(residency, failing, make_backend)
        assert in_flight(old) == 1
        assert await answer_of(new.backend) == str(resident(old).pid)
        await until(lambda: in_flight(old) == 0)
        assert new.backend.health().state == "failed"
        assert await answer_of(old.backend) == str(resident(old).pid)


@pytest.mark.parametrize("models", [(), ("b",)])
async def test_one_with_other_models_does_not_answer_for_it(
    make_backend: MakeBackend, launchers: Launchers, models: tuple[str, ...]
) -> None:
    async with compose.open_residency(None, launchers, os.environ) as residency:
        old = await shared(residency, slowly(config(), models=models and ("a",)), make_backend)
        await loaded(old)
        new = await shared(residency, slowly(config("--sick"), models=models), make_backend)
        assert new.backend.health().state == "starting"
        assert in_flight(old) == 0


async def test_one_that_is_taken_back_while_it_starts_needs_nobody(
    make_backend: MakeBackend, launchers: Launchers
) -> None:
    async with compose.open_residency(None, launchers, os.environ) as residency:
        old = await shared(residency, slowly(config(), models=("tiny",)), make_backend)
        await loaded(old)
        sick = await shared(residency, slowly(config("--sick"), models=("tiny",)), make_backend)
        await until(lambda: resident(sick).pid > 0)
        assert in_flight(old) == 1
        await residency.remove(sick)
        assert in_flight(old) == 0
        assert await answer_of(old.backend) == str(resident(old).pid)


async def test_one_at_work_for_its_old_configuration_is_left_to_it(
    make_backend: MakeBackend, launchers: Launchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one has nothing to do, and hears nothing of it."""
    monkeypatch.setattr(launched_module, "_UNWELL", 0.4)
    checks = Probe(interval=0.05, timeout=0.05)
    first = msgspec.structs.replace(config("--slow", "1.5"), health=checks)
    async with compose.open_residency(None, launchers, os.environ) as residency:
        old = await shared(residency, first, make_backend)
        await loaded(old)
        pid = str(resident(old).pid)
        new = await shared(
            residency, msgspec.structs.replace(first, headers={"x": "1"}), make_backend
        )
        under_way = asyncio.create_task(answer_of(old.backend))
        await until(lambda: new.backend.health().state == "failed")
        assert await under_way == pid
        assert resident(new).backend.restarts == 0


async def test_the_last_may_leave_while_another_comes(
    make_backend: MakeBackend, launchers: Launchers, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    made = config("--gate", str(gate))
    async with compose.open_residency(None, launchers, os.environ) as residency:
        old = await shared(residency, made, make_backend)
        await loaded(old)
        pid = resident(old).pid
        # It answers nobody else meanwhile.
        under_way = asyncio.create_task(answer_of(old.backend))
        await asyncio.sleep(0.1)
        coming = asyncio.create_task(shared(residency, slowly(made, 0.07), make_backend))
        await asyncio.sleep(0.1)
        await residency.remove(old)
        gate.touch()
        new = await coming
        assert await under_way == str(pid)
        assert await answer_of(new.backend) == str(pid)
        gate.unlink()
        busy = asyncio.create_task(answer_of(new.backend))
        await asyncio.sleep(0.1)
        patient = msgspec.structs.replace(made, health=Probe(interval=0.08, timeout=60.0))
        coming = asyncio.create_task(shared(residency, patient, make_backend))
        await asyncio.sleep(0.1)
        await residency.remove(new)
        coming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await coming
        await asyncio.gather(busy, return_exceptions=True)
        # Nobody was left.
        assert not alive(pid)
