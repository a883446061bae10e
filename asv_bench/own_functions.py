"""What an activation or loss written by a user costs, beside the built-in one that computes the same.

python -m asv_bench.own_functions [--rounds 15]

Flat: the kernel alone on a layer's output that lies in the cache. Steps: training a network. In each round the two
run one after the other; the ratio is that of their shortest times.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np

import fastnn as fn
from fastnn.kernels.cpu import activations, losses

ROWS, WIDTH = 256, 64


def tanh_value(x):
    return math.tanh(x)


def tanh_slope(x, y):
    return 1 - y * y


def sigmoid_value(x):
    return 1 / (1 + math.exp(-x))


def sigmoid_slope(x, y):
    return y * (1 - y)


def relu_value(x):
    return max(x, 0)


def relu_slope(x, y):
    return 1 if y > 0 else 0


def square_value(y, target):
    return (y - target) ** 2


def square_slope(y, target):
    return 2 * (y - target)


ACTIVATIONS = {
    "relu": fn.ActivationFunction(relu_value, relu_slope),
    "tanh": fn.ActivationFunction(tanh_value, tanh_slope),
    "sigmoid": fn.ActivationFunction(sigmoid_value, sigmoid_slope),
}
SQUARES = fn.LossFunction(square_value, square_slope)


def shortest(runs: list[Callable[[], object]], rounds: int, seconds: float) -> list[float]:
    """The shortest time of each of ``runs``, taken in turns."""
    counts = []
    for run in runs:
        run()
        started = time.perf_counter()
        run()
        counts.append(max(1, int(seconds / max(1e-7, time.perf_counter() - started))))
    best = [math.inf] * len(runs)
    for _ in range(rounds):
        for index, (run, count) in enumerate(zip(runs, counts, strict=True)):
            started = time.perf_counter()
            for _ in range(count):
                run()
            best[index] = min(best[index], (time.perf_counter() - started) / count)
    return best


def flat(name: str, dtype: str) -> list[tuple[str, list[Callable[[], object]]]]:
    """Forward and backward kernels of an activation: the user's own, then the built-in one."""
    x = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(dtype)
    y, dx, dy = np.empty_like(x), np.empty_like(x), np.ones_like(x)
    pairs = [activations.kernels_of(ACTIVATIONS[name]), activations.kernels_of(name)]
    pairs[1][0](y, x, 0, 1)
    return [
        ("forward", [lambda kernel=forward: kernel(y, x, 0, 1) for forward, _ in pairs]),
        ("backward", [lambda kernel=backward: kernel(dx, dy, x, y, 0, 1) for _, backward in pairs]),
    ]


def flat_loss(dtype: str) -> list[Callable[[], object]]:
    y = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(dtype)
    values, dy, target = np.empty(ROWS), np.empty_like(y), np.zeros_like(y)
    kernels = [losses.elementwise_loss(*losses.formulas_of(loss)) for loss in (SQUARES, "squared_error")]
    return [lambda kernel=kernel: kernel(values, dy, y, target, 0.0, 1 / ROWS, 0, 1) for kernel in kernels]


def steps(activation: str | None, dtype: str) -> list[Callable[[], object]]:
    """Forty training steps of 64-64-64-10: with the user's activation, or loss, then with the built-in one."""
    generator = np.random.default_rng(0)
    X, y = generator.standard_normal((8 * ROWS, WIDTH)).astype(dtype), generator.random((8 * ROWS, 10)).astype(dtype)
    runs: list[Callable[[], object]] = []
    for own in (True, False):
        hidden = (ACTIVATIONS[activation] if own else activation) if activation else "relu"
        model = fn.Model(
            [fn.Input(WIDTH), fn.Dense(64, hidden), fn.Dense(64, hidden), fn.Dense(10)], seed=0, dtype=dtype
        )
        model.compile("sgd", SQUARES if own and not activation else "mse", threads=1)
        runs.append(lambda model=model: model.fit(X, y, batch_size=ROWS, epochs=5, shuffle=False, verbose=0))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(f"{'':30}{'own':>12}{'built in':>12}{'ratio':>8}")

    def show(what: str, runs: list[Callable[[], object]]) -> None:
        own, built_in = shortest(runs, rounds, 0.02)
        print(f"{what:30}{1e6 * own:9.1f} µs{1e6 * built_in:9.1f} µs{own / built_in:8.2f}", flush=True)

    for dtype in ("float32", "float64"):
        for name in ACTIVATIONS:
            for direction, runs in flat(name, dtype):
                show(f"{dtype} {name} {direction}", runs)
            show(f"{dtype} {name} 40 steps", steps(name, dtype))
        show(f"{dtype} squares flat", flat_loss(dtype))
        show(f"{dtype} squares 40 steps", steps(None, dtype))


if __name__ == "__main__":
    main()
