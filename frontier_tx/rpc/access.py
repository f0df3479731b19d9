"""Access control of a control port: tokens, client certificates, and requests that other sites make browsers send."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID
from twisted.logger import Logger

from frontier_tx.config.access import AUTO, ROLES, AccessControl, unfit_token
from frontier_tx.config.address import split_host_port
from frontier_tx.config.common import Listen
from frontier_tx.errors import ConfigError
from frontier_tx.rpc.addresses import Bucket, address_key
from frontier_tx.rpc.audit import Audit
from frontier_tx.rpc.context import AUDITED, STRANGER, CallContext, Caller, Role
from frontier_tx.rpc.status import RpcError, Status
from frontier_tx.runtime.launch import Ports
from frontier_tx.runtime.lograte import LogRate
from frontier_tx.runtime.tls import from_start

FAILURES = 20
"""Wrong tokens that one address may show at once before it is told to wait."""
FAILURE_RATE = 0.2
"""The same per second."""
ADDRESSES = 1000
"""Addresses that are remembered for wrong tokens."""
_PRIVATE_ENDINGS = (".localhost", ".local", ".internal", ".svc")
"""Names that nobody can register, so that no stranger's page can have one."""

log = Logger()


class Access:
    """The rules of one port.

    Tokens are kept as keyed hashes and compared in constant time. ``path`` is the key of the section, for messages;
    ``now`` gives seconds. ``names`` are names of this machine besides the configured ones.

    :raises ConfigError: a file that cannot be read, or holds no token.
    """

    def __init__(
        self,
        config: AccessControl,
        listen: Listen,
        path: str,
        now: Callable[[], float] = monotonic,
        names: Sequence[str] = (),
    ) -> None:
        self._config = config
        self._path = path
        self._listen = listen
        self._now = now
        self._key = secrets.token_bytes(32)
        own = (split_host_port(listen.advertised_addr)[0],) if listen.advertised_addr else ()
        self._listed = frozenset(name.lower() for name in config.hosts)
        own_names = (*config.hosts, *names, *own, listen.host, socket.gethostname())
        self._hosts = frozenset(name.lower() for name in own_names if name)
        configured = bool(config.tokens or config.identities)
        roles = (() if configured else ROLES) if config.anonymous == AUTO else config.anonymous
        self.anonymous = _caller("anonymous", "anonymous", roles)
        self._identities = {
            each.subject: _caller(each.name, "certificate", each.roles) for each in reversed(config.identities)
        }
        self._failures: OrderedDict[str, Bucket] = OrderedDict()
        self._failure_lines = LogRate(20, 60.0, now)
        self.audit = Audit(config.audit, f"{path}.audit", now)
        self._tokens: list[tuple[bytes, Caller]] = []
        self.reload()

    def reload(self) -> list[str]:
        """Read the files of tokens again; gives warnings. What was read before stays in use when one cannot be used.

        :raises ConfigError: naming the file.
        """
        self._tokens = [
            (self._hash(_token(each.token, each.token_file, f"{self._path}.tokens[{index}]")), caller)
            for index, each in enumerate(self._config.tokens)
            for caller in [_caller(each.name, "token", each.roles)]
        ]
        return []

    def begin(self, ports: Ports) -> None:
        """Say what is dangerous, and read the files of tokens again when ``ports`` is told to read files."""
        for warning in self.warnings():
            log.warn("{warning}", warning=warning)
        ports.reloads(self._path.removesuffix(".access"), "tokens", self)

    def warnings(self) -> list[str]:
        """What to say at the start of a port that strangers can reach."""
        if is_loopback(self._listen.host):
            return []
        where = f"{self._path.removesuffix('.access')} is open to the network on {self._listen.addr}"
        said = []
        if self.anonymous.roles > {"open"}:
            may = ", ".join(role for role in ROLES if role in self.anonymous.roles)
            said.append(
                f"{where}: whoever reaches it may {may} WITHOUT A TOKEN OR A CERTIFICATE; configure "
                f"{self._path}.tokens or .identities, or listen on the loopback"
            )
        if self._config.tokens and not self._listen.tls.enable:
            said.append(f"{where} without TLS: tokens can be read on the way; set listen.tls")
        return said

    def admit(self, context: CallContext, role: Role | None) -> Caller:
        """The caller; raises ``RpcError`` for one who may not call this, and for a request that another site caused.

        ``role`` is what the method asks; None: nobody may call it.
        """
        caller = STRANGER
        try:
            caller = self._identify(context)
            if role != "open":
                if role is None or role not in caller.roles:
                    raise self._lacking(caller, role)
                if context.via == "rest":
                    self._screen(context, caller, role)
        except RpcError as error:
            if role in AUDITED:
                self.audit.refused(context, caller, error)
            raise
        return caller

    def _identify(self, context: CallContext) -> Caller:
        scheme, _, shown = context.metadata.get("authorization", "").partition(" ")
        if self._tokens and scheme.lower() == "bearer":
            return self._owner(shown.strip(), context.peer)
        for name in context.names:
            caller = self._identities.get(name)
            if caller is not None:
                return caller
        return self.anonymous

    def _owner(self, token: str, peer: str) -> Caller:
        shown, found = self._hash(token.encode("utf-8", "replace")), None
        for known, caller in self._tokens:
            # All of them, so that the time tells nothing.
            if hmac.compare_digest(known, shown):
                found = caller
        if found is not None:
            return found
        host = address_key(peer.rpartition(":")[0])
        now = self._now()
        failures = self._failures.pop(host, None) or Bucket(FAILURES, FAILURE_RATE, now)
        self._failures[host] = failures
        if len(self._failures) > ADDRESSES:
            self._failures.popitem(last=False)
        if failures.take(1.0, now) < 1.0:
            raise RpcError(Status.RESOURCE_EXHAUSTED, "too many wrong tokens from this address; wait some seconds")
        if (before := self._failure_lines.due()) is not None:
            log.warn("a wrong token from {host}{before}", host=host, before=before)
        raise RpcError(Status.UNAUTHENTICATED, "the token is not known")

    def _hash(self, token: bytes) -> bytes:
        return hashlib.blake2b(token, key=self._key).digest()

    def _lacking(self, caller: Caller, role: Role | None) -> RpcError:
        if role is None:
            return RpcError(Status.PERMISSION_DENIED, "this method is not for callers")
        if caller is self.anonymous:
            return RpcError(Status.UNAUTHENTICATED, f"a token or a client certificate with the role {role} is needed")
        return RpcError(Status.PERMISSION_DENIED, f"{caller.name} has not the role {role}")

    def _screen(self, context: CallContext, caller: Caller, role: Role) -> None:
        """Refuse what a page of another site made a browser send."""
        headers = context.metadata
        host = headers.get("host") or headers.get(":authority", "")
        name = host_name(host)
        # A page under a stranger's name has no token, so a caller with one came here on purpose.
        if caller is self.anonymous and not self._is_ours(name):
            raise RpcError(
                Status.PERMISSION_DENIED,
                f"the name {name[:100]!r} is not known here; list it in {self._path}.hosts",
                "UNKNOWN_HOST",
            )
        navigating = role == "read" and headers.get("sec-fetch-mode") == "navigate"
        origin = headers.get("origin")
        elsewhere = headers.get("sec-fetch-site") == "cross-site" and not navigating
        if elsewhere or (origin is not None and not (same_host(origin, host) or self._is_listed(origin))):
            raise RpcError(Status.PERMISSION_DENIED, "a page of another site may not call this server", "CROSS_SITE")

    def _is_listed(self, origin: str) -> bool:
        """A proxy may ask for another host than the browser did."""
        scheme, _, host = origin.partition("://")
        return scheme in ("http", "https") and host_name(host) in self._listed

    def _is_ours(self, name: str) -> bool:
        if not name or "." not in name or name in self._hosts or name.endswith(_PRIVATE_ENDINGS):
            return True
        return _is_address(name)


def host_name(host: str) -> str:
    """The name in a ``Host`` header, without port, brackets, and the dot at its end."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
    return name.lower().removesuffix(".")


def same_host(origin: str, host: str) -> bool:
    """Whether an ``Origin`` is the server that a ``Host`` header names."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    default = {"http": 80, "https": 443}.get(parts.scheme)
    if default is None or parts.hostname is None:
        return False
    _, colon, text = host.rpartition(":")
    named = int(text) if colon and text.isascii() and text.isdecimal() else default
    return host_name(host) == parts.hostname.lower().removesuffix(".") and named == (port or default)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a port on ``host``."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _caller(name: str, shown_by: str, roles: Sequence[str]) -> Caller:
    return Caller(name, shown_by, frozenset(("open", *cast("Sequence[Role]", roles))))


def _token(text: str, file: str, where: str) -> bytes:
    if file:
        try:
            text = from_start(file).read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"{where}.token_file: cannot read {file}: {why}") from None
        if not text or (why := unfit_token(text)):
            raise ConfigError(f"{where}.token_file: {file}: {'empty' if not text else why}")
    return text.encode()


def certificate_names(transport: Any) -> tuple[str, ...]:
    """The names in the certificate of a TLS client that was asked for one: common name and alternative names."""
    ask = getattr(transport, "getPeerCertificate", None)
    found = ask() if ask is not None else None
    return () if found is None else names_of(found.to_cryptography())


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Its common name and its alternative names, as texts."""
    names = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return tuple(names)
    for kind in (x509.DNSName, x509.UniformResourceIdentifier, x509.RFC822Name, x509.IPAddress):
        names += [str(value) for value in found.get_values_for_type(kind)]
    return tuple(names)
