"""Who may do what at a control plane, and what its callers may cost. Both servers have these sections."""

from __future__ import annotations

from dataclasses import dataclass

from frontier_tx.config.common import Listen
from frontier_tx.config.document import Node
from frontier_tx.config.kinds import Text, Texts, Unfit
from frontier_tx.config.schema import Report, sections, setting

ROLES = ("read", "act", "call")
#: The roles of callers without a token follow from what else is configured.
AUTO = ("auto",)
#: A shorter token can be guessed.
SHORTEST_TOKEN = 16


class Roles(Texts):
    """Some of the roles."""

    def __init__(self, *also: str) -> None:
        super().__init__(f"a list of {', '.join(ROLES)}{''.join(f', or {word}' for word in also)}")
        self._words = (*ROLES, *also)

    def read(self, node: Node) -> tuple[str, ...]:
        roles = tuple(dict.fromkeys(text.lower() for text in super().read(node)))
        if any(role not in self._words for role in roles) or (AUTO[0] in roles and len(roles) > 1):
            raise Unfit(self.expected)
        return roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A secret text that a caller sends as `Authorization: Bearer TOKEN`."""

    name: str = setting("", Text(), "what the audit log calls its owner")
    token: str = setting("", Text(), "the text itself", secret=True)
    token_file: str = setting("", Text("a path"), "a file that holds it instead; read again on SIGHUP")
    roles: tuple[str, ...] = setting((), Roles(), "what its owner may do")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientIdentity:
    """A client certificate that `listen.tls.ca_certs` vouch for."""

    name: str = setting("", Text(), "what the audit log calls its owner")
    subject: str = setting("", Text(), "its common name, or one of its alternative names (DNS, URI, e-mail, address)")
    roles: tuple[str, ...] = setting((), Roles(), "what its owner may do")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessControl:
    """Who may do what: `read` lists and figures, `act` (kick, drain, log level), `call` edges and services."""

    tokens: tuple[Token, ...] = sections(Token, "secrets of callers")
    identities: tuple[ClientIdentity, ...] = sections(ClientIdentity, "certificates of callers; need `listen.tls.mtls`")
    anonymous: tuple[str, ...] = setting(
        AUTO,
        Roles(*AUTO),
        "what callers without token and certificate may do; `auto`: everything as long as neither `tokens` nor "
        "`identities` are configured, nothing otherwise",
    )
    hosts: tuple[str, ...] = setting(
        (),
        Texts(),
        "public names of this server, or of a proxy in front of it, that browsers may use; addresses, this machine's "
        "name, names without a dot, and those under localhost, local, internal and svc are taken anyway",
    )
    audit: str = setting("", Text("a path"), "file for the audit log, one JSON object per line; empty: the log")


def check_access(path: str, access: AccessControl, listen: Listen, report: Report) -> None:
    """Report what does not go together in the ``access`` section at ``path``."""
    names: list[str] = []
    for index, token in enumerate(access.tokens):
        where = f"{path}.tokens[{index}]"
        _check_owner(where, token.name, token.roles, names, report)
        if bool(token.token) == bool(token.token_file):
            report.problem(where, "expected either token or token_file")
        if token.token and (why := unfit_token(token.token)):
            report.problem(f"{where}.token", why)
        if token.token and len(token.token) < SHORTEST_TOKEN:
            report.warnings.append(
                f"{report.name}: {where}.token is short enough to be guessed; use {SHORTEST_TOKEN} characters or more"
            )
    for index, identity in enumerate(access.identities):
        where = f"{path}.identities[{index}]"
        _check_owner(where, identity.name, identity.roles, names, report)
        if not identity.subject:
            report.problem(f"{where}.subject", "missing; expected a name that the certificate holds")
    if access.identities and not (listen.tls.enable and listen.tls.mtls):
        key = path.removesuffix("access")
        report.problem(f"{path}.identities", f"needs {key}listen.tls.enable and {key}listen.tls.mtls")


def unfit_token(text: str) -> str:
    """Why ``text`` cannot be a token; empty where it can."""
    if text.isascii() and text.isprintable() and " " not in text:
        return ""
    return "a token is printable ASCII without spaces"


def _check_owner(where: str, name: str, roles: tuple[str, ...], names: list[str], report: Report) -> None:
    if not name or name in names:
        report.problem(f"{where}.name", f"{name!r}: expected a name that no other token or identity has")
    if not roles:
        report.problem(f"{where}.roles", f"missing; expected some of {', '.join(ROLES)}")
    names.append(name)
