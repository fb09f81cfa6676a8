"""A single-node KRaft broker as a child process: started, stopped, killed, and started again as it was."""

import base64
import contextlib
import random
import re
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from types import TracebackType

from msgspec import Struct

from deploy.kafka.certificates import make_certificates
from deploy.kafka.jars import LocalBrokerError, resolve_jars, run_tool

_HOST = "127.0.0.1"
_READY = "Kafka Server started"
_POLL_S = 0.1
_PORT_ATTEMPTS = 3
_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Access(Struct, frozen=True, kw_only=True):
    """Who may come in: names with their passwords (letters, digits, ``_`` and ``-``), one of whom may all.

    The others may nothing until the superuser allows it. The client certificate of the broker's own
    authority is the superuser's, too.
    """

    users: Mapping[str, str]
    superuser: str

    def __post_init__(self) -> None:
        """Refuse what Kafka's configuration could read as something else."""
        if self.superuser not in self.users:
            raise ValueError("the superuser must be one of the users")
        if not all(_NAME.fullmatch(text) for pair in self.users.items() for text in pair):
            raise ValueError("names and passwords hold 1 to 64 letters, digits, _ or -")

    def __repr__(self) -> str:
        """Return the names, not the passwords."""
        return f"Access(users={sorted(self.users)}, superuser={self.superuser!r})"


class LocalBroker:
    """A broker on loopback, with its data in `directory`.

    Parameters
    ----------
    directory
        Holds the data, the log and, with `access`, certificates and passwords (mode 0700). A directory that a
        broker has run in is taken up again.
    port
        Where clients connect; 0: any free one.
    access
        Who may come in; without it everybody on loopback may, in plain text.
    properties
        Further broker settings; they win over the template's.
    heap_mb
        The Java heap, in MiB.
    jars
        The folder of jars; by default :func:`resolve_jars` finds or makes it at the first start.
    lasting
        Whether it is to run for long. Otherwise its code is compiled quickly, and runs slower in the end: to
        compile it well takes a third of a core for the first minutes.

    Notes
    -----
    It runs in this process's group, so that Ctrl-C reaches it as well. After :meth:`kill` or :meth:`stop`,
    :meth:`start` brings it back on the same ports with the same data.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        access: Access | None = None,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 512,
        jars: Path | None = None,
        lasting: bool = False,
    ) -> None:
        self._compilers = [] if lasting else ["-XX:TieredStopAtLevel=1"]
        self._directory, self._access, self._heap_mb = directory.absolute(), access, heap_mb
        self._fixed_port, self._jars = port, jars
        self._properties = dict(properties or {})
        self._ports: tuple[int, int, int] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients connect, as ``host:port``: in plain text or, with access rules, by SASL over TLS."""
        return f"{_HOST}:{self._known_ports()[0]}"

    @property
    def certificate_bootstrap(self) -> str:
        """Where clients connect with a certificate, as ``host:port``; only with access rules."""
        return f"{_HOST}:{self._known_ports()[1]}"

    @property
    def certificates(self) -> Path:
        """The folder of ``ca.pem``, ``client.pem`` and ``client.key``; only with access rules."""
        return self._directory / "certificates"

    @property
    def log(self) -> Path:
        """What the broker has said since its directory was made."""
        return self._directory / "broker.log"

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process, None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self, *, timeout_s: float = 90.0) -> None:
        """Start the broker and return when it serves; does nothing if it runs.

        Raises
        ------
        LocalBrokerError
            If a tool or jar is missing, a port is taken, or the broker ends or is silent for `timeout_s`.
        """
        if self.running:
            return
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        jars = self._jars = self._jars or resolve_jars()
        if self._ports is not None:
            self._launch(jars, timeout_s)
            return
        if self._fixed_port and not _is_free(self._fixed_port):
            raise LocalBrokerError(f"port {self._fixed_port} is in use: choose another, or stop what listens")
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._ports = (self._fixed_port or _free_port(), _free_port(), _free_port())
            try:
                self._launch(jars, timeout_s)
            except LocalBrokerError as error:
                self._ports = None
                # Between our look and the broker's another process may have taken a port.
                if "already in use" not in str(error) or self._fixed_port or attempt == _PORT_ATTEMPTS:
                    raise
            else:
                return

    def stop(self, *, timeout_s: float = 30.0) -> None:
        """End the broker in good order, or by force after `timeout_s`; does nothing if it does not run."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the broker at once, as a power switch would for the process (SIGKILL)."""
        if self._process is None:
            raise LocalBrokerError("the broker does not run: start it before it can be killed")
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def wait(self) -> int:
        """Wait until the broker ends by itself; return its exit code."""
        if self._process is None:
            raise LocalBrokerError("the broker does not run: start it before it can be waited for")
        return self._process.wait()

    def __enter__(self) -> "LocalBroker":
        """Start the broker."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the broker."""
        self.stop()

    def _known_ports(self) -> tuple[int, int, int]:
        if self._ports is None:
            raise LocalBrokerError("the broker has no address before its first start")
        return self._ports

    def _launch(self, jars: Path, timeout_s: float) -> None:
        configuration = self._write_configuration()
        if not (self._directory / "data" / "meta.properties").exists():
            self._format(jars, configuration)
        log4j = self._directory / "log4j2.xml"
        log4j.write_bytes(_resource("log4j2.xml").encode())
        command = [
            *self._java(jars),
            f"-Dlog4j2.configurationFile={log4j}",
            "kafka.Kafka",
            str(configuration),
        ]
        with self.log.open("ab") as log:
            begun_at = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - program and arguments are ours
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self._directory
            )
        try:
            self._await_ready(begun_at, timeout_s)
        except BaseException:
            # Whatever ends the wait (Ctrl-C too), nothing may be left running that nobody knows of.
            with contextlib.suppress(LocalBrokerError):
                self.kill()
            raise

    def _java(self, jars: Path) -> list[str]:
        limits = [f"-Xmx{self._heap_mb}m", "-XX:+ExitOnOutOfMemoryError"]
        return ["java", *limits, *self._compilers, "-cp", f"{jars}/*"]

    def _write_configuration(self) -> Path:
        client, certificate, controller = self._known_ports()
        values: dict[str, object] = {
            "client_port": client,
            "certificate_port": certificate,
            "controller_port": controller,
            "data": self._directory / "data",
            "certificates": self.certificates,
        }
        listeners = "plain.properties"
        if self._access is not None:
            listeners = "secured.properties"
            values["superuser"] = self._access.superuser
            values["superuser_password"] = self._access.users[self._access.superuser]
            if not self.certificates.exists():
                make_certificates(self.certificates, client=self._access.superuser)
        text = Template(_resource("server.properties") + _resource(listeners)).substitute(values)
        text += "".join(f"{name}={value}\n" for name, value in self._properties.items())
        return self._write_private("server.properties", text)

    def _format(self, jars: Path, configuration: Path) -> None:
        cluster = base64.b64encode(uuid.uuid4().bytes, altchars=b"Pl").rstrip(b"=").decode("ascii")
        words = ["format", "--cluster-id", cluster, "--config", str(configuration)]
        if self._access is not None:
            for name, password in self._access.users.items():
                for mechanism in _MECHANISMS:
                    words += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
        # By a file: arguments of a process can be read by everybody on the machine.
        arguments = self._write_private("format.arguments", "\n".join(words) + "\n")
        try:
            made = run_tool([*self._java(jars), "kafka.tools.StorageTool", f"@{arguments}"])
        finally:
            arguments.unlink()
        if made.returncode:
            raise LocalBrokerError(f"the broker's storage cannot be formatted (exit code {made.returncode})")

    def _write_private(self, name: str, text: str) -> Path:
        path = self._directory / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        return path

    def _await_ready(self, begun_at: int, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            # The state first: what an ended broker said is then complete.
            ended = not self.running
            with self.log.open("rb") as log:
                log.seek(begun_at)
                said = log.read().decode("utf-8", "replace")
            if ended:
                raise LocalBrokerError(f"the broker ended while starting: {_why(said)}")
            if _READY in said:
                return
            time.sleep(_POLL_S)
        raise LocalBrokerError(f"the broker was not ready within {timeout_s:.0f} s: read {self.log}")


def _resource(name: str) -> str:
    return files("deploy.kafka").joinpath(name).read_text(encoding="utf-8")


def _why(said: str) -> str:
    taken = re.search(r"Address already in use", said)
    if taken:
        return "a port is already in use: choose another, or stop what listens there"
    faults = [line for line in said.splitlines() if "ERROR" in line or "Exception" in line]
    return faults[0][:300] if faults else "it gave no reason"


def _free_port() -> int:
    """Return a port that is free now, below those which the system gives to outgoing connections.

    A broker that is away for a moment must find its port again; an outgoing connection could have taken it.
    """
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        if _is_free(port):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Java does it: connections that are still being closed do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True
