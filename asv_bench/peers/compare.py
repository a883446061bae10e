"""Time the training workloads in fastnn and in every peer that is installed, in alternating rounds.

python -m asv_bench.peers.compare [tiny digits mnist wide] [--threads 1 2] [--repeats 5] [--rounds 3]

Each timing runs in a process of its own; rounds alternate between the peers, so that a machine that gets slower
does so for all. Printed are microseconds a step (minimum, median, largest) and how many times as fast as each peer
fastnn is, by the medians and by the minima. Where the loss after equal training differs by more than 40 %, no
ratio is given.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys

from asv_bench.peers.workloads import WORKLOADS

#: Name -> (the package it needs, its module).
PEERS = {
    "fastnn": ("fastnn", "with_fastnn"),
    "jax": ("optax", "with_jax"),
    "torch": ("torch", "with_torch"),
    "sklearn": ("sklearn", "with_sklearn"),
}

#: How far the losses of two libraries may be apart after equal training. Rows come in another order in each: five
#: orders in fastnn alone give 0.041 to 0.060 on "wide", and agree within a few percent on the others.
LOSS_TOLERANCE = 0.4


def measure(peer: str, workload: str, threads: int, repeats: int) -> dict:
    """One process of a peer: its seconds, and its loss."""
    command = [sys.executable, "-m", f"asv_bench.peers.{PEERS[peer][1]}", workload, str(threads), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(workload: str, threads: int, repeats: int, rounds: int, peers: list[str]) -> list[dict]:
    """A row for each peer: its times and how many times as fast fastnn is."""
    found: dict[str, list[dict]] = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            found[peer].append(measure(peer, workload, threads, repeats))
    rows = []
    for peer, runs in found.items():
        micros = [1e6 * seconds / run["steps"] for run in runs for seconds in run["seconds"]]
        row = {"workload": workload, "threads": threads, "peer": peer, "loss": runs[0]["loss"]}
        row |= {"minimum": min(micros), "median": statistics.median(micros), "largest": max(micros)}
        rows.append(row)
    own = next((row for row in rows if row["peer"] == "fastnn"), None)
    for row in rows:
        if own and row is not own:
            alike = abs(row["loss"] - own["loss"]) <= LOSS_TOLERANCE * max(row["loss"], own["loss"], 1e-2)
            row["ratios"] = (row["median"] / own["median"], row["minimum"] / own["minimum"]) if alike else None
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []], metavar="workload", help=", ".join(WORKLOADS))
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5, help="timings in a process (5)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each peer (3)")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args()
    peers = [peer for peer in options.peers if importlib.util.find_spec(PEERS[peer][0])]
    missing = [peer for peer in options.peers if peer not in peers]
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}", end="")
    print(f"; not installed: {', '.join(missing)}" if missing else "")
    print(
        f"{'workload':9}{'threads':>8}  {'peer':9}{'µs a step: min':>15}{'median':>10}{'largest':>10}{'loss':>9}",
        end="",
    )
    print("  fastnn is faster by (median, minimum)")
    every = []
    for threads in options.threads:
        for workload in options.workloads or WORKLOADS:
            for row in compare(workload, threads, options.repeats, options.rounds, peers):
                ratios = row.get("ratios", "")
                text = "losses differ" if ratios is None else "".join(f"{ratio:7.2f}x" for ratio in ratios)
                print(
                    f"{workload:9}{threads:8}  {row['peer']:9}{row['minimum']:15.2f}{row['median']:10.2f}"
                    f"{row['largest']:10.2f}{row['loss']:9.4f}  {text}",
                    flush=True,
                )
                every.append(row)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(every, file, indent=1)


if __name__ == "__main__":
    main()
