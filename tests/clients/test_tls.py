"""Clients of both flavours over TLS, and over a unix socket."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS

from frontier_tx import aio
from frontier_tx.clients import Edge
from tests.aio.test_client import in_thread
from tests.clients.conftest import World


@pytest.fixture(scope="module")
def pair() -> bytes:
    """Key and self-signed certificate for 127.0.0.1 and localhost, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + made.public_bytes(serialization.Encoding.PEM)


@pytest_twisted.ensureDeferred
async def test_tls(world: World, pair: bytes) -> None:
    listening = reactor.listenSSL(
        0, world.core.edges, PrivateCertificate.loadPEM(pair).options(), interface="127.0.0.1"
    )
    world.ports.append(listening)
    port = listening.getHost().port
    service = await world.service(name="s")
    await service.register("echo", lambda request: request.data)
    trust = optionsForClientTLS("localhost", trustRoot=Certificate.loadPEM(pair))
    edge = Edge("127.0.0.1", port, tls=trust, reactor=reactor)
    world.clients.append(edge)
    await edge.connect()
    data = b"x" * 1_000_000
    assert await edge.call("echo", data) == data

    async def main() -> None:
        context = ssl.create_default_context(cadata=pair.decode()[pair.index(b"-----BEGIN CERT") :])
        async with aio.Edge("127.0.0.1", port, tls=context) as other:
            assert await other.call("echo", data) == data
        with pytest.raises(ssl.SSLCertVerificationError):
            await aio.Edge("127.0.0.1", port, tls=ssl.create_default_context()).connect()

    await in_thread(main)


@pytest_twisted.ensureDeferred
async def test_unix_sockets(world: World, tmp_path: Path) -> None:
    path = str(tmp_path / "edges")
    world.ports.append(reactor.listenUNIX(path, world.core.edges))
    service = await world.service(name="s")
    await service.register("echo", lambda request: request.data)
    edge = Edge(f"unix:{path}", reactor=reactor)
    world.clients.append(edge)
    await edge.connect()
    assert await edge.call("echo", b"1") == b"1"

    async def main() -> None:
        async with aio.Edge(f"unix:{path}") as other:
            assert await other.call("echo", b"2") == b"2"

    await in_thread(main)
