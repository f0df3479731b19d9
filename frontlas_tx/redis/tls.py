"""TLS options for connections to Redis."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from frontier_tx.runtime.tls import from_start
from frontlas_tx.redis.settings import RedisTLS


def client_tls(tls: RedisTLS, host: str) -> Any:
    """Options for ``wrapClientTLS``; raises ``ValueError`` naming a file that cannot be used."""
    from twisted.internet import ssl

    certificate = None
    if tls.cert:
        pem = _read(tls.cert) + b"\n" + _read(tls.key or tls.cert)
        certificate = ssl.PrivateCertificate.loadPEM(pem)  # type: ignore[no-untyped-call]
    if tls.insecure_skip_verify:
        return _Unverified(ssl.CertificateOptions(verify=False, **_own(certificate)))
    trust = None
    if tls.ca_certs:
        authorities = [ssl.Certificate.loadPEM(_read(name)) for name in tls.ca_certs]
        trust = ssl.trustRootFromCertificates(authorities)  # type: ignore[no-untyped-call]
    return ssl.optionsForClientTLS(tls.server_name or host, trustRoot=trust, clientCertificate=certificate)


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """Connection options without any check, which Twisted offers only for the older kind of context
    factory."""

    def __init__(self, options: Any) -> None:
        self._options = options

    def clientConnectionForTLS(self, protocol: Any) -> Any:
        from OpenSSL.SSL import Connection

        return Connection(self._options.getContext(), None)


def _own(certificate: Any) -> dict[str, Any]:
    if certificate is None:
        return {}
    return {"privateKey": certificate.privateKey.original, "certificate": certificate.original}


def _read(name: str) -> bytes:
    try:
        return from_start(name).read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror or error}") from error
