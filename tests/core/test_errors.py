from __future__ import annotations

import msgspec
import pytest

from trunkline.core import errors


def _all(cls: type[errors.TrunklineError]) -> list[type[errors.TrunklineError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in _all(sub))]


@pytest.mark.parametrize("cls", _all(errors.TrunklineError)[1:])
def test_an_error_survives_the_way_between_processes(cls: type[errors.TrunklineError]) -> None:
    error = cls("what was wrong", param="field", retry_after=1.5)
    sent = msgspec.msgpack.encode(error.info())
    back = errors.from_info(msgspec.msgpack.decode(sent, type=errors.ErrorInfo))
    assert type(back) is cls
    assert (back.message, back.param, back.retry_after) == ("what was wrong", "field", 1.5)


def test_kinds_are_unique_and_in_the_tree_of_the_docstring() -> None:
    kinds = [cls.kind for cls in _all(errors.TrunklineError)[1:]]
    assert len(set(kinds)) == len(kinds)
    for cls in _all(errors.TrunklineError)[1:]:
        line = next(
            line for line in (errors.__doc__ or "").splitlines() if f" {cls.__name__} " in line
        )
        assert line.split()[-2:] == [cls.kind, str(cls.status)]


def test_an_unknown_kind_is_an_internal_error() -> None:
    assert type(errors.from_info(errors.ErrorInfo("alien", "x"))) is errors.InternalError
