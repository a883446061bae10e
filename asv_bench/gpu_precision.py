"""How exact matrix products on tensor cores are: their arithmetic, in NumPy, against float64.

python -m asv_bench.gpu_precision    prints the table in docs/explanation/gpu.md

The sums are those of the most pessimistic model of tensor cores in ``tests/reference_tensor_cores.py``. The error is
that of a number of C = A·B, over the sum of the sizes of its products: the largest and the typical one (root mean
square) of 32 x 32 numbers. The unit is 2**-24, half a unit in the last place of a float32.
"""

from __future__ import annotations

import numpy as np

from tests.reference_tensor_cores import INSTRUCTION, bf16, multiply, tf32

DEPTHS = (64, 256, 1024, 4096)

#: Depth that the kernel sums in tensor cores before it adds the sum to the others, for "3xtf32".
SLAB = 16

OPERANDS = {
    "normal": lambda generator, shape: generator.standard_normal(shape),
    "between 0 and 1": lambda generator, shape: generator.random(shape),
}


def float32_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """C = A·B with one rounding for each product and sum, in the order of the depth."""
    c = np.zeros((len(a), b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        c = (np.float64(a[:, k, None]) * b[k] + c).astype(np.float32)
    return c


def rounded_product(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """C = A·B with both rounded to ``kind``."""
    rounded = {"tf32": tf32, "bf16": bf16}[kind]
    a, b = rounded(a), rounded(b)
    c = np.zeros((len(a), b.shape[1]), np.float32)
    for k in range(0, a.shape[1], INSTRUCTION[kind]):
        part = slice(k, k + INSTRUCTION[kind])
        c = multiply(c, a[:, part], b[part], kind)
    return c


def split_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """C = A·B with each number split into two of TF32."""
    high_a, high_b = tf32(a), tf32(b)
    pairs = ((tf32(a - high_a), high_b), (high_a, tf32(b - high_b)), (high_a, high_b))
    c = np.zeros((len(a), b.shape[1]), np.float32)
    for slab in range(0, a.shape[1], SLAB):
        s = np.zeros_like(c)
        for left, right in pairs:
            for k in range(slab, slab + SLAB, INSTRUCTION["tf32"]):
                part = slice(k, k + INSTRUCTION["tf32"])
                s = multiply(s, left[:, part], right[part], "tf32")
        c = c + s
    return c


PRODUCTS = {
    "float32": float32_product,
    "3xtf32": split_product,
    "tf32": lambda a, b: rounded_product(a, b, "tf32"),
    "bf16": lambda a, b: rounded_product(a, b, "bf16"),
}


def errors(precision: str, operands: str, depth: int) -> tuple[float, float]:
    """The largest and the typical error."""
    generator = np.random.default_rng(depth)
    a, b = (OPERANDS[operands](generator, shape).astype(np.float32) for shape in ((32, depth), (depth, 32)))
    exact, size = np.float64(a) @ b, abs(np.float64(a)) @ abs(np.float64(b))
    error = abs(PRODUCTS[precision](a, b) - exact) / size * 2.0**24
    return float(error.max()), float(np.sqrt((error**2).mean()))


def shown(error: float) -> str:
    return f"{error:,.0f}" if error >= 100 else f"{error:.1f}" if error >= 1 else f"{error:.2f}"


def main() -> None:
    print("| numbers | depth | " + " | ".join(PRODUCTS) + " |\n|---|---:|" + "---:|" * len(PRODUCTS))
    for operands in OPERANDS:
        for depth in DEPTHS:
            found = (errors(precision, operands, depth) for precision in PRODUCTS)
            cells = (f"{shown(largest)} ({shown(typical)})" for largest, typical in found)
            print(f"| {operands} | {depth} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
