"""fastnn and every peer that is installed, timed side by side on the same work.

python -m asv_bench.compare [--tasks step call row rows search] [--workloads tiny digits] [--peers jax torch]
                            [--threads 1 2] [--rounds 3] [--repeats 5] [--avx2] [--precision bf16] [--output FOLDER]

Tasks: ``step``, a training step of a fit; ``call``, one in a loop of the user's own, from a batch of NumPy's to its
loss; ``row`` and ``rows``, the outputs of one row and of 100,000; ``search``, 50 networks trained on the digits. Each
timing runs in a process of its own, and rounds alternate between the peers, so that a machine that gets slower does so
for all. Before a peer is timed it shows its results on the same numbers: the losses of three epochs, or of 20 calls,
from the same weights over the same rows in the same order, or the outputs. Where they differ from fastnn's, no ratio is
given. ``--avx2`` keeps all to vectors of 32 bytes, as on processors without AVX-512. ``--precision`` lets those that
can train with less precise products than those of float32.

The folder gets figures.json, table.md (with the machine's description) and ratios.png.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys

from llvmlite.binding import get_host_cpu_features

from asv_bench.benchmarks.workloads import TRAINING, WORKLOADS
from fastnn.kernels.cores import cores

#: Name -> (the distribution it needs, its module, the tasks it has).
PEERS = {
    "fastnn": ("fastnn", "with_fastnn", ("step", "call", "row", "rows", "search")),
    "fastnn compiled_predict": ("fastnn", "with_fastnn_compiled", ("row",)),
    "jax": ("optax", "with_jax", ("step", "call", "row", "rows", "search")),
    "torch": ("torch", "with_torch", ("step", "call", "row", "rows", "search")),
    "torch.compile": ("torch", "with_torch_compiled", ("step", "call")),
    "scikit-learn": ("scikit-learn", "with_sklearn", ("step", "call", "row", "rows", "search")),
    "onnxruntime": ("onnxruntime", "with_onnxruntime", ("row", "rows")),
    "numpy": ("threadpoolctl", "with_numpy", ("step", "row", "rows")),
}

#: Task -> (its workloads, the unit, how many units a second has, how far results may be from fastnn's).
#: Losses and outputs: relative, or absolute near zero. The searches start from weights of their own.
TASKS = {
    "step": (list(WORKLOADS), "µs", 1e6, 0.01),
    "call": (["tiny", "digits", "mnist"], "µs", 1e6, 0.01),
    "row": (["tiny", "digits", "mnist"], "µs", 1e6, 1e-3),
    "rows": (["digits", "mnist"], "ms", 1e3, 1e-3),
    "search": (["digits"], "s", 1.0, 0.25),
}

#: What keeps each library to AVX2; Numba is told all that the processor has but AVX-512. JAX's library for products,
#: YNNPACK, takes whatever the processor has; without it the products are Eigen's.
ONLY_AVX2 = {
    "NUMBA_CPU_FEATURES": ",".join(
        ("+" if there and not name.startswith(("avx512", "avx10")) else "-") + name
        for name, there in get_host_cpu_features().items()
    ),
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2 --xla_cpu_experimental_ynn_fusion_type=",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX",
}


#: Precision of the products -> how the peers that can are told, by their names for it.
PRECISIONS = {
    "float32": {},
    "tf32": {"PRECISION": "tf32", "JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32"},
    "bf16": {"PRECISION": "bf16", "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"},
}


def installed(distribution: str) -> bool:
    """Whether it is installed; fastnn may be a checkout on the path."""
    if distribution == "fastnn":
        return True
    try:
        return bool(importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return False


def can(peer: str, task: str, workload: str) -> bool:
    distribution, _, tasks = PEERS[peer]
    no_gradient = peer == "scikit-learn" and workload not in TRAINING
    return task in tasks and installed(distribution) and not no_gradient


def measure(peer: str, task: str, workload: str, threads: int, options: argparse.Namespace) -> dict:
    """One process of a peer: its ``seconds``, and its ``result``."""
    arguments = [PEERS[peer][1], task, workload, str(threads), str(options.repeats)]
    command = [sys.executable, "-m", "asv_bench.peers.process", *arguments]
    environment = os.environ | {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    environment |= ONLY_AVX2 if options.avx2 else {}
    environment |= PRECISIONS[options.precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def alike(result: list[float], own: list[float], tolerance: float) -> bool:
    """Whether all numbers agree, relative to the larger one, or absolutely where both are below 1/10."""
    return len(result) == len(own) and all(
        math.isfinite(one) and abs(one - other) <= tolerance * max(abs(one), abs(other), 0.1)
        for one, other in zip(result, own, strict=True)
    )


def compare(task: str, workload: str, threads: int, peers: list[str], options: argparse.Namespace) -> list[dict]:
    """A record for each peer: its times in the task's unit, and how many times as long as fastnn it takes."""
    _, unit, units, tolerance = TASKS[task]
    found: dict[str, list[dict]] = {peer: [] for peer in peers}
    rounds = 1 if task == "search" else options.rounds
    for _ in range(rounds):
        for peer in peers:
            found[peer].append(measure(peer, task, workload, threads, options))
    own = found.get("fastnn")
    records = []
    for peer, runs in found.items():
        times = [units * seconds for run in runs for seconds in run["seconds"]]
        record = {"task": task, "workload": workload, "threads": threads, "peer": peer, "unit": unit}
        record |= {"minimum": min(times), "median": statistics.median(times), "largest": max(times)}
        record["result"] = runs[0]["result"]
        if own:
            record["agrees"] = all(alike(run["result"], own[0]["result"], tolerance) for run in runs)
            mine = [units * seconds for run in own for seconds in run["seconds"]]
            if record["agrees"]:
                record["ratio"] = record["median"] / statistics.median(mine)
                record["ratio of the minima"] = record["minimum"] / min(mine)
        records.append(record)
    return records


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def description(options: argparse.Namespace) -> dict[str, str]:
    """The machine, the date and the versions."""
    from fastnn.kernels.cpu.vectors import VECTOR_BYTES

    bits = 256 if options.avx2 else 8 * VECTOR_BYTES
    facts = {
        "date": datetime.date.today().isoformat(),
        "processor": f"{processor()}, {cores()} cores, vectors of {bits} bits",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    names = ["fastnn", "numba", "numpy", "jax", "torch", "scikit-learn", "onnxruntime"]
    facts["versions"] = ", ".join(f"{name} {version(name)}" for name in names if installed(name))
    facts["command"] = "python -m asv_bench." + pathlib.Path(sys.argv[0]).stem + " " + " ".join(arguments_to_tell())
    return facts


def arguments_to_tell() -> list[str]:
    """The arguments, but for where the figures go, which is nobody else's business."""
    arguments = sys.argv[1:]
    for place, argument in enumerate(arguments):
        if argument.startswith("--output"):
            return arguments[:place] + arguments[place + (1 if "=" in argument else 2) :]
    return arguments


def version(name: str) -> str:
    if name != "fastnn":
        return importlib.metadata.version(name)
    import fastnn

    return fastnn.__version__


def line(record: dict) -> str:
    """A line of the printed table."""
    ratio = f"{record['ratio']:8.2f}{record['ratio of the minima']:8.2f}" if "ratio" in record else ""
    return (
        f"{record['task']:7}{record['workload']:9}{record['threads']:8}  {record['peer']:24}"
        f"{record['minimum']:11.2f}{record['median']:11.2f}{record['largest']:11.2f} {record['unit']}"
        f"{ratio if record.get('agrees', True) else '  results differ'}"
    )


HEADER = (
    f"{'task':7}{'workload':9}{'threads':>8}  {'peer':24}{'minimum':>11}{'median':>11}{'largest':>11}"
    "   ratio: medians, minima"
)


def table(records: list[dict], facts: dict[str, str]) -> str:
    """The figures as Markdown: one line for each piece of work, one column for each peer."""
    lines = ["# fastnn beside its peers", ""]
    lines += [f"- {name}: {text}" for name, text in facts.items()]
    lines += [
        "",
        "Medians; behind ± half of the range of all timings, in brackets how many times as long as fastnn the peer",
        "takes (below 1: the peer is faster). Peers whose results differ from fastnn's get no ratio.",
    ]
    for task, (_, unit, _, _) in TASKS.items():
        mine = [record for record in records if record["task"] == task]
        peers = [peer for peer in PEERS if any(record["peer"] == peer for record in mine)]
        if not mine:
            continue
        lines += ["", f"## {task}, {unit}", "", "| work | threads | " + " | ".join(peers) + " |"]
        lines.append("|---|---|" + "---|" * len(peers))
        for workload, threads in dict.fromkeys((record["workload"], record["threads"]) for record in mine):
            cells = []
            for peer in peers:
                record = next(
                    (r for r in mine if (r["workload"], r["threads"], r["peer"]) == (workload, threads, peer)), None
                )
                cells.append(cell(record) if record else "")
            sizes = "-".join(map(str, WORKLOADS[workload].sizes))
            work = "50 networks" if task == "search" else f"{workload} {sizes}"
            if task in ("step", "call"):
                work += f", batch {WORKLOADS[workload].batch_size:,}"
            lines.append(f"| {work} | {threads} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(record: dict) -> str:
    spread = (record["largest"] - record["minimum"]) / 2
    text = (
        f"{record['median']:,.3g} ± {spread:,.2g}"
        if record["median"] < 100
        else f"{record['median']:,.0f} ± {spread:,.0f}"
    )
    if record["peer"] == "fastnn":
        return text
    if "ratio" not in record:
        return f"{text} (results differ)"
    return f"{text} ({record['ratio']:.3g})"


def ratio_text(ratio: float) -> str:
    """As few digits as fit beside the next bar's; the tables have more."""
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def plot(records: list[dict], path: pathlib.Path) -> None:
    """Bars: how many times as long as fastnn each peer takes for a training step, with the most threads."""
    from matplotlib import patheffects, pyplot

    most = max(record["threads"] for record in records)
    mine = [
        r for r in records if r["task"] == "step" and r["threads"] == most and r["peer"] != "fastnn" and "ratio" in r
    ]
    if not mine:
        return
    peers = [peer for peer in PEERS if any(record["peer"] == peer for record in mine)]
    workloads = [name for name in WORKLOADS if any(record["workload"] == name for record in mine)]
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    colors = ["#0072b2", "#e69f00", "#cc79a7", "#009e73", "#56b4e9"]  # Okabe and Ito: seen by the color-blind too
    width = 0.8 / len(peers)
    for index, peer in enumerate(peers):
        ratios = {record["workload"]: record["ratio"] for record in mine if record["peer"] == peer}
        places = [workloads.index(name) + (index - (len(peers) - 1) / 2) * width for name in ratios]
        bars = axes.bar(places, list(ratios.values()), width, label=peer, color=colors[index % len(colors)])
        halo = [patheffects.withStroke(linewidth=2, foreground="white")]  # where the line of fastnn goes through
        axes.bar_label(bars, fmt=ratio_text, fontsize=8, padding=1, path_effects=halo)
    axes.axhline(1, color="black", linewidth=1)
    axes.set_yscale("log")
    labels = [
        "-".join(map(str, WORKLOADS[name].sizes)) + f"\nbatch {WORKLOADS[name].batch_size:,}" for name in workloads
    ]
    axes.set_xticks(range(len(workloads)), labels, fontsize=8)
    axes.set_ylabel("time of a step, fastnn = 1")
    axes.set_title(f"A training step beside fastnn, {most} threads (higher: slower than fastnn)")
    axes.legend(frameon=False, ncols=len(peers), fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS), metavar="PEER")
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, cores()}))
    parser.add_argument("--repeats", type=int, default=5, help="timings in a process (5)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each peer (3)")
    parser.add_argument("--avx2", action="store_true", help="no vectors longer than 32 bytes, in any library")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="float32", help="of the products (float32)")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("asv_bench/comparison"))
    options = parser.parse_args()
    if max(options.threads) > cores():
        parser.error(f"--threads {max(options.threads)}: this process may use {cores()} cores")
    facts = description(options)
    print("\n".join(f"{name}: {text}" for name, text in facts.items()))
    missing = [peer for peer in options.peers if not installed(PEERS[peer][0])]
    if missing:
        print(f"not installed: {', '.join(missing)}")
    print(HEADER)
    records: list[dict] = []
    for threads in options.threads:
        for task in options.tasks:
            for workload in (name for name in TASKS[task][0] if name in options.workloads):
                peers = [peer for peer in options.peers if can(peer, task, workload)]
                for record in compare(task, workload, threads, peers, options):
                    records.append(record)
                    print(line(record), flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    figures = {"machine": facts, "records": records}
    (options.output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (options.output / "table.md").write_text(table(records, facts), encoding="utf-8")
    if importlib.util.find_spec("matplotlib"):
        plot(records, options.output / "ratios.png")
    print(f"figures.json, table.md and ratios.png are in {options.output}")


if __name__ == "__main__":
    main()
