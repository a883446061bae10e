"""How many cores a process may use: what the system allows, and what a container's quota leaves of it."""

import os

import pytest

from fastnn.kernels import cores as module


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A function that writes what Linux says of control groups: the groups of this process, and their settings."""
    monkeypatch.setattr(module, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(module, "_SETTINGS", tmp_path / "settings")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    module._quota.cache_clear()

    def write(groups, settings):
        (tmp_path / "cgroup").write_text(groups)
        for place, text in settings.items():
            path = tmp_path / "settings" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    yield write
    module._quota.cache_clear()


@pytest.mark.parametrize(
    ("groups", "settings", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 64),
        ("0::/\n", {}, 64),
        ("0::/\n", {"cpu.max": "nonsense"}, 64),
        ("0::/\n", {"cpu.max": "100000 0\n"}, 64),
        ("0::/pod/task\n", {"pod/task/cpu.max": "max 100000\n", "pod/cpu.max": "300000 100000\n"}, 3),
        ("0::/a:b\n", {"a:b/cpu.max": "500000 100000\n", "cpu.max": "700000 100000\n"}, 5),
        (
            "4:memory:/\n2:cpu,cpuacct:/docker/f00\n",  # which has another name inside the container
            {"cpu,cpuacct/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ("3:cpuset:/\n", {"cpuset/cpu.max": "100000 100000\n"}, 64),
        ("nonsense", {}, 64),
    ],
)
def test_a_quota_limits_the_cores(system, groups, settings, cores):
    system(groups, settings)
    assert module.cores() == cores


def test_no_control_groups(system, monkeypatch):
    """As on macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert module.cores() == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert module.cores() == 1


def test_cores_of_this_machine():
    assert 1 <= module.cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("text", ["0", "two", "-1", "1.5", "1025", "²", "9" * 5000])
def test_a_wrong_number_in_the_environment(monkeypatch, text):
    monkeypatch.setenv("FASTNN_THREADS", text)
    with pytest.raises(ValueError, match=r"FASTNN_THREADS is .*; expected a whole number from 1 to 1024") as caught:
        module.number_in_environment("FASTNN_THREADS")
    assert len(str(caught.value)) < 200


def test_a_number_in_the_environment(monkeypatch):
    for text, number in (("", None), ("1", 1), ("1024", 1024)):
        monkeypatch.setenv("FASTNN_THREADS", text)
        assert module.number_in_environment("FASTNN_THREADS") == number
    monkeypatch.delenv("FASTNN_THREADS")
    assert module.number_in_environment("FASTNN_THREADS") is None
