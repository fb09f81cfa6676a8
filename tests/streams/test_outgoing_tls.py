"""TLS to a checked address: the certificate must be for the name, not for the address that is called."""

import asyncio
import ipaddress
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from streams import outgoing
from streams.notifiers import Retryable
from streams.outgoing import Endpoint

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=gateway.example"
    command += " -keyout key.pem -out cert.pem"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=DNS:gateway.example"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def server(certificate, monkeypatch):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            owner.hosts.append(self.headers["host"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    owner = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    owner.hosts, owner.names, owner.port = [], [], owner.server_address[1]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    context.sni_callback = lambda _socket, name, _context: owner.names.append(name)
    owner.socket = context.wrap_socket(owner.socket, server_side=True)
    threading.Thread(target=owner.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    async def resolve(host, port):
        return [ipaddress.ip_address("127.0.0.1")]

    trusting = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    monkeypatch.setattr(outgoing, "resolve", resolve)
    monkeypatch.setattr(outgoing, "_tls", lambda: trusting)
    yield owner
    owner.shutdown()
    owner.server_close()


def get(url):
    return asyncio.run(Endpoint(url, allow_networks=("127.0.0.0/8",)).call("GET", headers={}))


def test_the_name_is_asked_for_and_verified(server):
    assert get(f"https://gateway.example:{server.port}/").status == 204
    assert server.names == ["gateway.example"]
    assert server.hosts == [f"gateway.example:{server.port}"]


def test_a_certificate_for_another_name_is_refused(server):
    with pytest.raises(Retryable):
        get(f"https://other.example:{server.port}/")
    assert server.hosts == []
