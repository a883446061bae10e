"""Which device runs a plan, and with how many workers."""

import importlib.util
import itertools
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
        ("tf32", "cpu", "float32", "precision is 'tf32', but the model runs on the CPU"),
        ("bf16", "cuda", "float64", "precision is 'bf16', but the model's dtype is float64"),
        ("half", "cpu", "float32", "precision is 'half'; expected one of 'float32', '3xtf32', 'tf32', 'bf16'"),
    ],
)
def test_a_precision_that_cannot_be(precision, device, dtype, message):
    plan = fn.Model([fn.Input(2), fn.Dense(1)], seed=0, dtype=dtype).plan
    with pytest.raises(ValueError, match=message):
        dispatch.check_plan(device, plan, precision)


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


def test_compile_with_a_precision_that_cannot_be_changes_nothing():
    model = cpu_model()
    with pytest.raises(ValueError, match="precision is 'tf32', but the model runs on the CPU"):
        model.compile("sgd", "mse", device="cpu", precision="tf32")
    assert model.loss is None


def test_a_layer_in_python_runs_on_the_cpu_alone(monkeypatch):
    class Twice(fn.Layer):
        kind = "twice"

    layer = Twice(name="twice")
    plan = types.SimpleNamespace(operations=[types.SimpleNamespace(own=layer)], dtype="float32")
    refused = "layer 'twice' is written in Python and runs on the CPU; expected \"cpu\""
    with pytest.raises(TypeError, match=refused):
        dispatch.check_plan("cuda", plan, "float32")
    monkeypatch.setenv("FASTNN_DEVICE", "cuda")
    monkeypatch.setattr(dispatch, "missing_for_gpu", lambda index=0: None)
    with pytest.raises(TypeError, match=refused):
        fn.Model([fn.Input(1), layer, fn.Dense(1)]).predict([[1.0]])


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


def told(choice, speeds, slices):
    """The numbers of workers that slices get where a step takes ``speeds(workers, slice)`` seconds."""
    found = []
    for number in range(slices):
        workers, part = choice.next()
        found.append(workers)
        seconds = speeds(workers, number)
        choice.tell(seconds, max(1, int(0.1 * part / seconds)))
    return found


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(dispatch, "cores", lambda: 4)
    monkeypatch.delenv("FASTNN_THREADS", raising=False)


def test_small_steps_get_more_workers_where_these_help(four_cores):
    choice = dispatch.WorkerChoice(None, 1_500_000)
    assert (choice.workers, choice.most) == (1, 4)
    found = told(choice, lambda workers, number: 1e-5 / workers, 40)
    assert found[:2] == [1, 1] and 2 in found[:4] and found.count(4) > 20
    assert choice.seconds == pytest.approx(1e-5 / 4)


def test_a_busy_neighbor_is_noticed_and_so_is_its_leaving(four_cores):
    choice = dispatch.WorkerChoice(None, 1_500_000)

    def speeds(workers, number):
        busy = 100 <= number < 200
        return 1e-5 / workers * (20 if busy and workers > 1 else 1)

    found = told(choice, speeds, 400)
    assert found[80:100].count(4) > 15
    assert found[115:200].count(1) > 60, "with a neighbor, one worker"
    assert found[300:].count(4) > 70, "without it, four again"


def test_a_slow_moment_changes_nothing(four_cores):
    """A slice was slow, so two workers are tried, and look faster; but meanwhile four are as fast again."""
    choice = dispatch.WorkerChoice(None, 100_000_000)
    found = told(choice, lambda workers, number: 1e-4 / workers * (6 if number == 50 else 1), 100)
    assert found[40:60] == [4] * 11 + [2] * 2 + [4] * 7


def test_tries_become_rare_where_they_bring_nothing(four_cores):
    found = told(dispatch.WorkerChoice(None, 1_500_000), lambda workers, number: 1e-5 * workers, 1000)
    assert 5 < sum(workers != 1 for workers in found) < 60, "a try is two short slices"


def test_what_a_slice_after_a_change_takes_says_nothing(four_cores):
    """Nor what the first slice of a fit takes, nor a very short one."""
    choice = dispatch.WorkerChoice(None, 1_500_000)
    before = None
    for number in range(60):
        workers, part = choice.next()
        if number == 30:
            choice.begin()
            before = None
        steps = 4 if number % 7 == 3 else int(1e4 * part * workers)
        extra = 2e-3 if steps == 4 or workers != before else 0.0  # to start, and to fill the caches
        choice.tell(1e-5 / workers + extra / steps, steps)
        before = workers
    assert choice.workers == 4
    assert choice.seconds == pytest.approx(1e-5 / 4, rel=0.1)


def test_a_short_slice_is_all_that_a_try_costs(four_cores):
    choice = dispatch.WorkerChoice(None, 1_500_000)
    parts = []
    for _ in range(300):
        workers, part = choice.next()
        parts.append((workers, part))
        choice.tell(1e-5 * workers, 500)
    assert {part for workers, part in parts if workers > 1} == {dispatch.TRY_SHARE}


@pytest.mark.parametrize(("threads", "flops", "workers"), [(3, 10, 3), (1, 10**9, 1), (None, 10_000, 1)])
def test_what_the_user_says_and_what_is_tiny_is_not_tried(four_cores, threads, flops, workers):
    choice = dispatch.WorkerChoice(threads, flops)
    assert set(told(choice, lambda workers, number: 1e-5 / workers, 50)) == {workers}


def test_the_environment_counts_as_the_user(four_cores, monkeypatch):
    monkeypatch.setenv("FASTNN_THREADS", "2")
    assert set(told(dispatch.WorkerChoice(None, 1_500_000), lambda workers, number: 1e-5, 50)) == {2}


def test_the_bits_do_not_depend_on_what_was_tried(monkeypatch):
    X, y = fn.datasets.digits()
    found = []
    for wild in (False, True):
        model = fn.Model([fn.Input(64), fn.Dense(32, "relu"), fn.Dense(10, "softmax")], seed=0)
        model.compile("adam", "cross_entropy")
        if wild:
            numbers = itertools.cycle((1, 2, 3))
            monkeypatch.setattr(dispatch.WorkerChoice, "next", lambda self, numbers=numbers: (next(numbers), 0.01))
        model.fit(X, y, epochs=5)
        found.append(model.arenas.parameters.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["gpu", "GPU:0", "/gpu:1", "gpus"])
def test_a_gpu_by_keras_s_name_is_no_cpu(name):
    with pytest.raises(ValueError, match=r"expected one of 'auto', 'cpu', 'cuda'; did you mean 'cuda'\?"):
        dispatch.choose_device(name)
