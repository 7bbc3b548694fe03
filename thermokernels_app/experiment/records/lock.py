"""The lock of a run's folder, so that two runs cannot mix in it. The system holds it: whatever ends its owner frees it."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType

LOCK = ".lock"

if sys.platform == "win32":
    import msvcrt

    def _try_to_lock(handle: int) -> None:
        os.lseek(handle, 1 << 30, os.SEEK_SET)  # a locked range cannot be read, and others have to read the owner
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
else:
    import fcntl

    def _try_to_lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FolderLock:
    """Exclusive use of an existing folder, from its making until :meth:`release` or the end of the process.

    Raises
    ------
    ValueError
        Another run has the folder; the sentence says which process on which machine.
    OSError
        The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        while True:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                _try_to_lock(self._handle)
            except (BlockingIOError, PermissionError):  # held, in the words of POSIX and of Windows
                owner = os.read(self._handle, 200).decode(errors="replace").strip() or "another process"
                os.close(self._handle)
                raise ValueError(f"{owner}, is writing to the folder {folder}; wait for its end or name another folder") from None
            except OSError:
                os.close(self._handle)
                raise
            if self._is_the_file_there():
                break
            os.close(self._handle)  # the owner before us removed the file after we had opened it
        os.ftruncate(self._handle, 0)
        with suppress(OSError):  # a full disk: the lock holds without its owner's name
            os.write(self._handle, f"process {os.getpid()} on {platform.node()}, since {datetime.now():%Y-%m-%d %H:%M:%S}".encode())

    def _is_the_file_there(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._handle))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give the folder free and leave no file behind."""
        if os.name == "posix":
            self.path.unlink(missing_ok=True)  # before the lock is given up: nobody can have taken it over
            os.close(self._handle)
        else:
            os.close(self._handle)
            with suppress(OSError):  # an open file cannot be removed there, and another run may have opened it
                self.path.unlink(missing_ok=True)

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
