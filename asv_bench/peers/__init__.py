"""fastnn and what people would use instead of it, each written as its own experts would write it.

A peer's module has functions that make the work of a task (``asv_bench/compare.py`` says what is timed):

- ``trainer(work, threads, shuffle)`` makes ``train(epochs)``, which returns the mean loss of each epoch;
- ``caller(work, threads)`` makes ``call(inputs, targets)``, a step on one batch of NumPy's, which returns its loss;
- ``predictor(work, threads)`` makes ``predict(rows)``, which returns the outputs as a NumPy array;
- ``searcher(work, threads)`` makes ``search(architectures, epochs)``, which returns the last loss of each network.

A module that lacks one of these cannot do the task. All start from ``initial_weights``.
"""
