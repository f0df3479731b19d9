"""TLS contexts from a ``tls`` section: TLS 1.2 or 1.3, forward secrecy and AEAD ciphers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLContextFactory
from twisted.internet.ssl import (
    AcceptableCiphers,
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from zope.interface import implementer

from frontier_tx.config.common import TLS
from frontier_tx.errors import ConfigError
from frontier_tx.runtime.loss_text import openssl_text

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

#: For TLS 1.2; 1.3 has only such ciphers.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return Path("/")


#: File names are relative to it even after twistd went to another folder (``--rundir``, daemons).
_STARTED_IN = _working_folder()


def from_start(file: str) -> Path:
    """The path of a file that a configuration names, whatever the working folder is by now."""
    return _STARTED_IN.joinpath(file)


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key and its certificate chain, as loaded from two files."""

    key: crypto.PKey
    chain: tuple[crypto.X509, ...]
    names: frozenset[str]

    @property
    def leaf(self) -> crypto.X509:
        return self.chain[0]


def server_context(tls: TLS, path: str, alpn: Sequence[bytes] = ()) -> CertificateOptions:
    """The context factory of a listener.

    With several certificates a client gets the one whose names hold the name it asked for, else the first.

    :param path: the key of the section, for errors.
    :param alpn: protocols to offer, best first; none: no negotiation.
    :raises ConfigError: a file that is missing or does not hold what it should, naming the file.
    """
    if not tls.certs:
        raise ConfigError(f"{path}.certs: missing; needed while {path}.enable is true")
    identities = _identities(tls, path)
    authorities = _authorities(tls, path) if tls.mtls else None
    if tls.mtls and not authorities:
        raise ConfigError(f"{path}.ca_certs: missing; needed while {path}.mtls is true")
    made = [_options(identity, authorities, alpn) for identity in identities]
    if len(made) > 1:
        _choose_by_name(made, identities)
    return made[0]


def client_context(tls: TLS, path: str, host: str, alpn: Sequence[bytes] = ()) -> IOpenSSLClientConnectionCreator:
    """The connection creator of a dialler, for ``twisted.internet.endpoints.wrapClientTLS`` or ``connectSSL``.

    The server's certificate must be vouched for by ``ca_certs``, by the system's authorities if there are none, and
    carry the name ``tls.server_name`` or else ``host``. ``insecure_skip_verify`` switches both off.

    :raises ConfigError: a file that is missing or does not hold what it should, naming the file.
    """
    identities = _identities(tls, path)
    identity = identities[0] if identities else None
    authorities = _authorities(tls, path)
    name = tls.server_name or host
    if tls.insecure_skip_verify:
        return _Unverified(_options(identity, None, alpn), name)
    trust = trustRootFromCertificates([Certificate(each) for each in authorities]) if authorities else platformTrust()  # type: ignore[no-untyped-call]
    own = None
    if identity is not None:
        own = PrivateCertificate.fromCertificateAndKeyPair(Certificate(identity.leaf), KeyPair(identity.key))  # type: ignore[no-untyped-call]
    extra: dict[str, object] = {
        "raiseMinimumTo": TLSVersion.TLSv1_2,
        "acceptableCiphers": AcceptableCiphers.fromOpenSSLCipherString(CIPHERS),  # type: ignore[no-untyped-call]
    }
    if identity is not None and len(identity.chain) > 1:
        extra["extraCertChain"] = list(identity.chain[1:])
    made: IOpenSSLClientConnectionCreator = optionsForClientTLS(
        name, trustRoot=trust, clientCertificate=own, acceptableProtocols=list(alpn) or None,
        extraCertificateOptions=extra,
    )  # fmt: skip
    return made


@implementer(IOpenSSLContextFactory)
class ServerContext:
    """The context factory of a listener whose files can be read again while it listens. Parameters: ``server_context``.

    :raises ConfigError: as there.
    """

    def __init__(self, tls: TLS, path: str, alpn: Sequence[bytes] = ()) -> None:
        self._tls = tls
        self._path = path
        self._alpn = alpn
        self._current = server_context(tls, path, alpn)

    def getContext(self) -> SSL.Context:
        """Twisted asks for it at each new connection."""
        return self._current.getContext()

    def reload(self) -> list[str]:
        """Read the files again, for connections to come; return what is to be said of them.

        :raises ConfigError: they cannot be used; what was read before stays.
        """
        self._current = server_context(self._tls, self._path, self._alpn)
        return validity(self._tls, self._path)


def check_files(found: Sequence[tuple[str, TLS, bool]]) -> list[str]:
    """Load every TLS section in use, so that a bad file is known before a port is open.

    :param found: key, section, and whether it is a listener's.
    :return: what is to be said of them, see ``validity``.
    :raises ConfigError: one line for each section that fails.
    """
    said: list[str] = []
    problems: list[str] = []
    for path, tls, listens in found:
        try:
            if listens:
                server_context(tls, path)
            else:
                client_context(tls, path, "localhost")
            said += validity(tls, path)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return said


def validity(tls: TLS, path: str, now: datetime | None = None) -> list[str]:
    """Say which certificates of a section are not valid at this time, since peers will refuse them.

    That is no reason not to start: the clock may be wrong, and a peer may not look at it.

    :raises ConfigError: a file that cannot be read.
    """
    moment = now or datetime.now(UTC)
    files = [(pair.cert, f"{path}.certs[{index}].cert") for index, pair in enumerate(tls.certs)]
    files += [(file, f"{path}.ca_certs[{index}]") for index, file in enumerate(tls.ca_certs)]
    said: list[str] = []
    for file, where in files:
        for certificate in _loaded(file, where):
            begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            if ends < moment:
                said.append(f"{where}: a certificate in {file} expired on {ends:%Y-%m-%d}; peers will refuse it")
            elif begins > moment:
                said.append(f"{where}: a certificate in {file} is valid from {begins:%Y-%m-%d %H:%M} UTC only")
    return said


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """TLS without verification; still sends the server name, since servers choose certificates by it."""

    def __init__(self, options: CertificateOptions, name: str) -> None:
        self._context = options.getContext()
        self._name = name

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if self._name and not _is_ip(self._name):
            connection.set_tlsext_host_name(self._name.encode("idna"))
        return connection


def _options(
    identity: Identity | None, authorities: Sequence[crypto.X509] | None, alpn: Sequence[bytes]
) -> CertificateOptions:
    return CertificateOptions(
        privateKey=identity.key if identity else None,
        certificate=identity.leaf if identity else None,
        extraCertChain=list(identity.chain[1:]) if identity else None,
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableCiphers=AcceptableCiphers.fromOpenSSLCipherString(CIPHERS),  # type: ignore[no-untyped-call]
        acceptableProtocols=list(alpn) or None,
        trustRoot=trustRootFromCertificates([Certificate(each) for each in authorities]) if authorities else None,  # type: ignore[no-untyped-call]
    )


def _choose_by_name(made: Sequence[CertificateOptions], identities: Sequence[Identity]) -> None:
    contexts = [options.getContext() for options in made]

    def chosen(connection: SSL.Connection) -> None:
        wanted = (connection.get_servername() or b"").decode("ascii", "replace").lower()
        for context, identity in zip(contexts, identities, strict=True):
            if wanted and _matches(wanted, identity.names):
                connection.set_context(context)
                return

    contexts[0].set_tlsext_servername_callback(chosen)


def _matches(wanted: str, names: frozenset[str]) -> bool:
    return wanted in names or f"*.{wanted.partition('.')[2]}" in names


def _identities(tls: TLS, path: str) -> list[Identity]:
    found: list[Identity] = []
    problems: list[str] = []
    for index, pair in enumerate(tls.certs):
        where = f"{path}.certs[{index}]"
        try:
            found.append(_identity(pair.cert, pair.key, where))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return found


def _identity(cert: str, key: str, where: str) -> Identity:
    chain = _certificates(cert, f"{where}.cert")
    private = _private_key(key, f"{where}.key")
    trial = SSL.Context(SSL.TLS_METHOD)
    try:
        trial.use_certificate(chain[0])
    except SSL.Error as error:
        raise ConfigError(f"{where}.cert: the certificate in {cert} cannot be used: {openssl_text(error)}") from None
    try:
        trial.use_privatekey(private)
        trial.check_privatekey()
    except SSL.Error as error:
        why = openssl_text(error)
        raise ConfigError(f"{where}: {key} is not the key of the certificate in {cert}: {why}") from None
    return Identity(private, tuple(chain), _names(chain[0]))


def _private_key(file: str, where: str) -> crypto.PKey:
    def refuse(*_: object) -> bytes:
        # OpenSSL would otherwise ask for it on the terminal.
        raise ConfigError(f"{where}: {file} is encrypted; expected a PEM file without a passphrase")

    try:
        return crypto.load_privatekey(crypto.FILETYPE_PEM, _bytes(file, where), refuse)
    except (crypto.Error, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: no usable private key in {file}: {openssl_text(error)}") from None


def _authorities(tls: TLS, path: str) -> list[crypto.X509]:
    found: list[crypto.X509] = []
    problems: list[str] = []
    for index, file in enumerate(tls.ca_certs):
        try:
            found += _certificates(file, f"{path}.ca_certs[{index}]")
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return found


def _certificates(file: str, where: str) -> list[crypto.X509]:
    # OpenSSL's own objects: Twisted takes no others.
    return [_pyopenssl(each) for each in _loaded(file, where)]


def _loaded(file: str, where: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_bytes(file, where))
    except ValueError:
        raise ConfigError(f"{where}: no certificate in {file}; expected a PEM file") from None


def _pyopenssl(certificate: x509.Certificate) -> crypto.X509:
    return crypto.load_certificate(crypto.FILETYPE_ASN1, certificate.public_bytes(Encoding.DER))


def _names(certificate: crypto.X509) -> frozenset[str]:
    try:
        san = certificate.to_cryptography().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    return frozenset(name.lower() for name in san.get_values_for_type(x509.DNSName))


def _bytes(file: str, where: str) -> bytes:
    try:
        return from_start(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{where}: cannot read {file}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{where}: {file!r}: {error}") from None


def _is_ip(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
