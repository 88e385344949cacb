"""How engines are started and reached."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from trunkline.backends.config import BackendConfig
from trunkline.backends.connect import Remote, connect
from trunkline.backends.http.client import HttpClient
from trunkline.residency.compose import Launchers, local_launchers
from trunkline.residency.view import MakeBackend
from trunkline.wire.speakers import SPEAKERS


@pytest.fixture
async def make_backend() -> AsyncIterator[MakeBackend]:
    client = HttpClient()

    def make(config: BackendConfig, url: str) -> Remote:
        return connect(msgspec.structs.replace(config, url=url), client, SPEAKERS, {})

    yield make
    await client.close()


@pytest.fixture
def launchers(tmp_path: Path) -> Launchers:
    return local_launchers(tmp_path / "logs")
