"""The README's client example, as it stands there, against the model in the box."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.server import serve

ROOT = Path(__file__).resolve().parents[2]


def test_the_client_example_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert "http://127.0.0.1:8000" in example
    with serve(tmp_path) as server:
        program = example.replace("http://127.0.0.1:8000", server.url)
        result = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
