"""The picture of a report: bars as long as their figures, and a distribution that rises."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from engine.bench.latency_plot import ticks
from engine.bench.plot import WIDTH, plot
from engine.bench.plot_style import COLOURS
from engine.bench.report import Report, Row
from engine.bench.stats import QUANTILES, Spread

SVG = "{http://www.w3.org/2000/svg}"
MACHINE = {"cpu": "a <fast> one", "cpus": 2, "python": "CPython 3.11"}


def row(side: str, rate: float, workload: str = "consume", **more: float) -> Row:
    figures = {"rate": Spread(rate, rate * 0.9, rate * 1.1)} if rate else {}
    return Row(workload, side, 100, 3, figures | {key: Spread(x, x, x) for key, x in more.items()})


def latency_row(side: str, fastest_ms: float) -> Row:
    values = [fastest_ms * (1 + percent / 50) for percent in QUANTILES]
    figures = {key: Spread(values[50], values[50], values[50]) for key in ("p50_ms", "p99_ms")}
    return Row("roundtrip", side, 100, 3, {"rate": Spread(9.0, 9.0, 9.0), **figures}, [], values)


def draw(*rows: Row) -> ElementTree.Element:
    parameters = {"broker": "redis://localhost/0", "concurrency": 2, "runs": 3}
    return ElementTree.fromstring(
        plot(Report(list(rows), parameters, {"Redis": "7.0", "engine": "1"}, MACHINE))
    )


def bars(root: ElementTree.Element) -> dict[str, float]:
    """Length of each side's bar."""
    sides = {colour: side for side, colour in COLOURS.items()}
    found = [
        (sides.get(rect.get("fill", "")), float(rect.get("width", 0))) for rect in root.iter(f"{SVG}rect")
    ]
    return {side: width for side, width in found if side is not None}


def words(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def test_bars_are_as_long_as_their_figures() -> None:
    root = draw(row("engine", 20_000), row("celery", 1_000), row("dramatiq", 5_000))
    found = bars(root)
    assert found["engine"] / found["dramatiq"] == pytest.approx(4.0, rel=0.01)
    assert found["engine"] / found["celery"] == pytest.approx(20.0, rel=0.02)
    assert {"20,000", "1,000", "5,000", "Redis 7.0, 2 processes", "Draining a full queue"} <= set(words(root))
    assert any("a <fast> one" in text for text in words(root))


def test_the_broker_by_itself_does_not_set_the_scale() -> None:
    alone = bars(draw(row("engine", 20_000), row("celery", 1_000)))
    found = bars(draw(row("engine", 20_000), row("celery", 1_000), row("raw", 400_000)))
    assert found["raw"] >= found["engine"] > alone["engine"] * 0.8
    assert "400,000" in words(draw(row("engine", 20_000), row("raw", 400_000)))


def test_every_kind_of_workload_has_bars() -> None:
    root = draw(
        row("engine", 0, "start", start_ms=400.0),
        row("engine", 0, "idle", pss_mib=40.0, idle_cpu=0.1),
        row("engine", 0, "sharing-b", over_ideal=1.1, makespan_s=3.0),
        row("engine", 0, "sharing-d", over_ideal=1.0, short_over_ideal=1.2),
        row("engine", 300_000, "codec"),
    )
    assert {"400", "40.0", "1.10", "1.20", "300,000"} <= set(words(root))


def test_nothing_leaves_the_picture() -> None:
    root = draw(*(row(side, rate) for side, rate in zip(COLOURS, (9, 4_000, 70, 0.5, 1e6), strict=True)))
    height = float(root.get("height", 0))
    for rect in root.iter(f"{SVG}rect"):
        x, y = float(rect.get("x", 0)), float(rect.get("y", 0))
        assert 0 <= x <= x + float(rect.get("width", 0)) <= WIDTH
        assert 0 <= y <= y + float(rect.get("height", 0)) <= height
    assert all(0 <= float(text.get("y", -1)) <= height for text in root.iter(f"{SVG}text"))


def test_latencies_are_drawn_as_rising_curves() -> None:
    root = draw(latency_row("engine", 0.5), latency_row("celery", 3.0))
    curves = {path.get("stroke"): path.get("d", "") for path in root.iter(f"{SVG}path")}
    assert set(curves) == {COLOURS["engine"], COLOURS["celery"]}
    for curve in curves.values():
        points = [tuple(map(float, point.split(","))) for point in curve.removeprefix("M").split("L")]
        assert len(points) == len(QUANTILES)
        assert all(left[0] <= right[0] and left[1] >= right[1] for left, right in pairwise(points))
    assert "p50 1.00, p99 1.00 ms" in words(root)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.4, 6.0, [0.5, 1, 2, 5]), (0.9, 1.1, [1]), (0.001, 1_000, [0.001, 0.01, 0.1, 1, 10, 100, 1_000])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected
