"""The kernels of fastnn: every formula and loop that touches numbers, compiled by Numba.

The contract that every kernel keeps:

* **One grammar.** Outputs first, then inputs, then sizes and options, then where to run
  (``workspace, rank, size`` on the CPU). A gradient is ``d`` and a name: ``dense_forward(y, x, W, b, ...)``,
  ``dense_backward_input(dx, dy, W, ...)``, ``dense_backward_weights(dW, db, dy, x, ...)``.
* **Rank of size.** Every worker calls the same kernel with its own ``rank``; the kernel takes its
  ``share`` of the rows (or of the weights). A sum is formed by one worker in a fixed order, so the
  result has the same bits for any ``size``.
* **Outputs are overwritten**; only what is an input, too, as the weights of an update, is changed. A kernel allocates
  nothing and raises nothing.
* **Status.** A function that the engine calls by address returns ``OK`` (1) when all went well.
  Numba swallows an exception that leaves such a function and returns 0, so 0 means a fault.
* **Numbers carry the array's type**: ``real = type(x)`` and ``real(0.5)``, because ``0.5 * x`` turns
  float32 work into float64.
* **Compiler flags** are in ``jit.py`` and nowhere else. They never let the compiler reorder a sum.

Kernels import numba, llvmlite, numpy, the standard library and each other; never the library above.
"""

if __name__ != "fastnn.kernels":
    raise ImportError(
        f"this folder was imported as {__name__!r}, but its only import name is 'fastnn.kernels': "
        "write `import fastnn.kernels` (with fastnn installed: `python -m pip install -e .`)"
    )
