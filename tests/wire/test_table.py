from __future__ import annotations

from trunkline.wire.table import KEYED, ROUTES


def test_no_row_hides_another() -> None:
    rows = [(row.method, row.path) for row in ROUTES]
    assert len(rows) == len(set(rows))


def test_what_generates_needs_a_key() -> None:
    assert all(row.path.startswith(KEYED) for row in ROUTES if row.codec is not None)


def test_probes_and_metrics_need_none() -> None:
    free = {row.path for row in ROUTES if not row.path.startswith(KEYED)}
    assert free >= {"/health", "/health/live", "/health/ready", "/ready", "/metrics", "/version"}
