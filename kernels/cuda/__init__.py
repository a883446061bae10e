"""The kernels on an NVIDIA GPU, under the names, parameters and defaults that they have in ``kernels.cpu``.

A public kernel here is a short host function that launches private ``@cuda.jit`` kernels. It differs from the CPU's in
these points alone:

* **Where to run.** ``stream`` (``launch.Stream``) stands last, in the place of ``workspace, rank, size``. The call
  returns at once; kernels of one stream run one after another.
* **Arrays** are on the device: what ``cuda.to_device``, ``cuda.device_array`` or slices of those give. Rows may be any
  distance apart where the CPU's may.
* **Numbers that change from step to step** may be numbers or device arrays of one element: ``rate``, ``scale`` (of the
  gradient), ``step``, ``first_row``, ``first``. A captured graph repeats the numbers that it was captured with, so it
  has to be given arrays, and the private kernels always read an array. ``rate`` and ``scale`` have the type of the
  parameters, ``step``, ``first_row`` and ``first`` are int64. All other numbers are constants of a plan.
* **Status.** A kernel cannot return one without waiting. It writes NOT_FINITE to ``stream.status[FOUND]``, and
  updates do nothing unless ``stream.status[GATE]`` is OK. Whoever runs a step copies FOUND to GATE where the CPU's
  engine would have stopped (``launch.close_gate``), between the loss and the first update and after the last one.
* **Accumulation.** On the CPU the losses, metrics, norms and penalties of rows are float64. Here the losses and metrics
  of rows have the type of the data: a GPU adds a row's numbers in a tree, whose error grows with the logarithm of
  their number. Norms and penalties, whose numbers have any size and are squared, are float64 here as well: they
  are limited by memory even where float64 is slow. These kernels are the only ones of float32 work with float64 inside,
  and ``catalog`` marks them.
* **Same bits on every run.** Sums are formed in an order that depends on the shapes alone, never by atomic additions
  of floats.

The engine (``runner``) launches those of ``dense``, ``activations``, ``dropout`` and ``penalties``, for wide networks.
The rest of a step are larger kernels of its own (``narrow_kernels``, ``layered``), with formulas of a row
(``row_functions``) and of an element (``element_updates``) inside. What ``losses``, ``metrics``, ``updates``, ``rows``
and ``gather`` have is for whoever composes a step by hand, kernel by kernel.

The functions with ``plan_`` before their name belong to the CPU's engine and have no counterpart here; nor has
``cpu.gemm``, which works on addresses. A few kernels exist here alone, because a launch costs more than a call: dense
layers with their activation (``dense``), and sums over rows (``reduce``).

Importing this package imports nothing; its modules import ``numba.cuda``.
"""
