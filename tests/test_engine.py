"""The engine against its specification, the slow path: equal bits, for any number of workers."""

import platform
import threading

import numpy as np
import pytest

import fastnn as fn
from fastnn.kernels.conventions import Data
from fastnn.kernels.cpu import amx, crew
from fastnn.kernels.jit import COMPILED
from fastnn.kernels.layout import (
    BLOCK,
    BRANCH_COUNT,
    CONVERGED,
    DW_OF_PIECES,
    DX_COLUMNS,
    FORWARD,
    NOT_FINITE,
    OF_PIECES,
    OK,
    PARTS,
    PIECES_UPDATE_CHUNK,
    RECTIFIED,
    UPDATE_CHUNK,
    Y_COLUMNS,
)
from fastnn.kernels.memory import aligned_zeros
from fastnn.slow_path import SlowPath

ON_X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
STEPS = 20 if COMPILED else 3
WORKERS = (1, 2, 3, 4) if COMPILED else (1, 2)


def dense(units, activation=None, **options):
    return fn.Dense(units, activation, **options)


class Lion(fn.Optimizer):
    """An optimizer of one's own: the sign of a running mean (Chen et al. 2023)."""

    slots = 1

    def settings(self):
        return (0.9, 0.99)

    @staticmethod
    def update(p, g, slots, rate, step, settings):
        mean = slots[0]
        for i in range(len(p)):
            direction = settings[0] * mean[i] + (1 - settings[0]) * g[i]
            p[i] -= rate * np.sign(direction)
            mean[i] = settings[1] * mean[i] + (1 - settings[1]) * g[i]


def smooth(w):
    return 0.1 * w * w / (1 + w * w)


def smooth_slope(w):
    return 0.2 * w / ((1 + w * w) * (1 + w * w))


@pytest.fixture(autouse=True)
def branches_for_few_steps(monkeypatch):
    """The trainings here are short."""
    monkeypatch.setattr("fastnn.kernels.cpu.branches.LEAST_STEPS", 1)


#: One with dropout that is quick in every mode.
SMALL = "digits" if COMPILED else "odd order"

#: Too large for the plain Python mode.
LARGE = {
    "wide",
    "columns",
    "columns, clipped",
    "columns of high batches",
    "inputs",
    "one unit",
    "inputs, clipped",
    "inputs in three",
    "pieces by inputs",
    "pieces",
    "pieces, clipped",
    "pieces in parts",
    "pieces by columns",
    "digits",
    "penalties",
    "parts in blocks",
    "branches",
    "branches without biases",
    "branches of a linear layer",
    "pieces in branches",
}

#: name -> (inputs, layers, loss, optimizer, batch size)
ARCHITECTURES = {
    "logistic regression": (3, lambda: [dense(1, "sigmoid")], "binary_cross_entropy", "sgd", 8),
    "tiny": (2, lambda: [dense(16, "relu"), dense(1, "sigmoid")], "binary_cross_entropy", "adam", 32),
    "digits": (
        64,
        lambda: [dense(64, "relu"), fn.Dropout(0.2), dense(64, "relu"), fn.Dropout(0.5), dense(10, "softmax")],
        "cross_entropy",
        "adam",
        32,
    ),
    "deep tanh": (5, lambda: [dense(7, "tanh") for _ in range(6)] + [dense(3)], "mse", "adam", 17),
    "every activation": (
        9,
        lambda: (
            [
                dense(11, name)
                for name in (
                    "sigmoid",
                    "leaky_relu",
                    "elu",
                    "selu",
                    "softplus",
                    "softsign",
                    "silu",
                    "gelu",
                    "log_softmax",
                )
            ]
            + [dense(4, "softmax")]
        ),
        "cross_entropy",
        fn.SGD(0.05, momentum=0.9, nesterov=True),
        13,
    ),
    "unfused softmax": (6, lambda: [dense(8, "softmax"), dense(5, "softmax")], "mse", fn.SGD(0.5, 0.5), 10),
    "logits": (
        6,
        lambda: [dense(8, "relu"), dense(3)],
        fn.CrossEntropy(from_logits=True),
        fn.AdamW(0.01, weight_decay=0.1),
        10,
    ),
    "penalties": (
        40,
        lambda: [dense(130, "relu", kernel_regularizer=fn.L1L2(1e-3, 1e-3)), dense(2, kernel_regularizer="l2")],
        "mse",
        "adam",
        9,
    ),
    "clipped by norm": (
        4,
        lambda: [dense(6, "tanh", kernel_regularizer="l1_l2", bias_regularizer=fn.L1(0.01)), dense(2)],
        "mse",
        fn.Adam(0.01, clip_norm=0.3),
        9,
    ),
    "clipped by value": (4, lambda: [dense(6, "tanh"), dense(2)], "mse", fn.RMSprop(clip_value=0.02), 9),
    "max norm": (
        5,
        lambda: [
            dense(21, "relu", kernel_constraint=fn.MaxNorm(0.9)),
            dense(3, "softmax", kernel_constraint="max_norm", bias_constraint=fn.MaxNorm(0.01)),
        ],
        "cross_entropy",
        fn.RMSprop(0.01, momentum=0.5, clip_norm=1.0),
        9,
    ),
    "adagrad": (5, lambda: [dense(7, "relu"), dense(3, "softmax")], "cross_entropy", "adagrad", 9),
    "own update": (5, lambda: [dense(7, "relu"), dense(3, "softmax")], "cross_entropy", Lion(0.01), 9),
    "own penalty": (
        5,
        lambda: [dense(7, "relu", kernel_regularizer=fn.Penalty(smooth, smooth_slope)), dense(3, "softmax")],
        "cross_entropy",
        "adam",
        9,
    ),
    "frozen": (
        6,
        lambda: [dense(8, "relu", trainable=False), dense(8, "tanh"), dense(8, trainable=False), dense(2, "sigmoid")],
        "binary_cross_entropy",
        "adam",
        7,
    ),
    "odd order": (
        4,
        lambda: [
            fn.Dropout(0.3),
            dense(6, use_bias=False),
            fn.Dropout(0.1),
            fn.Activation("relu"),
            fn.Activation("tanh"),
            dense(3),
            fn.Activation("softmax"),
        ],
        "cross_entropy",
        "adam",
        5,
    ),
    "dropouts": (
        5,
        lambda: [
            dense(12, "softplus", trainable=False),
            fn.Dropout(0.2),
            dense(9, "relu"),
            fn.Activation("tanh"),
            fn.Dropout(0.3),
            fn.Dropout(0.1),
            fn.Activation("gelu"),
            dense(16, "softmax"),
            fn.Dropout(0.25),
            dense(3),
        ],
        "mse",
        "adam",
        9,
    ),
    "wide": (300, lambda: [dense(270, "relu"), dense(10, "softmax")], "cross_entropy", "adam", 260),
    "columns": (
        520,
        lambda: [dense(500, "relu"), fn.Dropout(0.2), dense(490), dense(485, "tanh"), dense(3, "softmax")],
        "cross_entropy",
        "adam",
        20,
    ),
    "columns, clipped": (
        520,
        lambda: [dense(500, "relu", kernel_regularizer="l2"), dense(480, kernel_constraint=fn.MaxNorm(0.9)), dense(2)],
        "mse",
        fn.Adam(clip_norm=0.1),
        3,
    ),
    "columns of high batches": (700, lambda: [dense(1088, "relu"), dense(2)], "mse", "adam", 719),
    "inputs": (
        600,
        lambda: [dense(40, "relu"), fn.Dropout(0.2), dense(30, "tanh"), dense(3, "softmax")],
        "cross_entropy",
        "adam",
        20,
    ),
    "one unit": (8192, lambda: [dense(1)], "mse", "adam", 20),
    "inputs, clipped": (
        1301,
        lambda: [dense(50, use_bias=False, kernel_regularizer="l2", kernel_constraint=fn.MaxNorm(0.9)), dense(2)],
        "mse",
        fn.Adam(clip_norm=0.1),
        3,
    ),
    "inputs in three": (570, lambda: [dense(1024, "relu"), dense(2)], "mse", "adam", 20),
    "pieces by inputs": (800, lambda: [dense(200, "relu"), dense(130), dense(3)], "mse", "adam", 140),
    "pieces by columns": (560, lambda: [dense(576, "relu"), dense(600), dense(3)], "mse", "adam", 70),
    "pieces": (
        260,
        lambda: [dense(520, "relu"), fn.Dropout(0.2), dense(200, "tanh"), dense(130), dense(3)],
        "mse",
        "adam",
        130,
    ),
    "pieces, clipped": (200, lambda: [dense(150, "relu"), dense(140)], "mse", fn.Adam(clip_norm=0.1), 140),
    "pieces in parts": (128, lambda: [dense(130, "relu"), dense(2)], "mse", "adam", 1000),
    "parts": (3, lambda: [dense(4, "tanh"), fn.Dropout(0.2), dense(2, use_bias=False)], "mse", "adam", 420),
    "parts in blocks": (
        3,
        lambda: [dense(64, "tanh"), fn.Dropout(0.2), dense(48, "relu"), dense(2)],
        "mse",
        "adam",
        4000,
    ),
    "parts clipped by norm": (
        3,
        lambda: [dense(2, "tanh", kernel_regularizer=fn.Penalty(smooth, smooth_slope)), dense(1)],
        "mse",
        fn.Adam(0.01, clip_norm=0.1),
        400,
    ),
    "label smoothing": (5, lambda: [dense(6, "relu"), dense(4, "softmax")], fn.CrossEntropy(False, 0.2), "adam", 7),
    "smoothed bits": (5, lambda: [dense(6, "relu"), dense(3, "sigmoid")], fn.BinaryCrossEntropy(False, 0.1), "adam", 7),
    "smoothed logits": (5, lambda: [dense(6, "relu"), dense(2)], fn.BinaryCrossEntropy(True, 0.3), "adam", 7),
    "mae": (4, lambda: [dense(5, "tanh"), dense(3)], "mae", "sgd", 6),
    "huber": (4, lambda: [dense(5, "tanh"), dense(1)], fn.Huber(0.3), "sgd", 6),
    "quantile": (4, lambda: [dense(5, "tanh"), dense(2, "softplus")], fn.Quantile(0.8), "sgd", 6),
    "one row": (3, lambda: [dense(4, "relu"), dense(1)], "mse", "adam", 1),
    "branches": (
        30,
        lambda: [dense(96, "relu"), dense(70, "tanh"), dense(40), dense(5, "softmax")],
        "cross_entropy",
        "adam",
        37,
    ),
    "branches without biases": (
        33,
        lambda: [dense(136, "softplus", use_bias=False), dense(50, "relu", use_bias=False), dense(2)],
        "mse",
        fn.SGD(0.01, momentum=0.9),
        9,
    ),
    "branches of a linear layer": (40, lambda: [dense(64), dense(25)], "mse", "sgd", 1),
    "pieces in branches": (200, lambda: [dense(320, "relu"), dense(130), dense(3)], "mse", "adam", 140),
}


def test_small_networks_with_many_rows_have_parts():
    """What the names of the architectures promise: 4 parts, and 2 in the last batch."""
    for name in ("parts", "parts clipped by norm"):
        model, X, y, batch_size = problem(name, "float32")
        part_rows = model._training_runner(y.shape[1]).plan.part_rows(batch_size)
        assert [-(-rows // part_rows) for rows in (batch_size, len(X) % batch_size)] == [4, 2]
    model, _, y, batch_size = problem("tiny", "float32")
    assert model._training_runner(y.shape[1]).plan.part_rows(batch_size) == 0


@pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
@pytest.mark.parametrize("workers", WORKERS)
def test_of_a_large_batch_with_parts_the_arenas_have_a_block_for_each_worker(workers):
    model, X, y, batch_size = problem("parts in blocks", "float32")
    runner = model._training_runner(y.shape[1])
    plan = runner.plan
    part_rows = plan.part_rows(batch_size)
    assert 0 < part_rows < plan.block and batch_size > 5 * plan.block, "each worker is to have several blocks of parts"
    train(model, runner, X, y, batch_size, workers)
    assert runner.arena_rows <= min(batch_size, workers * (1.5 * plan.block + part_rows + 16))
    assert runner.activations.size == plan.columns * runner.arena_rows


def test_more_workers_than_parts_take_no_more_memory():
    model, X, y, batch_size = problem("parts", "float32")
    runner = model._training_runner(y.shape[1])
    expected = train(model, runner, X, y, batch_size, 1)[2]
    model, X, y, batch_size = problem("parts", "float32")
    runner = model._training_runner(y.shape[1])
    np.testing.assert_array_equal(train(model, runner, X, y, batch_size, 7)[2], expected)
    assert runner.arena_rows == runner.capacity == batch_size


def test_workspaces_that_ctrl_c_leaves_behind_fit_the_workers_of_before(monkeypatch):
    """Room for 3 workers is made, and the interrupt comes before it counts: then 2 still find theirs."""
    (model, runner, X, y, batch_size), (twin, other, *_) = _with_runner("tiny"), _with_runner("tiny")
    runner._reserve(1, 2, 0, 1)

    def interrupted(length, real):
        if length == 3 * PIECES_UPDATE_CHUNK:
            raise KeyboardInterrupt
        return aligned_zeros(length, real)

    monkeypatch.setattr("fastnn.kernels.cpu.runner.aligned_zeros", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner._reserve(1, 3, 0, 1)
    monkeypatch.undo()
    found, expected = train(model, runner, X, y, batch_size, 2), train(twin, other, X, y, batch_size, 2)
    np.testing.assert_array_equal(found[2], expected[2])


def test_there_is_room_for_more_parts_of_fewer_rows():
    """1,536 rows have a part more than 1,537: the arenas of activations stay, that of the parts moves."""
    model, X, y, _ = problem("parts", "float32")
    runner = model._training_runner(y.shape[1])
    for rows, parts in ((1537, 15), (1536, 16)):
        assert -(-rows // runner.plan.part_rows(rows)) == parts
        runner._reserve(rows, 1, parts, rows)
        assert runner._run_record(Data(X, y))[PARTS] == runner.parts.ctypes.data
        assert len(runner.parts) == parts * runner.plan.length and runner.capacity == 1537


needs_unit = pytest.mark.skipif(not (COMPILED and amx.available()), reason="there is no matrix unit (AMX)")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """As many as on the machines that all batches here are large enough for, to be multiplied by pieces."""
    monkeypatch.setattr("fastnn.kernels.cpu.pieces.cores", lambda: 2)


@needs_unit
@pytest.mark.parametrize(
    ("precision", "least", "most"), [("float32", 0, 5e-7), ("tf32", 2e-6, 2e-5), ("bf16", 5e-3, 5e-2)]
)
def test_the_precision_that_was_asked_for(precision, least, most):
    """Beside float64, relative to the step that the weights took."""
    (model, X, y, batch_size), (exact, *_) = (
        problem("pieces, clipped", "float32", precision=precision),
        problem("pieces, clipped", "float64"),
    )
    exact.set_weights(model.get_weights())
    for each in (model, exact):
        each.compile(fn.SGD(1e4), "mse", precision=precision if each is model else "float32")
    before = exact.get_weights()[0].copy()
    for each in (model, exact):
        each.train_on_batch(X[:batch_size], y[:batch_size])
    step = exact.get_weights()[0] - before
    found = np.sqrt(np.mean((model.get_weights()[0] - exact.get_weights()[0]) ** 2) / np.mean(step**2))
    assert least < found < most, found


@needs_unit
def test_predictions_have_float32s_precision_whatever_the_training_has():
    outputs = []
    for precision in ("float32", "bf16"):
        model, X, *_ = problem("pieces", "float32", precision=precision)
        outputs.append(model.predict(X))
    np.testing.assert_array_equal(*outputs)


@needs_unit
@pytest.mark.parametrize(
    ("name", "marks"),
    [
        ("wide", [(1, 1), (0, 0)]),
        ("pieces", [(1, 1), (1, 1), (1, 1), (0, 0)]),
        ("pieces, clipped", [(1, 1), (1, 0)]),
        ("pieces in parts", [(1, 1), (0, 0)]),
        ("pieces by columns", [(1, 1), (1, 1), (0, 0)]),
        ("digits", [(0, 0), (0, 0), (0, 0)]),
    ],
)
def test_which_architectures_here_are_multiplied_by_pieces(name, marks):
    model, runner, X, y, batch_size = _with_runner(name)
    train(model, runner, X, y, batch_size, 1)
    found = runner.tables["operations"][:, [OF_PIECES, DW_OF_PIECES]]
    kinds = [operation.kind for operation in runner.plan.operations]
    assert [tuple(map(int, mark)) for mark, kind in zip(found, kinds, strict=True) if kind == "dense"] == marks


@pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
@pytest.mark.parametrize(
    ("name", "workers", "shared"),
    [
        ("columns", 1, [(0, 0), (0, 0), (0, 0), (0, 0)]),
        ("columns", 2, [(0, 0), (490, 500), (485, 490), (0, 0)]),  # the first layer has branches
        ("columns of high batches", 2, [(1088, 0), (0, 0)]),
        ("wide", 2, [(0, 0), (0, 0)]),
        ("parts in blocks", 2, [(0, 0), (0, 0), (0, 0)]),
        ("pieces by columns", 2, [(0, 0), (600, 576), (0, 0)]),
    ],
)
def test_of_which_layers_workers_share_columns(name, workers, shared):
    model, runner, X, y, batch_size = _with_runner(name)
    for each in (1, 5, workers):  # and what another number of workers had is gone
        train(model, runner, X, y, batch_size, each)
    table = runner.tables["operations"] if runner.branches is None else runner.branches.operations
    found = table[:, [Y_COLUMNS, DX_COLUMNS]]
    kinds = [operation.kind for operation in runner.plan.operations]
    assert [tuple(map(int, mark)) for mark, kind in zip(found, kinds, strict=True) if kind == "dense"] == shared
    assert (runner.program[BLOCK] == batch_size) == np.any(shared)


@pytest.mark.skipif(not COMPILED, reason="plain Python has no branches")
@pytest.mark.parametrize(
    ("name", "workers", "join", "edges"),
    [
        ("columns", 1, 0, []),
        ("columns", 2, 0, [0, 260, 520]),
        ("columns", 3, 0, []),
        ("inputs", 2, 0, [0, 300, 600]),
        ("inputs", 4, 0, []),
        ("inputs, clipped", 2, 0, [0, 326, 652, 978, 1301]),
        ("inputs, clipped", 4, 0, [0, 326, 652, 978, 1301]),
        ("inputs in three", 3, 0, [0, 190, 380, 570]),
        ("pieces by columns", 2, 0, [0, 280, 560]),
        ("pieces by inputs", 2, 0, [0, 400, 800]),
        ("branches", 2, 2, [0, 48, 96]),
        ("branches", 1, 0, []),
        ("branches", 3, 0, []),
        ("branches without biases", 2, 2, [0, 68, 136]),
        ("branches of a linear layer", 2, 1, [0, 32, 64]),
        ("pieces in branches", 2, 2, [0, 160, 320]),
        ("digits", 2, 3, [0, 32, 64]),
        ("penalties", 2, 0, []),
        ("parts in blocks", 2, 0, []),
    ],
)
def test_who_has_branches(name, workers, join, edges):
    model, runner, X, y, batch_size = _with_runner(name)
    for each in (1, 2, 5, workers):
        train(model, runner, X, y, batch_size, each)
    assert runner.program[BRANCH_COUNT] == max(0, len(edges) - 1)
    if edges:
        assert (runner.branches.join, runner.branches.edges) == (join, edges)


#: name -> (layers, optimizer): all but the first lack one thing each that branches need.
CUTS = {
    "all": ([dense(64, "relu"), fn.Dropout(0.1), dense(32), dense(2)], fn.SGD()),
    "a gradient clipped by its norm": ([dense(64), dense(32), dense(2)], fn.SGD(clip_norm=1.0)),
    "a penalty": ([dense(64), dense(32), dense(2, kernel_regularizer=fn.L2(0.1))], fn.SGD()),
    "max-norm": ([dense(64), dense(32), dense(2, kernel_constraint=fn.MaxNorm(1.0))], fn.SGD()),
    "a frozen first layer": ([dense(64, trainable=False), dense(32), dense(2)], fn.SGD()),
    "a frozen second layer": ([dense(64), dense(32, trainable=False), dense(2)], fn.SGD()),
    "softmax between": ([dense(64, "softmax"), dense(32), dense(2)], fn.SGD()),
    "dropout before": ([fn.Dropout(0.1), dense(64), dense(32), dense(2)], fn.SGD()),
    "halves that are no whole vectors": ([dense(68), dense(32), dense(2)], fn.SGD()),
    "a single unit": ([dense(64), dense(1)], fn.SGD()),
    "one layer": ([dense(64)], fn.SGD()),
    "few weights": ([dense(32), dense(32), dense(2)], fn.SGD()),
    "many weights": ([dense(512), dense(1024), dense(2)], fn.SGD()),
    "many units": ([dense(808), dense(32), dense(2)], fn.SGD()),
}


@pytest.mark.parametrize("name", CUTS)
def test_which_networks_may_be_cut_in_two(name):
    layers, optimizer = CUTS[name]
    model = fn.Model([fn.Input(64), *layers], seed=0)
    model.compile(optimizer, "mse")
    plan = model._training_runner(model.plan.outputs).plan
    told = "two workers may each have 32 units of dense_1: dense_2 sums 32 inputs at a time" in str(plan)
    assert (plan.join > 0) == told == (name == "all")


@pytest.mark.skipif(not COMPILED, reason="plain Python has no branches")
@pytest.mark.parametrize(("hidden", "outputs"), [(8, UPDATE_CHUNK + 8), (400, 1024)])
def test_second_layers_that_must_not_be_cut(hidden, outputs):
    """The gradient of one goes through the arena, where branches would write over one another's; of the other one a
    product interrupts the sums of each half.
    """
    found = []
    X = np.random.default_rng(3).normal(size=(12, 4))
    y = np.tile(X, (1, outputs // 4))
    for threads in (1, 2):
        model = fn.Model([fn.Input(4), dense(hidden, "relu"), dense(outputs)], seed=5)
        model.compile("sgd", "mse", threads=threads)
        model.fit(X, y, batch_size=3, epochs=2, verbose=0)
        found.append(model.arenas.parameters.copy())
    np.testing.assert_array_equal(*found)


@pytest.mark.skipif(not COMPILED, reason="plain Python has no branches")
def test_a_training_that_looks_at_the_norm_cuts_no_units():
    """The norm is summed row by row of W, and rows that are cut would be two."""
    found = []
    for workers in (1, 2):
        model, runner, X, y, batch_size = _with_runner("branches")
        call = Data(X, y), None, batch_size, 0, 2, np.full(2, 0.01), 0, model.seed, workers
        runner.train(*call, tolerance=1e-30)
        found.append((runner.norms, model.arenas.parameters))
        assert runner.program[BRANCH_COUNT] == 0
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


class Look(fn.Callback):
    """Keeps what the model has after each epoch, and changes a weight."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, epoch, logs):
        self.seen += [array.copy() for array in (self.model.arenas.parameters, *self.model.arenas.slots)]
        self.model.layers[1].W[0] *= 0.9


@pytest.mark.skipif(not COMPILED, reason="plain Python has no branches")
def test_what_branches_train_is_there_whenever_somebody_looks():
    """After each epoch, beside a callback that changes weights, and in steps of one's own between two fits."""
    looks = []
    for threads in (1, 2):
        model, X, y, batch_size = problem("branches", "float32")
        model.compile("adam", "cross_entropy", threads=threads)
        look = Look()
        for _ in range(2):
            model.fit(X, y, batch_size, epochs=2, callbacks=[look], verbose=0)
            for _ in range(4):
                model.train_on_batch(X[:batch_size], y[:batch_size])
        looks.append(look)
    assert model._runners["training"].branches.join > 0
    for one, two in zip(looks[0].seen, looks[1].seen, strict=True):
        np.testing.assert_array_equal(one, two)


@needs_unit
def test_marks_follow_the_batch():
    """A small batch between large ones: each is multiplied as by a runner that has seen nothing else."""
    (model, runner, X, y, batch_size), (twin, other, *_) = _with_runner("pieces"), _with_runner("pieces")
    for size in (batch_size, 40, batch_size):
        _, fresh, *_ = _with_runner("pieces")
        fresh.arenas = other.arenas
        found, expected = train(model, runner, X, y, size, 2), train(twin, fresh, X, y, size, 2)
        np.testing.assert_array_equal(found[2], expected[2])


@needs_unit
def test_marks_that_ctrl_c_leaves_behind_are_made_anew(monkeypatch):
    model, runner, X, y, batch_size = _with_runner("pieces")
    train(model, runner, X, y, 40, 1)

    def interrupted(*layer):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastnn.kernels.cpu.pieces.room_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(model, runner, X, y, batch_size, 1)
    monkeypatch.undo()
    train(model, runner, X, y, 40, 1)
    assert not runner.tables["operations"][:, [OF_PIECES, DW_OF_PIECES]].any()


@needs_unit
def test_how_data_is_handed_over_changes_no_bits():
    """The last batch is small, and some data reaches the engine in slices of which one has this batch alone."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 3, (5 * 128 + 96, 300)), rng.standard_normal((5 * 128 + 96, 1))
    weights = []
    for dtype in ("uint8", "float32"):
        model = fn.Model([fn.Input(300), dense(256, "relu"), dense(1)], seed=0)
        model.compile("adam", "mse", threads=2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fastnn.data.BLOCK_BYTES", 4 * 300 * 128)  # a batch
            model.fit(X.astype(dtype), y.astype("float32"), batch_size=128, epochs=2, verbose=0)
        weights.append(np.concatenate([w.reshape(-1) for w in model.get_weights()]))
    np.testing.assert_array_equal(*weights)


def problem(name, dtype, seed=1, precision="float32"):
    """A compiled model, and rows for it that do not fill the last batch."""
    inputs, layers, loss, optimizer, batch_size = ARCHITECTURES[name]
    model = fn.Model([fn.Input(inputs), *layers()], seed=seed, dtype=dtype)
    model.compile(optimizer, loss, precision=precision)
    generator = np.random.default_rng(seed)
    rows = 2 * batch_size + batch_size // 2 + 1
    X = generator.standard_normal((rows, inputs)).astype(dtype)
    if isinstance(model.loss, fn.CrossEntropy):
        y = generator.integers(0, model.outputs, (rows, 1)).astype(dtype)
    else:
        y = generator.uniform(0, 1, (rows, model.outputs)).astype(dtype)
    return model, X, y, batch_size


def train(model, runner, X, y, batch_size, workers):
    """STEPS steps on shuffled epochs; returns the status, the results and the parameters afterwards."""
    batches = -(-len(X) // batch_size)
    epochs = -(-STEPS // batches)
    order = np.concatenate([np.random.default_rng(e).permutation(len(X)) for e in range(epochs)])
    rates = np.linspace(0.01, 0.02, STEPS)
    weights = np.random.default_rng(1).uniform(0, 2, len(X))
    kept = np.full((len(X) * epochs, model.outputs), np.nan, model.dtype)
    found = []
    for epoch in range(epochs):  # outputs are kept for one epoch at a time
        first, last = epoch * batches, min((epoch + 1) * batches, STEPS)
        rows = slice(epoch * len(X), (epoch + 1) * len(X))
        call = Data(X, y, weights), order[rows], batch_size, 0, last - first, rates[first:last], first
        status, done, results = runner.train(*call, model.seed, workers, kept[rows])
        assert done == last - first
        found.append(results)
    return status, (np.concatenate(found), kept), model.arenas.parameters.copy()


@pytest.mark.parametrize(
    ("name", "dtype", "precision"),
    [
        *((name, "float32", "float32") for name in ARCHITECTURES if COMPILED or name not in LARGE),
        *((name, "float64", "float32") for name in ARCHITECTURES if COMPILED or name not in LARGE),
        pytest.param("pieces", "float32", "tf32", marks=needs_unit),
        pytest.param("pieces by columns", "float32", "bf16", marks=needs_unit),
    ],
)
def test_engine_has_the_bits_of_the_slow_path_for_any_number_of_workers(name, dtype, precision):
    model, X, y, batch_size = problem(name, dtype, precision=precision)
    plan = model._training_runner(y.shape[1]).plan
    status, results, expected = train(model, SlowPath(plan, model.arenas), X, y, batch_size, 1)
    assert status == OK
    start = problem(name, dtype)[0].arenas.parameters
    assert not np.array_equal(start, expected), "nothing was trained"
    for workers in WORKERS:
        model, X, y, batch_size = problem(name, dtype, precision=precision)
        status, engine_results, parameters = train(model, model._training_runner(y.shape[1]), X, y, batch_size, workers)
        assert status == OK
        np.testing.assert_array_equal(parameters, expected, err_msg=f"{workers} workers")
        np.testing.assert_array_equal(engine_results[0], results[0], err_msg=f"{workers} workers")
        np.testing.assert_array_equal(engine_results[1], results[1], err_msg=f"{workers} workers")


@pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
def test_the_slow_path_adds_up_the_penalties_of_a_large_layer():
    """Its terms fill 2 KB, memory that the system gives to others as soon as nobody holds it."""
    X, y = np.ones((2, 1024), np.float32), np.ones((2, 1), np.float32)
    found = []
    for makes in (lambda model, runner: runner, lambda model, runner: SlowPath(runner.plan, model.arenas)):
        model = fn.Model([fn.Input(1024), dense(1024, kernel_regularizer="l2"), dense(1)], seed=0)
        model.compile("sgd", "mse")
        runner = makes(model, model._training_runner(1))
        for step in range(3):
            found.append(runner.train(Data(X, y), None, 2, 0, 1, np.full(1, 0.01), step, 0, 1)[2][0, 0])
    np.testing.assert_array_equal(found[:3], found[3:])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "name",
    ["digits", "logits", "unfused softmax", "odd order", "wide", "pieces"] if COMPILED else ["logits", "odd order"],
)
def test_evaluate_and_predict_have_equal_bits_for_any_number_of_workers(name, dtype):
    model, X, y, _ = problem(name, dtype)
    X, y = np.tile(X, (8, 1)), np.tile(y, (8, 1))
    found = []
    for workers in WORKERS:
        model.threads = workers
        found.append((model.predict(X), model.evaluate(X, y)))
    for prediction, evaluation in found[1:]:
        np.testing.assert_array_equal(prediction, found[0][0])
        assert evaluation == found[0][1]


def test_prediction_leaves_dropout_out_and_equals_the_layers():
    model, X, _, _ = problem("odd order", "float64")
    x = X
    for layer in model.layers:
        x = layer.forward(x)
    np.testing.assert_array_equal(model.predict(X), x)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_loss_that_is_not_finite_stops_all_workers_before_the_update(workers):
    model, X, y, batch_size = problem(SMALL, "float32")
    next(layer for layer in model.layers if layer.kind == "dense").W[0, 0] = np.nan
    before = model.arenas.parameters.copy()
    runner = model._training_runner(1)
    status, done, _ = runner.train(Data(X, y), None, batch_size, 0, 3, np.full(3, 0.01), 0, 0, workers)
    assert (status, done) == (NOT_FINITE, 0)
    np.testing.assert_array_equal(model.arenas.parameters, before)


@pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
def test_inputs_that_are_shared_may_stand_in_any_layout_and_order():
    rng, found = np.random.default_rng(0), []
    X, y = rng.standard_normal((50, 600)), rng.integers(0, 3, 50)
    layouts = X.astype("float32"), np.asfortranarray(X.astype("float32")), X.astype("float32")[::-1].copy()[::-1], X
    for layout in layouts:
        for threads in (1, 2):
            model = fn.Model([fn.Input(600), dense(40, "relu"), dense(3, "softmax")], seed=0)
            model.compile("adam", "cross_entropy", threads=threads)
            model.fit(layout, y, batch_size=20, epochs=2, verbose=0, shuffle=False)
            model.fit(layout, y, batch_size=20, epochs=2, verbose=0)
            loss, outputs = model.evaluate(layout, y)["loss"], model.predict(layout)  # which share rows, in between
            model.train_on_batch(layout[:20], y[:20])
            found.append((loss, outputs.tobytes(), b"".join(w.tobytes() for w in model.get_weights())))
    assert len(set(found)) == 1


@pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
@pytest.mark.parametrize("column", [0, 299, 300, 599])
def test_a_bad_input_is_found_by_the_worker_that_has_it(column):
    """A layer that is not trained hides it from the loss and the gradients: only a look at the inputs shows it."""
    layers = [fn.Input(600), dense(40, "relu", kernel_initializer=fn.Constant(0.01), trainable=False), dense(1)]
    model = fn.Model(layers, seed=0)
    model.compile("adam", "mse", threads=2)
    X, y = np.ones((20, 600), "float32"), np.ones((20, 1), "float32")
    for _ in range(4):
        model.train_on_batch(X, y)
    before = model.get_weights()
    X[7, column] = -np.inf
    with pytest.raises(ValueError, match=f"X has -inf in row 7, column {column}"):
        model.train_on_batch(X, y)
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    X[7, column] = 1
    model.train_on_batch(X, y)


@pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
@pytest.mark.parametrize("name", ["columns", "inputs"])
@pytest.mark.parametrize("bad", [0, 9, 19])
def test_workers_that_share_columns_or_inputs_wait_for_nobody_who_has_stopped(name, bad):
    """One of them finds that the loss of its row is not finite, and does not go back through the layers."""
    model, runner, X, y, batch_size = _with_runner(name)
    X[bad, 0] = np.nan
    before = model.arenas.parameters.copy()
    for workers in (2, 3, 4):
        status, done, _ = runner.train(Data(X, y), None, batch_size, 0, 3, np.full(3, 0.01), 0, 0, workers)
        assert (status, done) == (NOT_FINITE, 0)
        np.testing.assert_array_equal(model.arenas.parameters, before)


@pytest.mark.parametrize("name", ["clipped by norm", "logistic regression"])
def test_training_ends_where_the_gradient_is_small_for_any_number_of_workers(name):
    found = []
    for workers in (0, *WORKERS):  # 0: the slow path
        model, X, y, _ = problem(name, "float64")
        norm = np.sqrt(sum((gradient**2).sum() for gradient in model.gradients(X, y).values()))
        runner = model._training_runner(y.shape[1])
        runner = runner if workers else SlowPath(runner.plan, model.arenas)
        call = Data(X, y), None, len(X), 0, 40, np.full(40, 0.05), 0, 0, max(1, workers), None
        status, done, results = runner.train(*call, 0.95 * norm)
        assert status == CONVERGED and 0 < done < 40
        assert results[done, 0] > 0 and results[done + 1 :].sum() == 0
        found.append((done, results.tobytes(), model.arenas.parameters.tobytes()))
        assert runner.train(*call, 1e-12)[:2] == (OK, 40), "no gradient is that small"
    assert len(set(found)) == 1


@pytest.mark.skipif(not (COMPILED and ON_X86), reason="only compiled code on x86 takes subnormal numbers as zero")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("dtype", "small"), [("float32", 1e-20), ("float64", 1e-160)])
def test_a_training_takes_subnormal_numbers_as_zero_and_nothing_else_does(dtype, small, threads):
    model = fn.Model([fn.Input(1), fn.Dense(1, use_bias=False, kernel_initializer="zeros")], dtype=dtype, seed=0)
    model.compile(fn.SGD(1.0), "mse", threads=threads)
    X, y = np.full((4, 1), small, dtype), np.full((4, 1), small, dtype)
    model.fit(X, y, batch_size=4, epochs=2, verbose=0)
    assert model.layers[-1].W[0, 0] == 0, "a gradient of 1e-40 or 1e-320"
    assert X[0, 0] * X[0, 0] > 0, "the caller's own numbers are as before"
    model.set_weights([np.full((1, 1), small, dtype)])
    assert model.predict(X)[0, 0] > 0


@pytest.mark.skipif(not (COMPILED and ON_X86), reason="only compiled code on x86 takes subnormal numbers as zero")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "optimizer",
    [fn.SGD(0.01, momentum=0.5), fn.RMSprop(0.01, rho=0.5, momentum=0.5), fn.Adam(0.01, 0.5, 0.5)],
    ids=["SGD", "RMSprop", "Adam"],
)
def test_what_an_optimizer_remembers_ends_at_zero_and_not_at_a_subnormal_number(optimizer, dtype):
    model = fn.Model([fn.Input(3), fn.Dense(4, use_bias=False)], dtype=dtype, seed=0)
    model.compile(optimizer, "mse")
    X, y = np.ones((8, 3), dtype), np.ones((8, 4), dtype)
    model.fit(X, y, verbose=0)
    assert [np.count_nonzero(slot) for slot in model.arenas.slots] == [12] * len(model.arenas.slots)
    model.fit(0 * X, y, epochs=2500, verbose=0)  # all gradients are zero
    assert not any(slot.any() for slot in model.arenas.slots)


@pytest.mark.skipif(not (COMPILED and ON_X86), reason="only compiled code on x86 takes subnormal numbers as zero")
@pytest.mark.parametrize(("dtype", "small", "epsilon"), [("float32", 1e-18, 1e-35), ("float64", 1e-153, 1e-300)])
def test_adam_rests_where_squares_are_subnormal_and_taken_as_zero(dtype, small, epsilon):
    """Squares of 1e-39 or 1e-309; a step of rate * g / epsilon would be a leap."""
    model = fn.Model([fn.Input(1), fn.Dense(1, use_bias=False, kernel_initializer="zeros")], dtype=dtype, seed=0)
    model.compile(fn.Adam(0.01, epsilon=epsilon), "mse")
    X, y = np.ones((4, 1), dtype), np.full((4, 1), small / 2, dtype)
    model.fit(X, y, batch_size=4, epochs=1, verbose=0)
    assert model.layers[-1].W[0, 0] == 0


@pytest.mark.parametrize(
    ("layers", "name", "fused"),
    [
        ([fn.Dense(3, "relu"), fn.Dense(2)], "operations", 1),
        ([fn.Dense(3, "relu"), fn.Dropout(0.5), fn.Dense(2)], "operations", 1),
        ([fn.Dense(3, "relu"), fn.Dropout(0.5), fn.Dense(2)], "prediction", 1),
        ([fn.Dense(3), fn.Dense(2, "relu")], "operations", 1),
        ([fn.Dense(3), fn.Dense(2, "relu")], "prediction", 1),
        ([fn.Dense(3), fn.Dropout(0.5), fn.Activation("relu"), fn.Dense(2)], "operations", 0),
        ([fn.Activation("relu"), fn.Dense(2)], "operations", 0),
        ([fn.Dense(3, "leaky_relu"), fn.Dense(2)], "operations", 0),
    ],
)
def test_dense_layers_form_the_relu_behind_them(layers, name, fused):
    model = fn.Model([fn.Input(4), *layers], seed=0)
    model.compile("sgd", "mse")
    table = model._training_runner(2)._table(name)
    assert table[:, RECTIFIED].sum() == (table[:, FORWARD] == 0).sum() == fused


@pytest.fixture
def one_thread(monkeypatch):
    """After one more thread no other can be begun; the list has that one."""
    start, started = threading.Thread.start, []

    def refuse(thread):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(crew, "_idle", [])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    yield started
    crew.end_idle()


def test_a_thread_that_cannot_start_costs_nothing_but_time(one_thread):
    expected = train(*_with_runner(SMALL), workers=1)
    found = train(*_with_runner(SMALL), workers=4)
    assert len(one_thread) == 1
    np.testing.assert_array_equal(found[2], expected[2])


@pytest.mark.skipif(not COMPILED, reason="so many rows take long in plain Python")
def test_predictions_and_evaluations_need_no_threads_either(one_thread):
    model, X, y, _ = problem(SMALL, "float32")
    X, y = np.tile(X, (8, 1)), np.tile(y, (8, 1))
    found = []
    for model.threads in (1, 4):
        found.append((model.predict(X).tobytes(), model.evaluate(X, y, verbose=0)))
    assert found[0] == found[1] and len(one_thread) == 1


@pytest.mark.parametrize("moment", range(6))
def test_ctrl_c_while_room_is_made_leaves_no_room_that_is_too_small(moment, monkeypatch):
    def interrupted(*arguments):
        made.append(arguments)
        if len(made) > moment:
            raise KeyboardInterrupt
        return aligned_zeros(*arguments)

    made, runner = [], _with_runner(SMALL)[1]
    runner._reserve(1, 1, 0, 1)
    monkeypatch.setattr("fastnn.kernels.cpu.runner.aligned_zeros", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner._reserve(1000, 2, 0, 1000)
    monkeypatch.undo()
    runner._reserve(1000, 2, 0, 1000)
    plan = runner.plan
    for room, columns in (("activations", plan.columns), ("inputs", plan.inputs), ("targets", plan.target_width)):
        assert getattr(runner, room).size >= 1000 * columns
    assert runner.derivatives.size >= 1000 * plan.derivative_columns
    assert runner.row_losses.size >= 1000
    assert len(runner.scales) == len(runner.gradient_rooms) == 2


def _with_runner(name):
    model, X, y, batch_size = problem(name, "float32")
    return model, model._training_runner(y.shape[1]), X, y, batch_size


@pytest.mark.skipif(not COMPILED, reason="takes long in plain Python")
@pytest.mark.parametrize(("hidden", "batch_size"), [((32,), 32), ((64, 64), 37), ((129, 65), 50), ((32,), 300)])
def test_real_data_over_several_epochs_has_equal_bits_for_any_number_of_workers(hidden, batch_size):
    """Hundreds of steps on digits: a rounding that depends on a worker's share would show sooner or later."""
    X, y = fn.datasets.digits()
    found = []
    for threads in (1, 2, 3, 4, 7):
        layers = [dense(units, "relu") for units in hidden]
        model = fn.Model([fn.Input(64), *layers, dense(10, "softmax")], seed=0)
        model.compile("adam", "cross_entropy", threads=threads)
        model.fit(X, y, epochs=5, batch_size=batch_size)
        found.append(model.arenas.parameters.tobytes())
    assert len(set(found)) == 1
