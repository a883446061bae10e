"""Matrix multiplication on the GPU beyond the dense layers of ``test_dense.py``."""

from types import SimpleNamespace

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


def test_a_batch_may_have_more_rows_than_a_grid_has_blocks_down(monkeypatch):
    """A grid has 2**31 - 1 blocks in its first direction, 65,535 in the others."""
    launched, rows = [], 65_536 * gemm.TILES[0].high
    monkeypatch.setattr(gemm, "launch", lambda kernel, blocks, *further: launched.append(blocks))
    x, W = SimpleNamespace(shape=(rows, 3)), SimpleNamespace(shape=(3, 5), dtype=np.float32)
    gemm.multiply_simply(None, x, W, False, False, gemm.plain, (None,) * 4, False, False, None)
    assert launched == [(65_536, 1 if gemm.TILES[0].wide >= 5 else 2, 1)]
