"""`make bench-plots`: rows against seconds and memory, and requests against the share of rows that changed, as SVG."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmarks import measure
from tests.benchmarks.__main__ import Bench, versions
from tests.benchmarks.measure import job

DOCS = measure.ROOT / "docs"
WIDE, HIGH, LEFT, BELOW, ABOVE = 640, 340, 70, 50, 40
COLOURS = ("#1f6f8b", "#c8553d", "#7a7a7a")

Points = Sequence[tuple[float, float]]


def plot(title: str, across: str, lines: Mapping[str, Points]) -> str:
    """A chart with both axes logarithmic, a line with its dots for each name."""
    every = [point for points in lines.values() for point in points]
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    low = 10 ** math.floor(math.log10(min(y for _, y in every)))
    high = 10 ** math.ceil(math.log10(max(y for _, y in every)))

    def at(x: float, y: float) -> tuple[float, float]:
        over = math.log(x / left) / math.log(right / left) * (WIDE - LEFT - 30)
        up = math.log(y / low) / math.log(high / low) * (HIGH - BELOW - ABOVE)
        return round(LEFT + over, 1), round(HIGH - BELOW - up, 1)

    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDE}" height="{HIGH}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{title}</text>',
        f'<text x="{(WIDE + LEFT) / 2}" y="{HIGH - 12}" text-anchor="middle">{across}</text>',
    ]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        _, y = at(left, 10.0**power)
        drawn.append(f'<line x1="{LEFT}" x2="{WIDE - 30}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        drawn.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{axis(10.0**power)}</text>')
    for x in sorted({x for x, _ in every}):
        place, _ = at(x, low)
        drawn.append(f'<text x="{place}" y="{HIGH - BELOW + 18}" text-anchor="middle">{axis(x)}</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(x, y) for x, y in points]
        path = " ".join(f"{x},{y}" for x, y in places)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in places]
        drawn.append(f'<text x="{LEFT + 10}" y="{ABOVE + 4 + 16 * number}" fill="{colour}">{name}</text>')
    return "\n".join([*drawn, "</svg>", ""])


def axis(value: float) -> str:
    """A number beside an axis."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def growth(bench: Bench, most: int) -> None:
    """Seconds and memory of a plan, of the floor, and of DuckDB, from a hundred thousand to ten million rows."""
    seconds: dict[str, list[tuple[float, float]]] = {"connect-etl": [], "polars.read_csv": [], "DuckDB": []}
    memory: dict[str, list[tuple[float, float]]] = {"connect-etl": [], "polars.read_csv": [], "DuckDB": []}
    for count in (100_000, 1_000_000, 5_000_000, 10_000_000):
        if count > most:
            break
        rows = bench.rows(count)
        old, new = bench.file("prices", rows, "1.utf8.csv"), bench.file("prices", rows, "2.utf8.csv", 0.02)
        state = bench.state("prices", bench.file("prices", rows, "1.csv"))
        today = bench.file("prices", rows, "2.csv", 0.02)
        ours = bench.plan("prices", today, state, lambda new=new: job("floor", new, "prices"), 1)  # type: ignore[misc]
        duck = bench.peer("duckdb", old, new)
        for name, taken in (("connect-etl", ours.taken[0]), ("polars.read_csv", ours.floors[0]), ("DuckDB", duck)):
            seconds[name].append((rows, taken.seconds))
            memory[name].append((rows, taken.memory))
            print(f"{rows:>12,} rows {name:16} {taken.seconds:8.2f} s {taken.memory:7.0f} MB", flush=True)
    draw("rows-seconds.svg", plot("A plan of so many price rows, 2 % changed: seconds", "rows", seconds))
    draw("rows-memory.svg", plot("A plan of so many price rows, 2 % changed: MB at the peak", "rows", memory))


def shares(bench: Bench) -> None:
    """Requests of a plan over the share of rows that changed, beside one for every thousand changed rows."""
    rows = bench.rows(100_000)
    state = bench.state("prices", bench.file("prices", rows, "1.csv"))
    ours, least = [], []
    for percent in (0.1, 0.5, 1.0, 5.0, 20.0, 100.0):
        today = bench.file("prices", rows, f"share-{percent:g}.csv", percent / 100)
        said = measure.planned(bench.folder / "work", "prices", today, state).said.split()
        changed, requests = int(said[5]), int(said[6])
        ours.append((percent, float(requests)))
        least.append((percent, float(max(1, -(-changed // 1000)))))
        print(f"{percent:>6g} % changed: {changed:>7,} records in {requests} requests", flush=True)
    lines: Mapping[str, Points] = {"requests of the plan": ours, "fewest possible": least}
    draw("share-requests.svg", plot(f"Requests for {rows:,} price rows", "% of the rows with a new price", lines))


def draw(name: str, drawn: str) -> None:
    """Into docs/."""
    (DOCS / name).write_text(drawn, encoding="utf-8")


def main() -> None:
    """Measures and draws."""
    parser = argparse.ArgumentParser(prog="make bench-plots")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--most", type=int, default=10_000_000, help="rows of the largest file")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    measure.small_parent()
    print(versions())
    with tempfile.TemporaryDirectory(prefix="etl-bench-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder, 1, given.scale)
        shares(bench)
        growth(bench, given.most)


if __name__ == "__main__":
    main()
