"""Counters, gauges and histograms, and Prometheus' text format (version 0.0.4).

    registry = Registry()
    requests = registry.counter("requests_total", "Requests answered.", ("status",))
    requests.labels("200").inc()
    text = registry.render()

A metric is observed on one thread only, the event loop's. What another part counts already is read
when somebody scrapes: `Registry.source`. Format:
https://prometheus.io/docs/instrumenting/exposition_formats/ (read 2026-11-21).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import msgspec

from trunkline.core.speedups import native

Kind = Literal["counter", "gauge", "histogram"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Sample(msgspec.Struct, frozen=True):
    """One line: `suffix` is appended to the family's name."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


class Family(msgspec.Struct, frozen=True):
    """All samples of one name."""

    name: str
    kind: Kind
    help: str
    samples: tuple[Sample, ...]


class PureCounter:
    """What a `Counter` counts in."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Add `amount`, which is not negative."""
        self.value += amount


class PureHistogram:
    """What a `Histogram` counts in; `bounds` are the buckets' inclusive upper ends, rising."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        # Of all observations.
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def counts(self) -> tuple[int, ...]:
        """Observations in each bucket; the last one has no bound."""
        return tuple(self._counts)


if TYPE_CHECKING or native is None:
    _Counter = PureCounter
    _Histogram = PureHistogram
else:
    _Counter = native.Counter
    _Histogram = native.Histogram


class Counter(_Counter):
    """A number that only grows."""

    __slots__ = ()

    def samples(self, labels: tuple[tuple[str, str], ...]) -> Iterable[Sample]:
        """Its one line."""
        return (Sample(self.value, labels),)


class Gauge(Counter):
    """A number that goes up and down."""

    __slots__ = ()

    def dec(self, amount: float = 1.0) -> None:
        """Subtract `amount`."""
        self.value -= amount

    def set(self, value: float) -> None:
        """Replace the value."""
        self.value = value


class Histogram(_Histogram):
    """Observations counted in buckets."""

    __slots__ = ()

    def samples(self, labels: tuple[tuple[str, str], ...]) -> Iterable[Sample]:
        """Cumulative buckets, sum and count."""
        total = 0
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            total += count
            yield Sample(total, (*labels, ("le", number(bound))), "_bucket")
        yield Sample(self.sum, labels, "_sum")
        yield Sample(total, labels, "_count")


Child = TypeVar("Child", bound=Counter | Histogram)


class Metric(Generic[Child]):
    """Observations under one name; `labels` gives the child to observe: keep it on hot paths."""

    def __init__(
        self, name: str, text: str, kind: Kind, labels: tuple[str, ...], new: Callable[[], Child]
    ) -> None:
        self.name = name
        self.kind: Kind = kind
        self.help = text
        self.label_names = labels
        self._new = new
        self._children: dict[tuple[str, ...], Child] = {}

    def labels(self, *values: str) -> Child:
        """The child with these label values, made when first asked for."""
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self.label_names):
                raise ValueError(f"{self.name} has the labels {self.label_names}, not {values}")
            child = self._children[values] = self._new()
        return child

    def family(self, name: str, names: tuple[str, ...], text: str) -> Family:
        """All children as they are now, under any name and label names."""
        samples = tuple(
            sample
            for values, child in self._children.items()
            for sample in child.samples(tuple(zip(names, values, strict=True)))
        )
        return Family(name, self.kind, text, samples)


Source = Callable[[], Iterable[Family]]


class Registry:
    """Everything that one process exports."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._names: set[str] = set()

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Metric[Counter]:
        """A new counter; by convention its name ends in `_total`."""
        return self._add(Metric(name, text, "counter", tuple(labels), Counter))

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Metric[Gauge]:
        """A new gauge."""
        return self._add(Metric(name, text, "gauge", tuple(labels), Gauge))

    def histogram(
        self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> Metric[Histogram]:
        """A new histogram with buckets up to each of `bounds`."""
        fixed = tuple(bounds)
        return self._add(Metric(name, text, "histogram", tuple(labels), lambda: Histogram(fixed)))

    def alias(self, metric: Metric[Child], name: str, labels: Sequence[str]) -> None:
        """Export `metric` under another name too, its labels called `labels` there."""
        self._claim(name)
        names = tuple(labels)
        self.source(lambda: (metric.family(name, names, f"As {metric.name}."),))

    def source(self, source: Source) -> None:
        """Call `source` at each scrape for figures that are counted elsewhere."""
        self._sources.append(source)

    def render(self) -> str:
        """All families as text."""
        lines: list[str] = []
        for source in self._sources:
            for family in source():
                _render(family, lines)
        return "\n".join(lines) + "\n"

    def _claim(self, name: str) -> None:
        if name in self._names:
            raise ValueError(f"two metrics are called {name!r}")
        self._names.add(name)

    def _add(self, metric: Metric[Child]) -> Metric[Child]:
        self._claim(metric.name)
        self.source(lambda: (metric.family(metric.name, metric.label_names, metric.help),))
        return metric


def number(value: float) -> str:
    """`value` as Prometheus spells it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _render(family: Family, lines: list[str]) -> None:
    lines.append(f"# HELP {family.name} {_escape(family.help)}")
    lines.append(f"# TYPE {family.name} {family.kind}")
    for sample in family.samples:
        labels = ",".join(
            f'{name}="{_escape(value).replace(chr(34), chr(92) + chr(34))}"'
            for name, value in sample.labels
        )
        braces = f"{{{labels}}}" if labels else ""
        lines.append(f"{family.name}{sample.suffix}{braces} {number(sample.value)}")
