"""Who takes which columns or inputs of a layer, and when."""

from itertools import pairwise

import pytest

from fastnn.kernels.cpu.shares import GROUP, by_columns, by_inputs, by_units, share_of_columns


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 500, 1024])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 40])
def test_shares_follow_one_another_in_whole_groups(columns, size):
    shares = [share_of_columns(columns, rank, size) for rank in range(size)]
    assert shares[0][0] == 0 and shares[-1][1] == columns
    assert all(last == first for (_, last), (first, _) in pairwise(shares))
    assert all(first <= last and first % GROUP == 0 for first, last in shares if first < columns)


@pytest.mark.parametrize(
    ("inputs", "units", "rows", "workers", "expected"),
    [
        (1024, 1024, 256, 2, True),
        (1024, 1024, 32, 2, True),
        (1024, 1024, 1024, 2, False),
        (1024, 1024, 32, 1, False),
        (512, 512, 64, 2, True),
        (784, 256, 128, 2, False),
        (1024, 10, 256, 2, False),
        (64, 64, 32, 16, False),
        (512, 512, 128, 2, False),
        (512, 512, 128, 4, True),
        (15000, 80, 64, 2, False),  # one worker would have 64 columns
        (50000, 100, 32, 16, False),  # 14 workers would have none
    ],
)
def test_wide_layers_and_small_batches_go_by_columns(inputs, units, rows, workers, expected):
    assert by_columns(inputs, units, rows, workers) == expected


@pytest.mark.parametrize(
    ("inputs", "units", "rows", "workers", "block", "expected"),
    [
        (784, 256, 128, 2, 392, True),
        (784, 256, 196, 2, 392, False),  # too many rows, whose sums would be exchanged
        (784, 256, 128, 3, 392, False),  # one worker would have no inputs
        (784, 256, 64, 4, 196, True),
        (600, 256, 32, 2, 200, False),  # one worker would have 400 of 600 inputs
        (64, 64, 8, 2, 32, False),  # too small
        (600, 64, 32, 2, 300, True),
        (8192, 1, 32, 2, 256, False),  # a single unit is summed in another way
        (3072, 64, 64, 2, 384, True),
        (3072, 512, 256, 2, 384, False),  # seven sums to be added up
    ],
)
def test_a_large_first_layer_goes_by_inputs(inputs, units, rows, workers, block, expected):
    assert by_inputs(inputs, units, rows, workers, block) == expected


@pytest.mark.parametrize(
    ("inputs", "rows", "workers", "expected"),
    [(64, 32, 2, True), (256, 256, 2, True), (400, 256, 2, False), (64, 32, 1, False), (64, 32, 3, False)],
)
def test_two_workers_share_units_unless_a_batch_has_many_inputs(inputs, rows, workers, expected):
    assert by_units(inputs, rows, workers) == expected
