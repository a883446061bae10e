"""Which device runs a plan."""

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
    with pytest.raises(RuntimeError, match="the environment variable FASTNN_DEVICE"):
        dispatch.choose_device("Auto")
    cpu_model().compile("sgd", "mse", device="cpu")


@pytest.mark.parametrize("name", ["CPU", "Auto", "CUDA", "Cuda:0", "cuda:0"])
def test_a_device_in_any_case_has_one_name(name, monkeypatch):
    monkeypatch.delenv("FASTNN_DEVICE", raising=False)
    monkeypatch.setattr(dispatch, "missing_for_gpu", lambda index=0: None)
    assert dispatch.choose_device(name) == name.lower().replace("auto", "cpu")


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
    monkeypatch.setattr(dispatch, "_fault_of_the_driver", lambda: "CUDA_ERROR_SYSTEM_NOT_READY (802)")
    with pytest.raises(RuntimeError, match=r"no GPU was found \(CUDA_ERROR_SYSTEM_NOT_READY"):
        dispatch.choose_device("cuda")


def test_cuda_without_its_compiler_says_so(monkeypatch):
    """Numba calls that unavailable as well, but the driver has no fault."""
    fake_cuda(monkeypatch, lambda: False)
    monkeypatch.setattr(dispatch, "_fault_of_the_driver", lambda: "")
    with pytest.raises(RuntimeError, match=r"NVVM, .*, was not found .*fastnn\[cuda12\].*fastnn\[cuda13\]"):
        dispatch.choose_device("cuda")


def test_the_simulator_runs_where_it_is_asked_for_and_says_so_once(monkeypatch):
    fake_cuda(monkeypatch, lambda: True)
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    monkeypatch.setattr(dispatch, "_warned", False)
    with pytest.warns(UserWarning, match="simulator") as told:
        assert dispatch.choose_device("cuda") == "cuda"
        assert dispatch.choose_device("cuda:0") == "cuda:0"
    assert len(told) == 1
    with pytest.raises(RuntimeError, match='device is "cuda:1", but the simulator has GPU 0 alone'):
        dispatch.choose_device("cuda:1")


def large_plan(*layers):
    return fn.Model([fn.Input(2000), *(layers or [fn.Dense(2000)])], seed=0).plan


def fake_gpus(monkeypatch, count, driver=(13, 0), toolkit=(13, 0)):
    fake_cuda(monkeypatch, lambda: True)
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    monkeypatch.delenv("FASTNN_DEVICE", raising=False)
    sys.modules["numba.cuda"].gpus = range(count)
    monkeypatch.setattr(dispatch, "_versions", lambda cuda: (driver, toolkit))


def test_auto_takes_a_gpu_for_large_work_alone_and_never_the_simulator(monkeypatch):
    fake_gpus(monkeypatch, 1)
    assert large_plan().step_flops(dispatch.AUTO_ROWS) > dispatch.AUTO_FLOPS > cpu_model().plan.step_flops(32)
    assert dispatch.choose_device("auto", large_plan()) == "cuda"
    assert dispatch.choose_device("auto", cpu_model().plan) == "cpu"
    assert dispatch.choose_device("auto") == "cpu"
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    assert dispatch.choose_device("auto", large_plan()) == "cpu"


def test_auto_without_a_gpu_is_the_cpu(monkeypatch):
    fake_cuda(monkeypatch, lambda: False)
    monkeypatch.setattr(dispatch, "_fault_of_the_driver", lambda: "there is none")
    monkeypatch.delenv("FASTNN_DEVICE", raising=False)
    assert dispatch.choose_device("auto", large_plan()) == "cpu"


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cuda:-1", "gpu", "cuda1", 0, None.__class__])
def test_a_wrong_device(device):
    with pytest.raises(ValueError, match=r"device is .*expected one of 'auto', 'cpu', 'cuda'"):
        dispatch.choose_device(device)


def test_a_gpu_that_does_not_exist(monkeypatch):
    fake_gpus(monkeypatch, 2)
    assert dispatch.choose_device("cuda:1") == "cuda:1"
    with pytest.raises(RuntimeError, match='"cuda:2", but there is no GPU 2: the driver sees 2, numbered from 0'):
        dispatch.choose_device("cuda:2")


def test_a_driver_that_is_too_old(monkeypatch):
    fake_gpus(monkeypatch, 1, driver=(12, 8))
    with pytest.raises(RuntimeError, match=r"knows CUDA 12.8, which is too old .* 13.0 .*fastnn\[cuda12\]"):
        dispatch.choose_device("cuda")
    fake_gpus(monkeypatch, 1, driver=(11, 4))
    with pytest.raises(RuntimeError, match=r"knows CUDA 11.4, which is too old .* \(update the driver\); expected"):
        dispatch.choose_device("cuda")


@pytest.mark.parametrize(
    ("precision", "device", "dtype", "message"),
    [
        (
            "tf32",
            "cpu",
            "float32",
            r"precision is 'tf32', but the model runs on the CPU, and no matrix unit \(AMX\) is",
        ),
        (
            "3xtf32",
            "cpu",
            "float32",
            "precision is '3xtf32', but the model runs on the CPU, which has no such products",
        ),
        (
            "bf16",
            "cuda",
            "float64",
            "precision is 'bf16', but the model's dtype is float64; expected \"float32\", which leaves it",
        ),
    ],
)
def test_a_precision_that_cannot_be(monkeypatch, precision, device, dtype, message):
    monkeypatch.setattr("fastnn.kernels.cpu.amx.WANTED", "1")
    monkeypatch.setattr("fastnn.kernels.cpu.amx.available", lambda: False)
    plan = fn.Model([fn.Input(2), fn.Dense(1)], seed=0, dtype=dtype).plan
    with pytest.raises(ValueError, match=message):
        dispatch.check_plan(device, plan, precision)


def test_a_unit_that_is_switched_off_is_called_so(monkeypatch):
    monkeypatch.setattr("fastnn.kernels.cpu.amx.available", lambda: False)
    monkeypatch.setattr("fastnn.kernels.cpu.amx.WANTED", "0")
    with pytest.raises(
        ValueError, match="precision is 'bf16', but the model runs on the CPU, and FASTNN_AMX is 0; exp"
    ):
        dispatch.check_plan("cpu", cpu_model().plan, "bf16")


def test_bfloat16_is_called_bf16():
    with pytest.raises(ValueError, match=r"precision is 'bfloat16'; .* did you mean 'bf16'"):
        cpu_model().compile("sgd", "mse", precision="bfloat16")


def test_tensor_cores_need_a_real_gpu_of_some_age(monkeypatch):
    plan = cpu_model().plan
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    with pytest.raises(ValueError, match="precision is 'tf32', but the simulator has no tensor cores"):
        dispatch.check_plan("cuda", plan, "tf32")
    fake_gpus(monkeypatch, 2)
    sys.modules["numba.cuda"].gpus = [types.SimpleNamespace(compute_capability=pair) for pair in ((8, 0), (7, 5))]
    dispatch.check_plan("cuda", plan, "bf16")
    with pytest.raises(ValueError, match=r"compute capability is 7.5, and its tensor cores begin with 8.0"):
        dispatch.check_plan("cuda:1", plan, "bf16")


def test_compile_with_a_precision_that_cannot_be_changes_nothing(monkeypatch):
    monkeypatch.setattr("fastnn.kernels.cpu.amx.available", lambda: False)
    model = cpu_model()
    with pytest.raises(ValueError, match="precision is 'tf32', but the model runs on the CPU"):
        model.compile("sgd", "mse", device="cpu", precision="tf32")
    with pytest.raises(ValueError, match="precision is 'half'; expected one of 'float32', '3xtf32', 'tf32', 'bf16'"):
        model.compile("sgd", "mse", device="cpu", precision="half")
    assert model.loss is None
    model.compile("sgd", "mse", device="cpu", precision="Float32")
    assert model.plan.precision == "float32"


@pytest.mark.parametrize(("precision", "there"), [("bf16", "bf16"), ("3xtf32", "float32")])
def test_a_model_that_moves_to_a_cpu_keeps_its_precision_where_that_can_be(monkeypatch, precision, there):
    monkeypatch.setattr("fastnn.kernels.cpu.amx.available", lambda: True)
    model = cpu_model()
    model.compile("sgd", "mse", device="cpu")
    model._precision = precision  # as on a GPU
    assert model.to("cpu")._on_device(model._training_plan(1)).precision == there
    monkeypatch.setattr("fastnn.kernels.cpu.amx.available", lambda: False)
    assert model.to("cpu")._on_device(model._training_plan(1)).precision == "float32"


def test_a_layer_in_python_runs_on_the_cpu_alone(monkeypatch):
    class Twice(fn.Layer):
        kind = "twice"

        def forward(self, x, training=False):
            return 2 * x

    model = fn.Model([fn.Input(1), Twice(name="twice"), fn.Dense(1)])
    refused = "layer 'twice' is written in Python and runs on the CPU; expected \"cpu\""
    with pytest.raises(TypeError, match=refused):
        dispatch.check_plan("cuda", model.plan, "float32")
    monkeypatch.setenv("FASTNN_DEVICE", "cuda")
    monkeypatch.setattr(dispatch, "missing_for_gpu", lambda index=0: None)
    with pytest.raises(TypeError, match=refused):
        model.predict([[1.0]])


def test_a_package_that_cannot_start_is_told(monkeypatch):
    def fail():
        raise RuntimeError("libcudart is missing")

    fake_cuda(monkeypatch, fail)
    with pytest.raises(RuntimeError, match="the library libcudart is missing, of the package nvidia-cuda-runtime"):
        dispatch.choose_device("cuda")


def test_another_fault_of_the_package_is_told(monkeypatch):
    def fail():
        raise RuntimeError("out of luck")

    fake_cuda(monkeypatch, fail)
    with pytest.raises(RuntimeError, match="numba-cuda cannot start: out of luck"):
        dispatch.choose_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "GPU:0", "/gpu:1", "gpus"])
def test_a_gpu_by_keras_s_name_is_no_cpu(name):
    with pytest.raises(ValueError, match=r"expected one of 'auto', 'cpu', 'cuda'; did you mean 'cuda'\?"):
        dispatch.choose_device(name)
