"""A small disk that can be full, where this user may mount one."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self


class SmallDisk:
    """A file system in memory at `path` between ``with`` and its end; else a plain folder, never full.

    Attributes
    ----------
    mounted
        Whether it is a disk of its own: only then can it be filled.
    """

    def __init__(self, path: Path, *, megabytes: int) -> None:
        self.path, self._megabytes, self.mounted = path, megabytes, False

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        options = f"size={self._megabytes}m"
        command = ["mount", "-t", "tmpfs", "-o", options, "plumbline-chaos", str(self.path)]
        with contextlib.suppress(FileNotFoundError):
            self.mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.path)], capture_output=True, check=False)
            self.mounted = False

    def fill(self) -> None:
        """Take all the room; others may write and delete meanwhile."""
        if not self.mounted:
            return
        with (self.path / "ballast").open("wb") as ballast:
            size, chunk = 0, shutil.disk_usage(self.path).free
            while chunk >= 4_096:
                try:
                    os.posix_fallocate(ballast.fileno(), size, chunk)
                    size += chunk
                except OSError:
                    chunk //= 2

    def free(self) -> None:
        """Give the room back."""
        (self.path / "ballast").unlink(missing_ok=True)
