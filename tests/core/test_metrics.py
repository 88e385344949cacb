from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.core.twins import twins
from trunkline.core.metrics import (
    Family,
    PureCounter,
    PureHistogram,
    Registry,
    Sample,
    number,
)


def parse(registry: Registry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(registry.render())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_counters_and_gauges() -> None:
    registry = Registry()
    counter = registry.counter("hits_total", "Hits.", ("route",))
    counter.labels("a").inc()
    counter.labels("a").inc(2.5)
    counter.labels("b").inc()
    gauge = registry.gauge("depth", "Depth.").labels()
    gauge.set(5)
    gauge.dec(7)
    gauge.inc()
    seen = parse(registry)
    assert seen["hits_total", (("route", "a"),)] == 3.5
    assert seen["hits_total", (("route", "b"),)] == 1
    assert seen["depth", ()] == -1


def test_histograms_are_cumulative() -> None:
    registry = Registry()
    histogram = registry.histogram("took_seconds", "Time.", ("m",), (0.1, 1, 10)).labels("x")
    for value in (0.05, 0.1, 0.5, 100.0):
        histogram.observe(value)
    seen = parse(registry)
    buckets = {
        dict(labels)["le"]: value for (name, labels), value in seen.items() if "bucket" in name
    }
    assert buckets == {"0.1": 2, "1": 3, "10": 3, "+Inf": 4}
    assert seen["took_seconds_count", (("m", "x"),)] == 4
    assert math.isclose(seen["took_seconds_sum", (("m", "x"),)], 100.65)


def test_aliases_show_the_same_figures() -> None:
    registry = Registry()
    metric = registry.counter("ours_total", "Ours.", ("model",))
    registry.alias(metric, "vllm:theirs_total", ("model_name",))
    metric.labels("m").inc(4)
    seen = parse(registry)
    assert seen["ours_total", (("model", "m"),)] == 4
    assert seen["vllm:theirs_total", (("model_name", "m"),)] == 4


def test_labels_are_escaped() -> None:
    registry = Registry()
    nasty = 'a"b\\c\nd{}é'
    registry.counter("x_total", 'Help "with"\nlines \\.', ("l",)).labels(nasty).inc()
    assert parse(registry)["x_total", (("l", nasty),)] == 1


def test_sources_are_read_at_each_scrape() -> None:
    registry = Registry()
    values = iter((1.0, 2.0))
    registry.source(lambda: (Family("live", "gauge", "Live.", (Sample(next(values)),)),))
    assert parse(registry)["live", ()] == 1
    assert parse(registry)["live", ()] == 2


def test_names_are_unique() -> None:
    registry = Registry()
    registry.counter("x_total", "X.")
    with pytest.raises(ValueError, match="x_total"):
        registry.gauge("x_total", "X.")


def test_the_number_of_labels_is_checked() -> None:
    metric = Registry().counter("x_total", "X.", ("a", "b"))
    with pytest.raises(ValueError, match="labels"):
        metric.labels("1")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.25, "0.25"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("kind", twins(PureCounter))
def test_a_counter_counts(kind: type[PureCounter]) -> None:
    counter = kind()
    counter.inc()
    counter.inc(2)
    counter.inc(0.25)
    assert counter.value == 3.25
    counter.value = 7
    counter.value += 1
    assert counter.value == 8
    with pytest.raises(TypeError):
        counter.inc("1")  # type: ignore[arg-type]


numbers = st.floats() | st.integers(-(2**50), 2**50)


@given(st.lists(st.floats(allow_nan=False), max_size=20), st.lists(numbers, max_size=30))
def test_both_histograms_count_the_same(bounds: list[float], values: list[float]) -> None:
    bounds.sort()
    (both,) = zip(*(one.values for one in twins(PureHistogram)), strict=True)
    pure, *others = (kind(tuple(bounds)) for kind in both)
    for other in others:
        for value in values:
            pure.observe(value)
            other.observe(value)
        assert other.counts == pure.counts
        assert other.bounds == tuple(bounds)
        assert other.sum == pure.sum or (math.isnan(other.sum) and math.isnan(pure.sum))


@pytest.mark.parametrize("kind", twins(PureHistogram))
def test_a_bucket_takes_its_bound(kind: type[PureHistogram]) -> None:
    histogram = kind((1, 2.5))
    for value in (1, 1.0, 1.01, 2.5, 3, math.inf, -math.inf, math.nan):
        histogram.observe(value)
    assert histogram.counts == (4, 2, 2)
    assert kind(()).counts == (0,)
