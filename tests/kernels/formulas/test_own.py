"""A user's Python functions as formulas: right numbers in both types, frozen, known again, clear errors."""

import math
import pathlib
from math import log1p

import numpy as np
import pytest
from numba import njit
from numpy import clip

from fastnn.kernels.cpu.activations import activation_backward, activation_forward
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.formulas.own import activation_formulas, frozen, loss_formulas, own_formula
from fastnn.kernels.jit import COMPILED, kernel

REALS = [np.float32, np.float64]
SCALE = 0.75
TABLE = np.array([0.5, 2.0])
PAIR = (2.0, 3)

compiled_only = pytest.mark.skipif(not COMPILED, reason="the compiler is disabled")


def scaled(x):
    return SCALE * x


def both(x):
    return 2 * x, x


@njit
def jitted(x):
    return math.exp(-abs(x))


def factorial(n):
    return 1.0 if n <= 1 else n * factorial(n - 1)


def root(x):
    guess = 1.0
    for _ in range(30):
        guess = (guess + abs(x) / guess) / 2
    return guess


def branches(x):
    if x > 1:
        return 1
    if x < -1:
        return False
    return x


def typed(x):
    real = type(x)
    return real(0.5) * x + real(1)


def caught(x):
    try:
        return x
    except Exception:
        return -x


def inner(x):
    def square(z):
        return z * z

    return square(x) + sum([k * x for k in range(3)])


def closure(number):
    def value(x):
        return x + number

    return value


def closure_of(function):
    def value(x):
        return function(x) - 1

    return value


def with_default(x, factor=3.0, term=1.0):
    return factor * x + term


FUNCTIONS = {
    "max": lambda x: max(x, 0),
    "min and max": lambda x: min(max(x, -1), 1),
    "numpy maximum": lambda x: np.maximum(x, 0),
    "numpy clip": lambda x: np.clip(x, -1.0, 1),
    "clip by name": lambda x: clip(x, -0.5, 0.5),
    "numpy where": lambda x: np.where(x > 0, x, 0.1 * x),
    "numpy": lambda x: np.sign(x) * np.sqrt(np.abs(x)) + np.pi + np.float32(2),
    "integer": lambda x: 3,
    "truth value": lambda x: x > 0,
    "mixed branches": branches,
    "power": lambda x: abs(x) ** 1.5 + x**2,
    "exp": lambda x: 1 / (1 + math.exp(-x)),
    "numpy exp": lambda x: np.exp(-x * x) + np.expm1(x) + np.log1p(abs(x)),
    "logarithms": lambda x: log1p(abs(x)) + math.log(abs(x) + 1) + math.expm1(x) + math.tanh(x) + math.erf(x),
    "of whole numbers": lambda x: x * math.exp(1) + np.exp(2) + math.log(3) + math.tanh(True),
    "a global": scaled,
    "a function": lambda x: scaled(x) - scaled(1.0),
    "a compiled function": lambda x: jitted(x) + 1,
    "compiled itself": jitted,
    "recursion": lambda x: factorial(4) * x,
    "an array": lambda x: TABLE[1] * x + TABLE[0],
    "a tuple": lambda x: PAIR[0] * x + PAIR[1],
    "a function that returns two": lambda x: both(x)[0] - both(x)[1] / 2,
    "a closure": closure(0.25),
    "a function in a closure": closure_of(scaled),
    "a default": with_default,
    "a loop": root,
    "type": typed,
    "try": caught,
    "functions inside": inner,
    "a function of math": math.tanh,
    "a function of numpy": np.arctan,
}


def loop(value):
    """y = value(x), as a kernel that is compiled in a fifth of the time that those for activations take."""

    @kernel
    def run(y, x):
        for i in range(x.size):
            y[i] = value(x[i])

    return run


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name, real):
    function = FUNCTIONS[name]
    value, slope = activation_formulas(function, lambda x, y: y + x)
    x = np.random.default_rng(0).standard_normal((1, 99)).astype(real)
    y, dx = np.empty_like(x), np.empty_like(x)
    loop(value)(y[0], x[0])
    expected = np.array([[float(function(float(number))) for number in x[0]]])
    tolerance = 1e-6 if real == np.float32 else 1e-14
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
    activation_backward(slope)(dx, np.ones_like(x), x, y, 0, 1)
    np.testing.assert_array_equal(dx, y + x)


@pytest.mark.parametrize("real", REALS)
def test_losses(real):
    value, slope = loss_formulas(lambda y, target: abs(y - target) ** 3, lambda y, target: 3 * (y - target) ** 2)
    assert value(real(3), real(1), real(0)) == 8 and slope(real(3), real(1), real(0)) == 12
    assert type(value(real(3), real(1), real(0))) is real


def test_functions_of_whole_arrays():
    """The stand-ins take arrays as well: a user's update gets flat arrays."""

    def change(p, g):
        p[:] = np.clip(p, -1.0, 1.0) + np.where(g > 0, 2.0, 0.0) + np.exp(g) + np.tanh(g)

    formula_of_it = own_formula(change, returns_number=False)

    @kernel
    def run(p, g):
        formula_of_it(p, g)

    p, g = np.array([-3.0, 0.5]), np.array([1.0, -1.0])
    expected = p.copy()
    change(expected, g)
    run(p, g)
    np.testing.assert_allclose(p, expected, rtol=1e-15)


@compiled_only
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("function", [math.tanh, np.tanh, lambda x: math.tanh(x) + 0, lambda x: np.tanh(x) + 0])
def test_functions_of_libraries_are_replaced_by_ones_that_vectorize(function, real):
    """Shown by the bits: they are those of the built-in tanh, which are not the library's."""
    x = np.linspace(-3, 3, 4001, dtype=real)[None]
    own, built_in = np.empty_like(x), np.empty_like(x)
    activation_forward(activation_formulas(function, function)[0])(own, x, 0, 1)
    activation_forward(ACTIVATIONS["tanh"].value)(built_in, x, 0, 1)
    np.testing.assert_array_equal(own, built_in)
    assert real == np.float32 or not np.array_equal(built_in, [[math.tanh(number) for number in x[0]]])


def test_what_a_function_refers_to_is_frozen():
    namespace = {"factor": 2.0}
    exec("def helper(x):\n    return factor * x\ndef user(x):\n    return helper(x) + factor", namespace)
    number = 1.0

    def closed(x):
        return x + number

    made, made_closed = frozen(namespace["user"]), frozen(closed)
    namespace["factor"], number = 5.0, 7.0
    assert made(1.0) == 4.0 and made_closed(1.0) == 2.0
    assert frozen(namespace["user"])(1.0) == 10.0 and frozen(closed)(1.0) == 8.0


def test_functions_of_one_content_are_one_formula():
    assert own_formula(closure(1.0)) is own_formula(closure(1.0))
    assert own_formula(closure(1.0)) is not own_formula(closure(2.0))
    assert own_formula(closure(1)) is not own_formula(closure(1.0))
    assert activation_formulas(closure(1.0), max) == activation_formulas(closure(1.0), max)
    unknown = closure(TABLE)  # the table may change
    assert own_formula(unknown) is not own_formula(unknown)


def no_return(x):
    if x > 0:
        return x
    return None


def raises(x):
    if x > 1e9:
        raise ValueError("too large")
    return x


def asserts(x):
    assert x < 1e9
    return x


def keyword_only(x, *, factor=1.0):
    return factor * x


#: name -> (function, words of the message)
WRONG = {
    "no return": (no_return, "returns OptionalType(float32) for float32; expected a number on every path"),
    "a tuple": (lambda x: (x, x), "returns UniTuple(float32 x 2) for float32; expected a number"),
    "a complex number": (lambda x: complex(x, 1), "returns complex128 for float32; expected a number"),
    "text": (lambda x: "a" + x, "No implementation of function Function(<built-in function add>)"),
    "a name that is not there": (lambda x: x + missing, "name 'missing' is not defined"),  # noqa: F821
    "another library": (lambda x: pathlib.Path(x) + 1, "Unknown attribute 'Path' of type Module(<module 'pathlib'"),
    "a function that takes more": (lambda x: math.hypot(x) + 1, "No implementation of function"),
    "too many arguments": (lambda x: scaled(x, 1.0), "too many"),
    "a dictionary": (lambda x: dict(a=x), "Unsupported use of `dict()` with positional or keyword argument"),
}


@compiled_only
@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_compiled_is_a_short_error(name):
    function, words = WRONG[name]
    x = np.zeros((1, 1), np.float32)
    with pytest.raises(TypeError) as caught:
        activation_forward(activation_formulas(function, function)[0])(x, x, 0, 1)
    message = str(caught.value)
    assert words in message
    assert f"line {function.__code__.co_firstlineno} of {__file__}) " in message
    assert len(message) < 700 and "\n" not in message


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (raises, "raises an exception, which compiled code cannot pass on; expected a number on every path"),
        (asserts, "raises an exception"),
        (lambda x: asserts(x) + 1, "asserts (line "),
        (keyword_only, "has keyword-only arguments"),
    ],
)
def test_what_compiled_code_does_not_know_is_refused_at_once(function, words):
    with pytest.raises(TypeError) as caught:
        activation_formulas(function, function)
    assert words in str(caught.value)
