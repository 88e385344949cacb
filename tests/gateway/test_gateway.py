from __future__ import annotations

import pytest

from tests.support.fake_backend import FakeBackend
from trunkline.core.errors import ModelNotFound, Unavailable
from trunkline.core.types import Health
from trunkline.gateway.gateway import Gateway, ServedModel
from trunkline.gateway.keys import Keys

ONE = ServedModel("one", FakeBackend(name="one"), ("uno", "tgi"))
TWO = ServedModel("two", FakeBackend(name="two"))


def gateway() -> Gateway:
    return Gateway((ONE, TWO), Keys(()))


@pytest.mark.parametrize("name", ["", "one", "uno", "default", "local-model", "tgi"])
def test_the_first_model_is_the_default(name: str) -> None:
    assert gateway().resolve(name) is ONE


def test_other_models_answer_to_their_own_name() -> None:
    assert gateway().resolve("two") is TWO


def test_unknown_names_are_told_what_there_is() -> None:
    with pytest.raises(ModelNotFound) as caught:
        gateway().resolve("gpt-4")
    for name in ("gpt-4", "one", "uno", "two"):
        assert f"`{name}`" in caught.value.message
    assert "local-model" not in caught.value.message


def test_long_unknown_names_are_cut() -> None:
    with pytest.raises(ModelNotFound) as caught:
        gateway().resolve("x" * 10_000)
    assert len(caught.value.message) < 400


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="uno"):
        Gateway((ONE, ServedModel("uno", TWO.backend)), Keys(()))


def test_a_model_may_have_a_generic_name() -> None:
    named = ServedModel("default", TWO.backend)
    assert Gateway((ONE, named), Keys(())).resolve("default") is named


def test_draining_refuses_with_a_time_to_come_back() -> None:
    one = gateway()
    assert one.ready()
    one.draining = True
    with pytest.raises(Unavailable) as caught:
        one.resolve("one")
    assert caught.value.retry_after
    assert not one.ready()
    assert one.can_serve()


def test_ready_while_any_model_is() -> None:
    first, second = FakeBackend(name="a"), FakeBackend(name="b")
    one = Gateway((ServedModel("a", first), ServedModel("b", second)), Keys(()))
    first.state = Health("starting", "loading")
    assert one.ready()
    second.state = Health("failed", "no such file")
    assert not one.ready()


def test_fingerprints_tell_models_apart() -> None:
    assert ONE.fingerprint() == ONE.fingerprint()
    assert ONE.fingerprint() != TWO.fingerprint()
    assert ONE.fingerprint().startswith("fp_")
