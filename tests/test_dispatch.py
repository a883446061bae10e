"""Which device runs a plan, and with how many workers."""

import importlib.util
import sys
import types

import pytest

import fastnn as fn
from fastnn import dispatch


def cpu_model():
    return fn.Model([fn.Input(2), fn.Dense(1)], seed=0)


def test_auto_and_cpu_run_on_the_cpu(monkeypatch):
    monkeypatch.delenv("FASTNN_DEVICE", raising=False)
    assert cpu_model().device == "cpu"
    for device in ("auto", "cpu"):
        model = cpu_model()
        model.compile("sgd", "mse", device=device)
        assert model.device == "cpu"


def test_the_environment_chooses_where_the_model_does_not(monkeypatch):
    monkeypatch.setenv("FASTNN_DEVICE", "cuda")
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match='the environment variable FASTNN_DEVICE is "cuda", but the package'):
        cpu_model().compile("sgd", "mse")
    cpu_model().compile("sgd", "mse", device="cpu")


def test_cuda_without_the_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(dispatch, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"numba-cuda is not installed.*fastnn\[cuda12\].*fastnn\[cuda13\]"):
        dispatch.choose_device("cuda")


def fake_cuda(monkeypatch, available):
    module = types.ModuleType("numba.cuda")
    module.is_available = available
    monkeypatch.setattr(dispatch, "find_spec", lambda name: importlib.util.find_spec("numba"))
    monkeypatch.setitem(sys.modules, "numba.cuda", module)
    monkeypatch.setattr("numba.cuda", module, raising=False)


def test_cuda_without_a_driver_says_so(monkeypatch):
    fake_cuda(monkeypatch, lambda: False)
    with pytest.raises(RuntimeError, match="no NVIDIA driver or no GPU was found"):
        dispatch.choose_device("cuda")


def test_the_simulator_is_no_gpu(monkeypatch):
    fake_cuda(monkeypatch, lambda: True)
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    with pytest.raises(RuntimeError, match="only a simulator"):
        dispatch.choose_device("cuda")


def test_a_package_that_cannot_start_is_told(monkeypatch):
    def fail():
        raise RuntimeError("libcudart is missing")

    fake_cuda(monkeypatch, fail)
    with pytest.raises(RuntimeError, match="numba-cuda cannot start: libcudart is missing"):
        dispatch.choose_device("cuda")


def test_workers_by_the_work(monkeypatch):
    monkeypatch.delenv("FASTNN_THREADS", raising=False)
    monkeypatch.setattr(dispatch, "cores", lambda: 4)
    small, large = 1000, 10**9
    assert [dispatch.choose_workers(None, work) for work in (small, 3 * dispatch.FLOPS_PER_WORKER, large)] == [1, 3, 4]
    assert dispatch.choose_workers(7, small) == 7  # the user's choice is taken as it is
    monkeypatch.setenv("FASTNN_THREADS", "2")
    assert dispatch.choose_workers(None, small) == dispatch.choose_workers(None, large) == 2
    assert dispatch.choose_workers(3, large) == 3


@pytest.mark.parametrize("text", ["0", "two", "-1", "1.5", "9999"])
def test_a_wrong_number_of_threads_in_the_environment(monkeypatch, text):
    monkeypatch.setenv("FASTNN_THREADS", text)
    with pytest.raises(ValueError, match="FASTNN_THREADS"):
        dispatch.choose_workers(None, 1)


def test_cores_are_those_that_the_process_may_use():
    assert dispatch.cores() >= 1
