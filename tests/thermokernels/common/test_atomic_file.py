"""Files that are replaced as a whole."""

import os
import stat

import pytest

from thermokernels.common import atomic_file
from thermokernels.common.atomic_file import replacing

pytestmark = pytest.mark.small


def test_the_new_content_comes_at_the_end(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_nothing_changes_where_the_block_raises(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half(file):
        file.write(b"new")
        raise error

    with pytest.raises(error), replacing(path) as file:
        write_half(file)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, monkeypatch, step):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_file.os, step, full)
    with pytest.raises(OSError, match=r"No space left on device: '.*results.json'"), replacing(tmp_path / "results.json") as file:
        file.write(b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        with replacing(tmp_path / "file") as file:
            file.write(b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_the_folder_is_synced(tmp_path, monkeypatch):
    """Or a loss of power takes the name that the disk has the content of."""
    synced, sync = [], os.fsync
    monkeypatch.setattr(atomic_file.os, "fsync", lambda handle: synced.append(stat.S_ISDIR(os.fstat(handle).st_mode)) or sync(handle))
    with replacing(tmp_path / "file") as file:
        file.write(b"new")
    assert synced == [False, True]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), replacing(tmp_path / "nowhere" / "file"):
        pass
