"""Memory limits of control groups, read from trees of files like those of the kernel."""

import pytest

from thermokernels.common import arguments, control_groups

pytestmark = pytest.mark.small


def group(folder, version, limit, usage, cached=0):
    folder.mkdir(parents=True, exist_ok=True)
    names = control_groups.VERSION_2 if version == 2 else control_groups.VERSION_1
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
    assert control_groups.headroom(tmp_path / "fs", membership(tmp_path, "0::/batch/job\n")) == 700


def test_version_one_and_a_container_that_sees_only_its_own_group(tmp_path):
    group(tmp_path / "fs" / "memory", 1, 2000, 500)
    text = "9:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n"
    assert control_groups.headroom(tmp_path / "fs", membership(tmp_path, text)) == 1500


@pytest.mark.parametrize(("version", "limit"), [(2, "max"), (1, 9223372036854771712)])
def test_no_limit_is_none(tmp_path, version, limit):
    group(tmp_path / "fs" / ("memory" if version == 1 else ""), version, limit, 5)
    text = "0::/\n" if version == 2 else "4:memory:/\n"
    assert control_groups.headroom(tmp_path / "fs", membership(tmp_path, text)) is None


def test_no_control_groups_at_all(tmp_path):
    assert control_groups.headroom(tmp_path, tmp_path / "missing") is None
    assert control_groups.headroom(tmp_path / "missing", membership(tmp_path, "0::/a\nnonsense\n")) is None


def test_more_in_use_than_allowed_leaves_nothing(tmp_path):
    group(tmp_path / "fs", 2, 1000, 1200)
    assert control_groups.headroom(tmp_path / "fs", membership(tmp_path, "0::/\n")) == 0


def test_a_limit_binds_what_may_be_allocated(monkeypatch):
    monkeypatch.setattr(control_groups, "headroom", lambda: 12345)
    assert arguments.available_memory() == 12345
    monkeypatch.setattr(control_groups, "headroom", lambda: 2**60)
    assert arguments.available_memory() < 2**60
