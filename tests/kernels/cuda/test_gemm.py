"""Matrix multiplication on the GPU beyond the dense layers of ``test_dense.py``."""

import numpy as np
import pytest

from tests.kernels.cuda import running

running.require()

from fastnn.kernels.cuda import dense, gemm  # noqa: E402
from fastnn.kernels.cuda.launch import Stream  # noqa: E402


@pytest.mark.parametrize(("rows", "columns"), running.sizes([(1, 1), (23, 7)], [(1, 1), (23, 7), (4099, 257)]))
def test_sums_of_columns_alone(rows, columns):
    """The gradient of a bias, where that of the weights is formed by tensor cores: nothing else is written."""
    dy = np.random.default_rng(0).integers(-4, 5, (rows, columns)).astype(np.float32)
    x, dW, db = running.put(dy), running.unwritten((5, columns), np.float32), running.unwritten(columns, np.float32)
    end = gemm.below(dense._gradients)
    gemm.multiply_simply(dW, x[:, :0], running.put(dy), True, False, end, (db, dW, dW, dW), True, True, Stream())
    np.testing.assert_array_equal(db.copy_to_host(), dy.sum(axis=0))
    assert np.isnan(dW.copy_to_host()).all()
