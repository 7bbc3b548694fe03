"""What memory there is, with the limits of control groups read from trees of files like those of the kernel."""

import pytest

import thermokernels as tk
from thermokernels.common import memory

pytestmark = pytest.mark.small


def group(folder, version, limit, usage, cached=0):
    folder.mkdir(parents=True, exist_ok=True)
    names = memory.VERSION_2 if version == 2 else memory.VERSION_1
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\n")


def membership(tmp_path, text):
    path = tmp_path / "membership"
    path.write_text(text)
    return path


def test_the_tightest_limit_on_the_way_up_counts(tmp_path):
    group(tmp_path / "fs" / "batch", 2, 1000, 400, cached=100)  # 300 used, 700 left
    group(tmp_path / "fs" / "batch" / "job", 2, 5000, 100)
    assert memory.headroom(tmp_path / "fs", membership(tmp_path, "0::/batch/job\n")) == 700


def test_version_one_and_a_container_that_sees_only_its_own_group(tmp_path):
    group(tmp_path / "fs" / "memory", 1, 2000, 500)
    text = "9:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n"
    assert memory.headroom(tmp_path / "fs", membership(tmp_path, text)) == 1500


@pytest.mark.parametrize("folder", ["memory", "cpu,memory"])
def test_version_one_with_several_controllers_in_one_folder(folder, tmp_path):
    group(tmp_path / "fs" / folder / "job", 1, 2000, 500)
    assert memory.headroom(tmp_path / "fs", membership(tmp_path, "4:cpu,memory:/job\n")) == 1500


@pytest.mark.parametrize(("version", "limit"), [(2, "max"), (1, 9223372036854771712)])
def test_no_limit_is_none(tmp_path, version, limit):
    group(tmp_path / "fs" / ("memory" if version == 1 else ""), version, limit, 5)
    text = "0::/\n" if version == 2 else "4:memory:/\n"
    assert memory.headroom(tmp_path / "fs", membership(tmp_path, text)) is None


def test_no_control_groups_at_all(tmp_path):
    assert memory.headroom(tmp_path, tmp_path / "missing") is None
    assert memory.headroom(tmp_path / "missing", membership(tmp_path, "0::/a\nnonsense\n")) is None


def test_more_in_use_than_allowed_leaves_nothing(tmp_path):
    group(tmp_path / "fs", 2, 1000, 1200)
    assert memory.headroom(tmp_path / "fs", membership(tmp_path, "0::/\n")) == 0


def test_a_limit_binds_what_may_be_allocated(monkeypatch):
    monkeypatch.setattr(memory, "headroom", lambda: 12345)
    assert memory.available() == 12345
    monkeypatch.setattr(memory, "headroom", lambda: 2**60)
    assert memory.available() < 2**60


def test_memory_is_asked_for_before_it_is_taken(monkeypatch):
    memory.require(1, "nothing", "do it")
    monkeypatch.setattr(memory, "available", lambda: 2**30)
    memory.require(2**30, "a table", "use less")
    with pytest.raises(
        tk.ModelTooLargeError, match=r"^a table would take 1.5 GiB of memory and 1 GiB are available; use a smaller one$"
    ) as caught:
        memory.require(3 * 2**29, "a table", "use a smaller one")
    assert isinstance(caught.value, ValueError)
    for exponent in (1_100, 20_000):  # beyond the largest float, and beyond the longest integer that Python prints
        with pytest.raises(tk.ModelTooLargeError, match=r"would take \S+e[+]\d+ GiB of memory"):
            memory.require(2**exponent, "a table", "use a smaller one")


def test_memory_without_a_proc_file_system(monkeypatch):
    def no_such_file(*_, **__):
        raise FileNotFoundError

    assert memory.available() > 2**20
    monkeypatch.setattr(memory, "open", no_such_file, raising=False)
    assert memory.available() > 2**20
    monkeypatch.setattr(memory.os, "sysconf", lambda name: (_ for _ in ()).throw(ValueError(name)), raising=False)
    assert memory.available() == 8 * 2**30


@pytest.mark.parametrize(
    ("n_bytes", "words"), [(0, "1 MiB"), (2**20, "1 MiB"), (119 * 2**20, "119 MiB"), (3 * 2**29, "1.5 GiB"), (2**34 + 2**32, "20 GiB")]
)
def test_bytes_as_people_read_them(n_bytes, words):
    assert memory.readable(n_bytes) == words
