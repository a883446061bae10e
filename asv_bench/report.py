"""The page docs/benchmarks.md and its plots from the figures of a reference machine, kept in asv_bench/reference.

python -m asv_bench.report

The folder has a part for each set of figures, named after the processor and, where it was limited to them, the bits of
a vector: folders with the figures.json of ``asv_bench.compare``, the products.json of ``asv_bench.products``, and what
``asv_bench.start`` and ``asv_bench.scaling`` print. Beside them lie two texts: summary.md, for the top of the page, and
notes.md, what binds and what was tried, for its end.
"""

from __future__ import annotations

import json
import math
import pathlib
import statistics
from collections.abc import Callable, Iterable

from asv_bench.benchmarks.workloads import WORKLOADS
from asv_bench.compare import TASKS, plot, table

ROOT = pathlib.Path(__file__).parents[1]
REFERENCE = ROOT / "asv_bench" / "reference"
PAGE, PLOTS = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "_static"

SETS = {
    "zen4": "Zen 4, AVX-512",
    "zen4_256": "Zen 4, limited to AVX2",
    "xeon": "Intel Xeon, AVX-512 and AMX",
}

#: The folders of a set in the order in which the page has them.
PARTS = ("steps", "small", "sklearn", "calls", "rows", "search")

#: Task of ``asv_bench.compare`` -> what it is for the reader.
WORDS = {
    "step": "A training step",
    "call": "A step in a loop of one's own",
    "row": "A prediction of one row",
    "rows": "A prediction of 100,000 rows",
    "search": "Training 50 networks, one after the other",
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
            json.loads(path.read_text("utf-8"))
            for name in PARTS
            if (path := REFERENCE / folder / name / "figures.json").exists()
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

    def nearest(self, task: str, workload: str) -> str:
        """The peer that comes nearest to fastnn and how many times as long it takes, in bold where it is faster."""
        others = [
            (record["ratio"], record["peer"])
            for record in self.records
            if (record["task"], record["workload"]) == (task, workload)
            and not record["peer"].startswith("fastnn")
            and "ratio" in record
        ]
        return marked(*min(others)) if others else ""

    def product_ratios(self, threads: str) -> list[float]:
        """fastnn's speed over that of the fastest other library, for each product."""
        speeds = self.products.get(threads, {"fastnn": {}})
        others = [speed for label, speed in speeds.items() if label != "fastnn"]
        return [own / max(speed.get(product, 0.0) for speed in others) for product, own in speeds["fastnn"].items()]


def marked(ratio: float, peer: str = "") -> str:
    text = f"{peer} {ratio:.3g}".strip()
    return f"**{text}**" if ratio < 1 else text


def in_threads(threads: str) -> str:
    return f"{threads} thread" + "s" * (threads != "1")


def folded(title: str, lines: list[str]) -> list[str]:
    """Lines of Markdown that a reader opens by the title."""
    return ["", "<details>", f"<summary>{title}</summary>", "", *lines, "", "</details>"]


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

        yield row(f"one row, {'compiled_' * (way != 'fastnn')}predict, {peer}", target, one, "×")  # type: ignore[misc]
    for peer, target in (("onnxruntime", 3.0), ("jax", 1.5)):
        yield row(f"100,000 rows, {peer}", target, lambda w, p=peer: figures.ratio("rows", "digits", p, w), "×")  # type: ignore[misc]
    for peer, target in (("jax", 5.0), ("scikit-learn", 10.0)):
        yield row(f"50 networks, {peer}", target, lambda w, p=peer: figures.ratio("search", "digits", p, w), "×")  # type: ignore[misc]
    for threads in figures.products:
        ratios = figures.product_ratios(threads)
        yield row(f"products, {in_threads(threads)}: the least", 0.97, lambda _, r=ratios: min(r), "×")  # type: ignore[misc]
        yield row(
            f"products, {in_threads(threads)}: geometric mean",
            1.2,
            lambda _, r=ratios: statistics.geometric_mean(r),
            "×",
        )  # type: ignore[misc]


def summary(sets: dict[str, Figures]) -> list[str]:
    """One line for each piece of work, one column for each set: the nearest peer."""
    lines = ["| work | " + " | ".join(SETS[name] for name in sets) + " |", "|---|" + "---|" * len(sets)]

    def line(work: str, cells: Iterable[str]) -> None:
        lines.append(f"| {work} | " + " | ".join(cells) + " |")

    for name, work in WORKLOADS.items():
        text = f"step, *{name}*: {'-'.join(map(str, work.sizes))}, batch {work.batch_size:,}"
        text += f", {work.dtype}, loss and gradient alone" * work.gradient_only
        line(text, (figures.nearest("step", name) for figures in sets.values()))
    for name in TASKS["call"][0]:
        line(f"step in a loop of one's own, *{name}*", (figures.nearest("call", name) for figures in sets.values()))
    for task in ("row", "rows", "search"):
        text = WORDS[task][0].lower() + WORDS[task][1:] + ", *digits*" * (task != "search")
        line(text, (figures.nearest(task, "digits") for figures in sets.values()))
    for threads in sorted({threads for figures in sets.values() for threads in figures.products}):
        ratios = [figures.product_ratios(threads) for figures in sets.values()]
        text = f"matrix products, {in_threads(threads)}"
        line(f"{text}: geometric mean of 36", (marked(statistics.geometric_mean(r)) if r else "" for r in ratios))
        line(f"{text}: the least of 36", (marked(min(r)) if r else "" for r in ratios))
    return lines


def products_table(speeds: dict[str, dict[str, float]]) -> list[str]:
    """The speeds of the products as Markdown, by library."""
    lines = ["| product, rows-inputs-units | " + " | ".join(speeds) + " |", "|---|" + "---|" * len(speeds)]
    for product in speeds["fastnn"]:
        cells = [f"{speed[product]:.1f}" if product in speed else "-" for speed in speeds.values()]
        lines.append(f"| {product} | " + " | ".join(cells) + " |")
    return lines


def targets_table(figures: Figures, folder: str) -> tuple[list[str], str]:
    """The targets as Markdown, and how many of them were met."""
    found = list(rows(figures, int(folder.endswith("256"))))
    lines = ["| what | target | measured | of the minima | |", "|---|---|---|---|---|"]
    words = [row[-1] for row in found]
    measured = len(words) - words.count("not measured")
    return lines + ["| " + " | ".join(row) + " |" for row in found], f"{words.count('met')} of {measured} met"


def part(folder: str, figures: Figures) -> list[str]:
    """A set's part of the page: the machine, the picture, the tables, and folded the commands, targets and products."""
    words, facts = SETS[folder], figures.parts[0]["machine"]
    lines = ["", f"## {words}", ""]
    lines += [f"- {name}: {facts[name]}" for name in ("date", "processor", "system", "versions")]
    alternative = f"Bars: how many times as long as fastnn each peer takes for a step, {words}"
    lines += ["", f"![{alternative}](_static/benchmarks_{folder}.png)"]
    for run in figures.parts:
        for text in table(run["records"], {}).split("\n## ")[1:]:
            task, _, rest = text.partition(", ")
            unit, _, lines_of_table = rest.partition("\n")
            lines += ["", f"**{WORDS[task]}, {unit}**", "", lines_of_table.strip()]
    commands = [run["machine"]["command"] for run in figures.parts]
    lines += folded("Commands", ["```sh", *commands, "```"])
    targets, met = targets_table(figures, folder)
    lines += folded(f"The project's own targets: {met}", targets)
    for threads, speeds in figures.products.items():
        title = f"Products of a dense layer beside other libraries, {in_threads(threads)}, GFLOP/s"
        lines += folded(title, products_table(speeds))
    return lines


def page(sets: dict[str, Figures]) -> str:
    """The whole page, as Markdown."""
    lines = ["# Benchmarks", ""]
    lines += ["<!-- Written by python -m asv_bench.report from asv_bench/reference; do not edit. -->", ""]
    lines += ["fastnn beside what a user would take instead, peers' wins included.", ""]
    lines += ["## In short", ""]
    lines += [
        "The peer that comes nearest to fastnn, and how many times as long as fastnn it takes; **in bold where it is"
    ]
    lines += ["faster**. Float32, Adam and two threads, unless told.", "", *summary(sets), ""]
    lines += [(REFERENCE / "summary.md").read_text("utf-8").strip()]
    for folder, figures in sets.items():
        lines += part(folder, figures)
    lines += ["", "## The second core, and the start of a process"]
    for folder in sets:
        for path in sorted((REFERENCE / folder).glob("*.txt")):
            command = path.stem.replace("_", " --workload ")
            lines += ["", f"{SETS[folder].partition(',')[0]}, `python -m asv_bench.{command}`", "", "```text"]
            lines += [path.read_text("utf-8").strip("\n"), "```"]
    lines += ["", (REFERENCE / "notes.md").read_text("utf-8").strip()]
    return "\n".join(lines) + "\n"


def kept() -> dict[str, Figures]:
    """The sets of figures that are there."""
    return {folder: figures for folder in SETS if (figures := Figures(folder)).parts}


def main() -> None:
    sets = kept()
    PLOTS.mkdir(exist_ok=True)
    for folder, figures in sets.items():
        plot(figures.records, PLOTS / f"benchmarks_{folder}.png")
    PAGE.write_text(page(sets), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
