from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from tests.residency.fakes import FakeResident, add
from tests.residency.virtual import run
from tests.support.fake_backend import FakeBackend
from trunkline.core.errors import InvalidRequest, Unavailable, Unsupported, refuse
from trunkline.core.types import (
    Call,
    Completed,
    Delta,
    Event,
    EventSink,
    Failed,
    Health,
    RawRequest,
    Request,
    TextInput,
)
from trunkline.residency.manager import Residency
from trunkline.residency.on_demand import OnDemandBackend
from trunkline.residency.switch import SwitchBackend


class Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ended = asyncio.Event()

    def on_events(self, events: Sequence[Event]) -> None:
        assert not self.ended.is_set()
        self.events += events
        if isinstance(events[-1], Completed | Failed):
            self.ended.set()

    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))

    def error(self) -> str:
        (failed,) = self.events
        assert isinstance(failed, Failed)
        return failed.error.message


def request(name: str = "1") -> Request:
    return Request(id=name, model="a", input=TextInput("one two three"))


def raw(error: bool = False) -> RawRequest:
    def translate() -> Request:
        if error:
            raise InvalidRequest("no prompt")
        return request("raw")

    return RawRequest(
        id="raw",
        operation="openai.completions",
        model="a",
        asked_model="a",
        stream=True,
        fields={},
        translate=translate,
    )


def loaded(backend: OnDemandBackend) -> bool:
    return backend.resident


class Behind(FakeResident):
    """As a launched engine: a switch whose backend is there while it is loaded."""

    def __init__(self, name: str = "a", mode: str = "words", **more: float) -> None:
        super().__init__(name, **more)  # type: ignore[arg-type]
        self.fake = FakeBackend(mode, name=name)
        self.switch = SwitchBackend(f"backend {name!r}", (), frozenset({"openai.completions"}))
        self.backend = self.switch  # type: ignore[assignment]

    async def load(self) -> None:
        await super().load()
        self.switch.up(self.fake)

    async def unload(self) -> None:
        self.switch.down(Health("starting", "it was stopped"))
        await super().unload()


def test_a_first_request_loads_and_is_answered() -> None:
    async def main() -> None:
        residency = Residency()
        backend = OnDemandBackend(residency, add(residency, Behind(), keep_alive=5))
        sink = Sink()
        backend.submit(request(), sink)
        assert backend.stats().waiting == 1
        assert loaded(backend) is False
        await sink.ended.wait()
        assert sink.text() == "Hello there!"
        assert loaded(backend) is True
        assert backend.stats().waiting == 0
        await asyncio.sleep(6)
        assert loaded(backend) is False
        # What it serves stays known.
        assert [card.name for card in backend.models()] == ["a"]
        await residency.close()

    run(main)


def test_bytes_of_a_dialect_are_decoded_where_the_engine_turns_out_not_to_speak_it() -> None:
    async def main() -> None:
        residency = Residency()
        backend = OnDemandBackend(residency, add(residency, Behind()))
        assert backend.relays("openai.completions")
        good, bad = Sink(), Sink()
        backend.relay(raw(), good)
        backend.relay(raw(error=True), bad)
        await good.ended.wait()
        await bad.ended.wait()
        assert good.text() == "Hello there!"
        assert bad.error() == "no prompt"
        assert not backend.relays("openai.completions")
        assert residency.slots[0].users == 0
        await residency.close()

    run(main)


@pytest.mark.parametrize("after", [0.5, 1.5])
def test_cancelled_while_it_waits_or_is_answered(after: float) -> None:
    async def main() -> None:
        residency = Residency()
        resident = Behind(mode="hang")
        slot = add(residency, resident)
        backend = OnDemandBackend(residency, slot)
        sink = Sink()
        call = backend.submit(request(), sink)
        await asyncio.sleep(after)
        assert (slot.users, len(slot.waiters)) == ((1, 0) if after > 1 else (0, 1))
        call.cancel()
        call.cancel()
        assert (slot.users, len(slot.waiters)) == (0, 0)
        await asyncio.sleep(5)
        assert len(resident.fake.calls) == (1 if after > 1 else 0)
        assert all(call.cancelled.is_set() for call in resident.fake.calls)
        assert not sink.events
        await residency.close()

    run(main)


def test_a_load_that_fails_fails_the_request_with_the_reason() -> None:
    async def main() -> None:
        residency = Residency()
        resident = Behind()
        resident.failures = 1
        backend = OnDemandBackend(residency, add(residency, resident))
        for _ in range(2):
            sink = Sink()
            backend.submit(request(), sink)
            assert not sink.events
            await sink.ended.wait()
            assert "out of memory" in sink.error()
        with pytest.raises(Unavailable, match="out of memory"):
            await backend.count_tokens(request())
        await residency.close()

    run(main)


def test_questions_load_too_and_keep_it_in_use() -> None:
    async def main() -> None:
        residency = Residency()
        slot = add(residency, Behind(), keep_alive=0)
        backend = OnDemandBackend(residency, slot)
        assert await backend.count_tokens(request()) == 3
        assert (await backend.tokenize(request())).token_ids == (0, 1, 2)
        assert (await backend.detokenize((7,))).text == "7"
        assert slot.loads == 3
        await backend.load()
        assert slot.loads == 4
        task = asyncio.create_task(backend.load())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not slot.waiters
        await residency.close()

    run(main)


def test_what_would_be_refused_loads_nothing() -> None:
    class Picky(FakeResident):
        def refuse(self, request: Request) -> None:
            refuse(request.beyond)

    async def main() -> None:
        residency = Residency()
        slot = add(residency, Picky("a"))
        backend = OnDemandBackend(residency, slot)
        beyond = msgspec.structs.replace(request(), beyond={"echo": "'echo' is not supported."})
        sink = Sink()
        backend.submit(beyond, sink)
        await asyncio.wait_for(sink.ended.wait(), 5)
        assert sink.error() == "'echo' is not supported."
        for question in (backend.tokenize, backend.count_tokens):
            with pytest.raises(Unsupported, match="echo"):
                await question(beyond)
        assert slot.loads == slot.users == 0
        assert await backend.count_tokens(request()) == 3
        await residency.close()

    run(main)


def test_a_fault_of_ours_in_one_request_does_not_touch_the_others() -> None:
    class Broken(FakeBackend):
        def submit(self, request: Request, sink: EventSink) -> Call:
            if request.id == "broken":
                raise RuntimeError("a fault")
            return super().submit(request, sink)

    async def main() -> None:
        residency = Residency()
        resident = Behind()
        resident.fake = Broken()
        backend = OnDemandBackend(residency, add(residency, resident))
        broken, good = Sink(), Sink()
        backend.submit(request("broken"), broken)
        backend.submit(request("good"), good)
        await good.ended.wait()
        assert "a fault" in broken.error()
        with pytest.raises(RuntimeError):
            backend.submit(request("broken"), Sink())
        assert residency.slots[0].users == 0
        await residency.close()

    run(main)


def test_a_switch_says_why_nobody_answers() -> None:
    async def main() -> None:
        switch = SwitchBackend("backend 'a'")
        switch.down(Health("restarting", "it ended with status 7"), 4.0)
        sink = Sink()
        switch.submit(request(), sink)
        await sink.ended.wait()
        (failed,) = sink.events
        assert isinstance(failed, Failed)
        assert failed.error.kind == "unavailable"
        assert failed.error.retry_after == 4
        assert "restarting: it ended with status 7" in failed.error.message
        quiet = Sink()
        switch.relay(raw(), quiet).cancel()
        await asyncio.sleep(1)
        assert not quiet.events
        with pytest.raises(Unavailable):
            await switch.tokenize(request())

    run(main)
