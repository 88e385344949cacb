"""How hard hypothesis looks: quick and repeatable by default, long with HYPOTHESIS_PROFILE=hunt."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "engine", max_examples=50, derandomize=True, deadline=None, suppress_health_check=_SLOW
)
settings.register_profile("hunt", max_examples=5000, deadline=None, suppress_health_check=_SLOW)
settings.load_profile("hunt" if os.environ.get("HYPOTHESIS_PROFILE") == "hunt" else "engine")
