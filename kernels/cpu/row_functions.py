"""What kernels ask of one row of an array: sums in a fixed order, the largest number, the class that a target names."""

import functools

import numpy as np

from ..jit import formula
from ..memory import line


@functools.cache
def sum_in_lanes(term):
    """The formula that sums ``term(i, *given)`` for all i below a length in a fixed order: eight lanes, then across."""

    @formula
    def total(length, zero, given):
        a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
        whole = length // 8 * 8
        for i in range(0, whole, 8):
            a0 += term(i, *given)
            a1 += term(i + 1, *given)
            a2 += term(i + 2, *given)
            a3 += term(i + 3, *given)
            a4 += term(i + 4, *given)
            a5 += term(i + 5, *given)
            a6 += term(i + 6, *given)
            a7 += term(i + 7, *given)
        for i in range(whole, length):
            a0 += term(i, *given)
        return ((a0 + a4) + (a1 + a5)) + ((a2 + a6) + (a3 + a7))

    return total


sum_of_numbers = sum_in_lanes(formula(lambda column, x, row: x[row, column]))
sum_of_products = sum_in_lanes(formula(lambda column, a, b, row: a[row, column] * b[row, column]))


@formula
def row_sum(x, row, zero):
    """The sum of a row in numbers of the type of ``zero``."""
    return sum_of_numbers(x.shape[1], zero, (x, row))


@formula
def row_product(a, b, row, zero):
    """The sum of a * b over a row."""
    return sum_of_products(a.shape[1], zero, (a, b, row))


@formula
def row_means(means, x):
    """The mean of each row in float64; short rows side by side, for their sums do not wait for one another."""
    width = x.shape[1]
    numbers, inverse = line(x, 0, x.size), 1.0 / width
    if width >= 8:
        for row in range(means.shape[0]):
            means[row] = row_sum(x, row, 0.0)
    else:
        if width >= 4:
            for row in range(means.shape[0]):
                a, b = np.float64(numbers[row * width]), np.float64(numbers[row * width + 1])
                c, d = np.float64(numbers[row * width + 2]), np.float64(numbers[row * width + 3])
                means[row] = (a + b) + (c + d)
        else:
            for row in range(means.shape[0]):
                means[row] = numbers[row * width]
        for column in range(4 if width >= 4 else 1, width):
            for row in range(means.shape[0]):
                means[row] += numbers[row * width + column]
    for row in range(means.shape[0]):
        means[row] *= inverse


@formula
def larger(a, b):
    return a if a > b else b


@formula
def row_maximum(x, row):
    """The largest number of a row, four lanes at a time; NaNs may be passed over."""
    width = x.shape[1]
    a = b = c = d = x[row, 0]
    whole = width // 4 * 4
    for column in range(0, whole, 4):
        a = larger(a, x[row, column])
        b = larger(b, x[row, column + 1])
        c = larger(c, x[row, column + 2])
        d = larger(d, x[row, column + 3])
    for column in range(whole, width):
        a = larger(a, x[row, column])
    return larger(larger(a, b), larger(c, d))


@formula
def column_of_largest(x, row):
    """The column of the largest number of a row, the first of equals."""
    best, place = x[row, 0], 0
    for column in range(1, x.shape[1]):
        if x[row, column] > best:
            best, place = x[row, column], column
    return place


@formula
def is_label(y, target):
    """Whether the target is a class number and not a probability for each class."""
    return target.shape[1] == 1 and y.shape[1] > 1


@formula
def label_of(target, row, classes):
    """The class number of a row, or -1 where it is none."""
    label = target[row, 0]
    return int(label) if label >= 0 and label < classes else -1


@formula
def class_of(target, row, classes):
    """The class of a row: its label, or its largest column; -1 where the label is no class."""
    return column_of_largest(target, row) if target.shape[1] > 1 or classes == 1 else label_of(target, row, classes)
