"""Where state lives."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from trunkline.core.errors import InvalidRequest
from trunkline.store.home import home


def test_made_on_demand_for_the_owner_alone(tmp_path: Path) -> None:
    path = home({"TRUNKLINE_HOME": str(tmp_path / "deep" / "home")})
    assert path == tmp_path / "deep" / "home"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_one_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    assert home({"TRUNKLINE_HOME": str(tmp_path)}) == tmp_path
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


@pytest.mark.parametrize("environ", [{}, {"TRUNKLINE_HOME": ""}])
def test_default(environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home(environ) == tmp_path / ".trunkline"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InvalidRequest, match=r"taken.*TRUNKLINE_HOME"):
        home({"TRUNKLINE_HOME": str(tmp_path / "taken")})
