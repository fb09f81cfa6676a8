"""A certificate authority for one broker and one client, made by the ``openssl`` program."""

import shutil
from pathlib import Path

from deploy.kafka.jars import LocalBrokerError, run_tool

_DAYS = "30"


def make_certificates(folder: Path, *, client: str) -> None:
    """Make ``ca.pem``, ``broker.pem`` and the client's ``client.pem`` and ``client.key`` in `folder`.

    The broker's certificate is for 127.0.0.1 and localhost; the client's common name is `client`. The
    authority's key is thrown away, so that nothing else is ever signed by it.

    Raises
    ------
    LocalBrokerError
        If ``openssl`` is not there or fails.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority_key = folder / "ca.key"
    _openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", _DAYS),
        *("-subj", "/CN=plumbline local authority", "-keyout", str(authority_key)),
        *("-out", str(folder / "ca.pem")),
    )
    _sign(folder, "broker", subject="localhost", names="IP:127.0.0.1,DNS:localhost")
    _sign(folder, "client", subject=client, names=f"DNS:{client}")
    authority_key.unlink()
    # Kafka reads the key and its chain from one file.
    with (folder / "broker.pem").open("ab") as whole:
        whole.write((folder / "broker.key").read_bytes())


def _sign(folder: Path, name: str, *, subject: str, names: str) -> None:
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    key = folder / f"{name}.key"
    extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n", encoding="ascii")
    _openssl(
        *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={subject}"),
        *("-keyout", str(key), "-out", str(request)),
    )
    _openssl(
        *("x509", "-req", "-in", str(request), "-days", _DAYS, "-extfile", str(extensions)),
        *("-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial"),
        *("-out", str(folder / f"{name}.pem")),
    )
    key.chmod(0o600)
    request.unlink()
    extensions.unlink()


def _openssl(*arguments: str) -> None:
    if shutil.which("openssl") is None:
        raise LocalBrokerError(
            "openssl is not on the path: install it, or start a broker without access rules"
        )
    made = run_tool(["openssl", *arguments])
    if made.returncode:
        raise LocalBrokerError(f"openssl {arguments[0]} failed: {made.stdout.strip().splitlines()[-1:]}")
