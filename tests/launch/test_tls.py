"""TLS contexts: whom they let in, what they offer, and what they say of files that do not fit."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLContextFactory,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test import iosim
from zope.interface import implementer
from zope.interface.verify import verifyObject

from frontier_tx.config import TLS, CertKey
from frontier_tx.errors import ConfigError
from frontier_tx.runtime.tls import check_files, client_context, server_context, validity

from .certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def serving(*pairs: tuple[str, str], **more: object) -> TLS:
    return TLS(enable=True, certs=tuple(CertKey(cert=cert, key=key) for cert, key in pairs), **more)  # type: ignore[arg-type]


@implementer(IHandshakeListener)
class End(Protocol):
    """Remembers whether the handshake was done and how the connection ended."""

    def __init__(self) -> None:
        self.done = False
        self.received = b""
        self.reason = ""

    def handshakeCompleted(self) -> None:
        self.done = True
        self.transport.write(b"hello")  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = str(reason.value)

    @property
    def tls(self) -> SSL.Connection:
        return self.transport.getHandle()  # type: ignore[no-any-return, union-attr]

    @property
    def peer(self) -> str:
        """The common name of the other end's certificate."""
        certificate = self.transport.getPeerCertificate()  # type: ignore[union-attr]
        return str(certificate.to_cryptography().subject.rfc4514_string().removeprefix("CN="))


def connect(server: CertificateOptions, client: object) -> tuple[End, End]:
    """Both ends in memory, after everything has been said; server first."""
    ends = End(), End()
    outer, clock = [], Clock()
    for end, context, is_client in ((ends[0], server, False), (ends[1], client, True)):
        factory = Factory()
        factory.protocol = lambda end=end: end  # type: ignore[misc, assignment]
        outer.append(TLSMemoryBIOFactory(context, is_client, factory, clock).buildProtocol(None))  # type: ignore[arg-type]
    pump = iosim.connect(  # type: ignore[no-untyped-call]
        outer[0],
        iosim.makeFakeServer(outer[0]),
        outer[1],
        iosim.makeFakeClient(outer[1]),  # type: ignore[no-untyped-call]
    )
    for _ in range(3):
        pump.flush()
        clock.advance(0)  # small writes are sent together, a turn later
    pump.flush()
    return ends


def works(server: CertificateOptions, client: object) -> tuple[End, End]:
    ends = connect(server, client)
    assert [end.received for end in ends] == [b"hello", b"hello"], [end.reason for end in ends]
    return ends


def refused(server: CertificateOptions, client: object) -> str:
    """Why it ended, as either end tells it."""
    ends = connect(server, client)
    assert b"" in (ends[0].received, ends[1].received)
    return " ".join(end.reason for end in ends)


def dial(tls: TLS, host: str = "gw.example", alpn: tuple[bytes, ...] = ()) -> IOpenSSLClientConnectionCreator:
    creator = client_context(tls, "t", host, alpn)
    verifyObject(IOpenSSLClientConnectionCreator, creator)
    return creator


@implementer(IOpenSSLContextFactory)
class Raw:
    """A client with an OpenSSL context of its own."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def getContext(self) -> SSL.Context:
        return self.context


def test_a_verified_connection(authority: Authority) -> None:
    server = server_context(serving(authority.issue("gw", "gw.example")), "t")
    verifyObject(IOpenSSLContextFactory, server)
    far, near = works(server, dial(TLS(enable=True, ca_certs=(authority.file,))))
    assert near.tls.get_protocol_version_name() == "TLSv1.3"
    assert far.tls.get_servername() == b"gw.example"


def test_another_name_is_refused_unless_expected(authority: Authority) -> None:
    server = server_context(serving(authority.issue("gw", "gw.example")), "t")
    assert "DNSMismatch" in refused(server, dial(TLS(enable=True, ca_certs=(authority.file,)), "other.example"))
    works(server, dial(TLS(enable=True, ca_certs=(authority.file,), server_name="gw.example"), "10.0.0.1"))


def test_a_stranger_authority_is_refused_unless_told_otherwise(authority: Authority, tmp_path: Path) -> None:
    server = server_context(serving(authority.issue("gw", "gw.example")), "t")
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "other")
    for authorities in ((other.file,), ()):
        assert "certificate verify failed" in refused(server, dial(TLS(enable=True, ca_certs=authorities)))
    far, _ = works(server, dial(TLS(enable=True, insecure_skip_verify=True)))
    assert far.tls.get_servername() == b"gw.example"


def test_mutual(authority: Authority, tmp_path: Path) -> None:
    server = server_context(serving(authority.issue("gw", "gw.example"), mtls=True, ca_certs=(authority.file,)), "t")
    far, _ = works(server, dial(serving(authority.issue("edge", "edge"), ca_certs=(authority.file,))))
    assert far.peer == "edge"
    assert "peer did not return a certificate" in refused(server, dial(TLS(enable=True, ca_certs=(authority.file,))))
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "other").issue("edge", "edge")
    assert "certificate verify failed" in refused(server, dial(serving(stranger, ca_certs=(authority.file,))))


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize(
    ("cipher", "accepted"),
    [
        ("ECDHE-{kind}-AES128-GCM-SHA256", True),
        ("ECDHE-{kind}-AES256-GCM-SHA384", True),
        ("ECDHE-{kind}-CHACHA20-POLY1305", True),
        ("ECDHE-{kind}-AES128-SHA256", False),
        ("ECDHE-{kind}-AES256-SHA", False),
        ("AES128-GCM-SHA256", False),
    ],
)
def test_ciphers_of_1_2(authority: Authority, kind: str, cipher: str, accepted: bool) -> None:
    server = server_context(serving(authority.issue("gw", "gw.example", kind=kind)), "t")
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(cipher.format(kind="ECDSA" if kind == "ec" else "RSA").encode())
    if accepted:
        assert works(server, Raw(context))[1].tls.get_protocol_version_name() == "TLSv1.2"
    else:
        assert "no shared cipher" in refused(server, Raw(context))


def test_nothing_before_1_2(authority: Authority) -> None:
    server = server_context(serving(authority.issue("gw", "gw.example")), "t")
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_max_proto_version(SSL.TLS1_1_VERSION)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    assert "unsupported protocol" in refused(server, Raw(context))


@pytest.mark.parametrize(
    ("offered", "chosen"), [((b"h2", b"http/1.1"), b"h2"), ((b"http/1.1",), b"http/1.1"), ((), b"")]
)
def test_alpn(authority: Authority, offered: tuple[bytes, ...], chosen: bytes) -> None:
    pairs = authority.issue("one", "one.example"), authority.issue("gw", "gw.example")
    server = server_context(serving(*pairs), "t", (b"h2", b"http/1.1"))
    far, near = works(server, dial(TLS(enable=True, ca_certs=(authority.file,)), alpn=offered))
    assert far.tls.get_alpn_proto_negotiated() == near.tls.get_alpn_proto_negotiated() == chosen


def test_the_certificate_with_the_wanted_name(authority: Authority) -> None:
    server = server_context(
        serving(authority.issue("one", "one.example"), authority.issue("two", "two.example", "*.two.example")), "t"
    )
    for asked, got in (("one.example", "one"), ("two.example", "two"), ("a.two.example", "two"), ("x.y", "one")):
        _, near = works(server, dial(TLS(enable=True, insecure_skip_verify=True), asked))
        assert near.peer == got


def test_files_that_do_not_fit(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("gw", "gw.example")
    _, other_key = authority.issue("other", "other")
    secret = authority.encrypted_key("secret")
    junk = tmp_path / "junk"
    junk.write_text("nothing here")
    missing = str(tmp_path / "missing.pem")

    def said(tls: TLS) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            check_files([("t", tls, True)])
        return caught.value.problems

    assert said(serving((missing, key), (cert, missing))) == (
        f"t.certs[0].cert: cannot read {missing}: No such file or directory",
        f"t.certs[1].key: cannot read {missing}: No such file or directory",
    )
    assert said(serving((str(junk), key))) == (f"t.certs[0].cert: no certificate in {junk}; expected a PEM file",)
    assert said(serving((cert, str(junk))))[0].startswith(f"t.certs[0].key: no usable private key in {junk}: ")
    assert said(serving((cert, other_key)))[0].startswith(
        f"t.certs[0]: {other_key} is not the key of the certificate in {cert}: "
    )
    assert said(serving((cert, secret))) == (
        f"t.certs[0].key: {secret} is encrypted; expected a PEM file without a passphrase",
    )
    assert said(serving((cert, key), mtls=True, ca_certs=(str(tmp_path),))) == (
        f"t.ca_certs[0]: cannot read {tmp_path}: Is a directory",
    )
    assert said(TLS(enable=True)) == ("t.certs: missing; needed while t.enable is true",)
    assert said(serving((cert, key), mtls=True)) == ("t.ca_certs: missing; needed while t.mtls is true",)


def test_a_certificate_too_weak_to_be_used_is_not_called_a_wrong_key(tmp_path: Path) -> None:
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", "w.key", "-out", "w.pem",
         "-days", "1", "-subj", "/CN=w"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    cert, key = str(tmp_path / "w.pem"), str(tmp_path / "w.key")
    with pytest.raises(ConfigError) as caught:
        check_files([("t", serving((cert, key)), True)])
    assert caught.value.problems == (f"t.certs[0].cert: the certificate in {cert} cannot be used: ee key too small",)


def test_certificates_out_of_their_time_are_named(authority: Authority) -> None:
    cert, key = authority.issue("gw", "gw.example")
    tls = serving((cert, key), mtls=True, ca_certs=(authority.file,))
    now = datetime.now(UTC)
    assert check_files([("t", tls, True)]) == []
    late, early = now + timedelta(days=3), now - timedelta(days=3)
    files = [
        (where, file, x509.load_pem_x509_certificate(Path(file).read_bytes()))
        for where, file in (("t.certs[0].cert", cert), ("t.ca_certs[0]", authority.file))
    ]
    assert validity(tls, "t", late) == [
        f"{where}: a certificate in {file} expired on {made.not_valid_after_utc:%Y-%m-%d}; peers will refuse it"
        for where, file, made in files
    ]
    assert validity(tls, "t", early) == [
        f"{where}: a certificate in {file} is valid from {made.not_valid_before_utc:%Y-%m-%d %H:%M} UTC only"
        for where, file, made in files
    ]
