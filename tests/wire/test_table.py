from __future__ import annotations

from trunkline.wire.table import ROUTES


def test_a_path_and_method_have_one_row() -> None:
    places = [(row.method, row.path) for row in ROUTES]
    assert len(set(places)) == len(places)


def test_what_works_for_a_client_needs_a_key() -> None:
    assert all(row.keyed for row in ROUTES if row.codec or row.shared)
    free = {row.name for row in ROUTES if not row.keyed}
    assert free == {"root", "version", "metrics", "health", "live", "ready", "ollama_version"} | {
        "kserve_server",
        "kserve_live",
        "kserve_ready",
    }
