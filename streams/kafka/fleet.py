"""Several stages from one command: a process each, ended together."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType

_POLL_S = 0.1
_GRACE_S = 5.0
_START = "import sys; from streams.cli import main; main(sys.argv[1:])"


class Fleet:
    """The processes of several stages; when one ends, all do.

    Nothing is started again: whoever started this process does that, and everything goes on where it was.

    Parameters
    ----------
    commands
        The arguments of ``plumbline`` for each stage. Every process is given a pipe as its standard input,
        whose end means that this one is gone.
    drain_s
        How long they have to end once they were told to, in seconds.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]], *, drain_s: float) -> None:
        self._commands, self._drain_s = commands, drain_s
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._told, self._told_s = False, 0.0

    def run(self) -> tuple[str, int]:
        """Run until a signal, or until one ends; return the stage that ended by itself and its exit code.

        After a signal and an orderly end of all, the stage is empty and the code 0.
        """
        before = {number: signal.signal(number, self._tell) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for stage, arguments in self._commands.items():
                self._processes[stage] = subprocess.Popen(  # noqa: S603 - this program, with its own arguments
                    [sys.executable, "-c", _START, *arguments], stdin=subprocess.PIPE
                )
            return self._wait()
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _wait(self) -> tuple[str, int]:
        while True:
            for stage, process in self._processes.items():
                if (code := process.poll()) is not None and not (self._told and code == 0):
                    return stage, code
            left = [stage for stage, process in self._processes.items() if process.poll() is None]
            if self._told and not left:
                return "", 0
            if self._told and time.monotonic() > self._told_s + self._drain_s + _GRACE_S:
                return left[0], 1  # it hangs; all are killed now
            time.sleep(_POLL_S)

    def _tell(self, _number: int, _frame: FrameType | None) -> None:
        if not self._told:
            self._told, self._told_s = True, time.monotonic()
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()

    def _end(self) -> None:
        self._tell(0, None)
        until_s = self._told_s + self._drain_s + _GRACE_S
        for process in self._processes.values():
            try:
                process.wait(max(0.1, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
