"""The page docs/benchmarks.md and its plots from the figures of a reference machine, kept in asv_bench/reference.

python -m asv_bench.report

The folder has a part for each set of figures, ``512`` and ``256`` after the bits of a vector and ``zen3``: folders with
the figures.json of ``asv_bench.compare``, and the products.json of ``asv_bench.products``; and beside them what
``asv_bench.start`` and ``asv_bench.scaling`` print.
"""

from __future__ import annotations

import json
import math
import pathlib
import statistics
from collections.abc import Callable, Iterable

from asv_bench.benchmarks.workloads import WORKLOADS
from asv_bench.compare import plot, table

ROOT = pathlib.Path(__file__).parents[1]
REFERENCE = ROOT / "asv_bench" / "reference"
PAGE, PLOTS = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "_static"

SETS = {
    "512": "vectors of 64 bytes (AVX-512)",
    "256": "limited to vectors of 32 bytes (AVX2)",
    "zen3": "a processor that has no longer ones (AVX2)",
}

#: Peer -> the least that it takes, in times of fastnn's, with vectors of 64 bytes and of 32: the project's targets.
STEP_TARGETS = {
    "jax": ({"tiny": 6, "digits": 4, "mnist": 1.8, "wide": 1.2}, {"tiny": 5, "digits": 3, "mnist": 1.8, "wide": 1.4}),
    "torch": ({"tiny": 120, "digits": 30, "mnist": 3.5, "wide": 2},) * 2,
    "scikit-learn": ({"tiny": 80, "digits": 20, "mnist": 10, "wide": 3.5},) * 2,
}


class Figures:
    """The records of one set: ``compare``'s by (task, workload, peer), and ``products``' speeds by threads."""

    def __init__(self, folder: str):
        self.parts = [
            json.loads(path.read_text("utf-8")) for path in sorted((REFERENCE / folder).glob("*/figures.json"))
        ]
        self.records = [record for part in self.parts for record in part["records"]]
        self.by_key = {(r["task"], r["workload"], r["peer"]): r for r in self.records}
        path = REFERENCE / folder / "products.json"
        self.products = json.loads(path.read_text("utf-8"))["speeds"] if path.exists() else {}

    def time(self, task: str, workload: str, peer: str = "fastnn", which: str = "median") -> float:
        record = self.by_key.get((task, workload, peer))
        return math.nan if record is None or not record.get("agrees", True) else record[which]

    def ratio(self, task: str, workload: str, peer: str, which: str = "median") -> float:
        """How many times as long as fastnn the peer takes, in the run that timed both."""
        record = self.by_key.get((task, workload, peer), {})
        return record.get("ratio" if which == "median" else "ratio of the minima", math.nan)


def rows(figures: Figures, width: int) -> Iterable[tuple[str, str, str, str, str]]:
    """(what, target, measured by medians, by minima, met or missed) of each target."""

    def row(what: str, target: float, at: Callable[[str], float], unit: str, least: bool = True) -> tuple[str, ...]:
        median, best = at("median"), at("minimum")
        sign = "≥" if least else "≤"
        met = median >= target if least else median <= target
        word = "not measured" if math.isnan(median) else "met" if met else "**missed**"
        shown = [f"{value:.3g}{unit}" if not math.isnan(value) else "" for value in (median, best)]
        return what, f"{sign} {target:g}{unit}", *shown, word

    for peer, targets in STEP_TARGETS.items():
        for name, target in targets[width].items():
            yield row(f"step {name}, {peer}", target, lambda w, n=name, p=peer: figures.ratio("step", n, p, w), "×")  # type: ignore[misc]
    yield row("step narrow, jax", 3, lambda w: figures.ratio("step", "narrow", "jax", w), "×")  # type: ignore[misc]
    if width == 0:
        yield row("step narrow", 220, lambda w: figures.time("step", "narrow", which=w), " µs", least=False)  # type: ignore[misc]
    limit = (6, 9)[width]
    yield row(
        "float64 24-8-2, loss and gradient", limit, lambda w: figures.time("step", "gradient", which=w), " µs", False
    )  # type: ignore[misc]
    for peer, way, target in (
        ("onnxruntime", "fastnn", 1.0),
        ("onnxruntime", "fastnn compiled_predict", 2.0),
    ):

        def one(w: str, peer: str = peer, way: str = way) -> float:
            return figures.time("row", "digits", peer, w) / figures.time("row", "digits", way, w)

        yield row(f"one row, {way.replace('fastnn', 'predict', 1)}, {peer}", target, one, "×")  # type: ignore[misc]
    for peer, target in (("onnxruntime", 3.0), ("jax", 1.5)):
        yield row(f"100,000 rows, {peer}", target, lambda w, p=peer: figures.ratio("rows", "digits", p, w), "×")  # type: ignore[misc]
    for peer, target in (("jax", 5.0), ("scikit-learn", 10.0)):
        yield row(f"50 networks, {peer}", target, lambda w, p=peer: figures.ratio("search", "digits", p, w), "×")  # type: ignore[misc]
    for threads, speeds in figures.products.items():
        own = speeds["fastnn"]
        others = {
            product: max(s.get(product, 0.0) for label, s in speeds.items() if label != "fastnn") for product in own
        }
        ratios = [own[product] / others[product] for product in own]
        yield row(f"products, {threads} thread(s): the least", 0.97, lambda _, r=ratios: min(r), "×")  # type: ignore[misc]
        yield row(
            f"products, {threads} thread(s): geometric mean",
            1.2,
            lambda _, r=ratios: statistics.geometric_mean(r),
            "×",
        )  # type: ignore[misc]


def products_table(figures: Figures) -> list[str]:
    """The speeds of the products as Markdown."""
    lines = []
    for threads, speeds in figures.products.items():
        labels = list(speeds)
        lines += ["", f"### {threads} thread(s)", "", "| product, rows-inputs-units | " + " | ".join(labels) + " |"]
        lines.append("|---|" + "---|" * len(labels))
        for product in speeds["fastnn"]:
            cells = [f"{speeds[label][product]:.1f}" if product in speeds[label] else "-" for label in labels]
            lines.append(f"| {product} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    PLOTS.mkdir(exist_ok=True)
    lines: list[str] = []
    for folder, words in SETS.items():
        figures = Figures(folder)
        if not figures.parts:
            continue
        facts = figures.parts[0]["machine"]
        lines += ["", f"## Targets, {words}", ""]
        lines += [f"- {name}: {facts[name]}" for name in ("date", "processor", "system", "versions")] + [""]
        lines += ["| what | target | measured | of the minima | |", "|---|---|---|---|---|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows(figures, 0 if folder == "512" else 1)]
        plot(figures.records, PLOTS / f"benchmarks_{folder}.png")
        alternative = f"Bars: how many times as long as fastnn each peer takes for a step, {words}"
        lines += ["", f"![{alternative}](_static/benchmarks_{folder}.png)"]
        for part in figures.parts:
            command = part["machine"]["command"].partition(" --output")[0]
            tables = "## " + table(part["records"], {}).partition("\n## ")[2]
            lines += ["", f"`{command}`", ""]
            lines += ["#" + line if line.startswith("## ") else line for line in tables.splitlines()]
        if figures.products:
            lines += ["", f"## Products of a dense layer, GFLOP/s, {words}"]
            lines += products_table(figures)
    for path in sorted(REFERENCE.glob("*.txt")):
        lines += ["", f"## python -m asv_bench.{path.stem.replace('_', ' --workload ')}", "", "```text"]
        lines += [path.read_text("utf-8").strip(), "```"]
    head = ["# Benchmarks", ""]
    head += ["<!-- Written by python -m asv_bench.report from asv_bench/reference; do not edit. -->", ""]
    head += ["fastnn beside its peers, each time on one machine, peers' wins included."]
    head += ["[How to read it, and how to measure on your machine](how-to/read_the_benchmarks.md).", ""]
    head += ["Workloads (float32, Adam, unless told):", ""]
    head += [
        f"- {name}: {'-'.join(map(str, work.sizes))}, batch {work.batch_size:,}" for name, work in WORKLOADS.items()
    ]
    head += [
        "",
        "In the tables of targets a number with × says how many times as long as fastnn the peer takes: the ratio of",
        "the medians, then of the shortest times. In the others: medians ± half of the range of all timings, and the",
        "ratio in brackets; below 1 the peer is faster.",
    ]
    notes = REFERENCE / "notes.md"
    if notes.exists():
        head += ["", notes.read_text("utf-8").strip()]
    PAGE.write_text("\n".join(head + lines) + "\n", encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
