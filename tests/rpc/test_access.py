"""Who may do what at a control port, and what is written down of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from frontier_tx.config.access import AccessControl, ClientIdentity, Token
from frontier_tx.config.common import TLS, Listen
from frontier_tx.config.frontier import FrontierConfig
from frontier_tx.config.loading import parse_frontier
from frontier_tx.errors import ConfigError
from frontier_tx.rpc.access import FAILURES, Access, host_name, same_host
from frontier_tx.rpc.context import CallContext, Caller, Role
from frontier_tx.rpc.contract import frontlas_contract
from frontier_tx.rpc.rest import RestRouter
from frontier_tx.rpc.status import RpcError, Status
from tests.logs import anything, logged
from tests.rpc.recorder import Recorder, ask
from tests.rpc.support import make_table

METHOD = frontlas_contract().method("controlplane.ClusterService", "ListFrontiers")
OPS = Token(name="ops", token="ops-secret-0123456789", roles=("read", "act", "call"))
READER = Token(name="reader", token="reader-secret-0123456789", roles=("read",))
LOOPBACK, NETWORK = Listen(addr="127.0.0.1:30010"), Listen(addr="0.0.0.0:30010")


def access(listen: Listen = LOOPBACK, clock: Clock | None = None, **config: Any) -> Access:
    return Access(
        AccessControl(**config), listen, "controlplane.access", (clock or Clock()).seconds, ["frontier01.test"]
    )


def context(token: str = "", via: str = "grpc", names: tuple[str, ...] = (), **headers: str) -> CallContext:
    metadata = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        metadata["authorization"] = f"Bearer {token}"
    return CallContext(METHOD, metadata, "192.0.2.7:1234", via, names=names)


def refusal(rules: Access, call: CallContext, role: Role | None) -> tuple[Status, str]:
    with pytest.raises(RpcError) as caught:
        rules.admit(call, role)
    return caught.value.status, caught.value.message


@pytest.mark.parametrize("listen", [LOOPBACK, NETWORK])
def test_without_configuration_everybody_may_do_everything(listen: Listen) -> None:
    rules = access(listen)
    roles: tuple[Role, ...] = ("open", "read", "act", "call")
    for role in roles:
        assert rules.admit(context(), role).name == "anonymous"


def test_what_says_no_role_is_for_nobody() -> None:
    assert refusal(access(), context(), None)[0] is Status.PERMISSION_DENIED
    assert refusal(access(tokens=(OPS,)), context(OPS.token), None)[0] is Status.PERMISSION_DENIED


def test_tokens_have_roles() -> None:
    rules = access(tokens=(OPS, READER))
    assert rules.admit(context(OPS.token), "act").name == "ops"
    assert rules.admit(context(READER.token), "read").name == "reader"
    assert refusal(rules, context(READER.token), "act") == (Status.PERMISSION_DENIED, "reader has not the role act")
    assert refusal(rules, context(), "read")[0] is Status.UNAUTHENTICATED
    assert refusal(rules, context("nonsense"), "read") == (Status.UNAUTHENTICATED, "the token is not known")
    assert refusal(rules, context(OPS.token[:-1]), "read")[0] is Status.UNAUTHENTICATED
    assert rules.admit(context(), "open").name == "anonymous"


def test_other_schemes_are_not_looked_at() -> None:
    rules = access(tokens=(OPS,), anonymous=("read",))
    assert rules.admit(context(authorization="Basic eDp5"), "read").name == "anonymous"
    assert rules.admit(context(authorization=f"bearer  {OPS.token} "), "act").name == "ops"


def test_anonymous_callers_have_the_roles_that_are_configured() -> None:
    rules = access(NETWORK, tokens=(OPS,), anonymous=("read",))
    assert rules.admit(context(), "read").shown_by == "anonymous"
    assert refusal(rules, context(), "call")[0] is Status.UNAUTHENTICATED
    assert refusal(access(anonymous=()), context(), "read")[0] is Status.UNAUTHENTICATED


def test_certificates_have_roles() -> None:
    rules = access(identities=(ClientIdentity(name="ci", subject="ci.example.org", roles=("read",)),))
    assert rules.admit(context(names=("x", "ci.example.org")), "read") == Caller(
        "ci", "certificate", frozenset(("open", "read"))
    )
    assert refusal(rules, context(names=("ci.example.org.evil",)), "read")[0] is Status.UNAUTHENTICATED
    assert refusal(rules, context(names=("ci.example.org",)), "act")[0] is Status.PERMISSION_DENIED


def test_guessing_is_slow_and_the_log_stays_short() -> None:
    clock = Clock()
    rules = access(clock=clock, tokens=(OPS,))
    with logged(anything) as lines:
        said = [refusal(rules, context(f"guess {n}"), "read")[0] for n in range(1000)]
    assert said.count(Status.UNAUTHENTICATED) == FAILURES
    assert said.count(Status.RESOURCE_EXHAUSTED) == 1000 - FAILURES
    assert len(lines) == FAILURES
    # Who has the token is not locked out by those who have not.
    assert rules.admit(context(OPS.token), "read").name == "ops"
    clock.advance(60)
    assert refusal(rules, context("guess"), "read")[0] is Status.UNAUTHENTICATED


def test_no_token_is_kept_as_it_is() -> None:
    rules = access(tokens=(OPS,))
    kept = [known for known, _ in rules._tokens]
    assert kept
    assert all(OPS.token.encode() not in known for known in kept)
    assert OPS.token not in repr(AccessControl(tokens=(OPS,)))


def test_tokens_of_files_are_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first-0123456789\n")
    rules = access(tokens=(Token(name="ops", token_file=str(file), roles=("read",)),))
    assert rules.admit(context("first-0123456789"), "read").name == "ops"
    file.write_text("second-0123456789")
    rules.reload()
    assert rules.admit(context("second-0123456789"), "read").name == "ops"
    assert refusal(rules, context("first-0123456789"), "read")[0] is Status.UNAUTHENTICATED
    file.write_text("\n")
    with pytest.raises(ConfigError, match=r"tokens\[0\].token_file: .* empty"):
        rules.reload()
    assert rules.admit(context("second-0123456789"), "read").name == "ops"


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("127.0.0.1:30010", True),
        ("[::1]:30010", True),
        ("10.1.2.3", True),
        ("localhost:30010", True),
        ("frontlas-svc:40011", True),
        ("frontier.prod.svc.cluster.local", True),
        ("frontier01.test", True),
        ("FRONTIER01.test.:30010", True),
        ("", True),
        ("evil.example.com", False),
        ("127.0.0.1.evil.example.com:30010", False),
        ("localhost.evil.example.com", False),
    ],
)
def test_pages_under_a_stranger_s_name_get_nothing(host: str, taken: bool) -> None:
    rules, call = access(), context(via="rest", host=host)
    if taken:
        assert rules.admit(call, "read").name == "anonymous"
    else:
        assert refusal(rules, call, "read")[0] is Status.PERMISSION_DENIED
        assert access(hosts=(host.rpartition(":")[0] or host,)).admit(call, "read")


def test_who_shows_a_token_may_use_any_name() -> None:
    assert access(tokens=(OPS,)).admit(context(OPS.token, "rest", host="frontier.example.com"), "act")


@pytest.mark.parametrize(
    ("role", "headers", "taken"),
    [
        ("act", {"origin": "http://h:30010"}, True),
        ("act", {"origin": "http://h:30011"}, False),
        ("act", {"origin": "http://evil"}, False),
        ("act", {"origin": "null"}, False),
        ("act", {"origin": "file://"}, False),
        ("act", {"origin": "http://h:x"}, False),
        ("act", {"sec-fetch-site": "cross-site"}, False),
        ("call", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, False),
        ("act", {"sec-fetch-site": "same-origin", "origin": "http://H:30010"}, True),
        ("act", {"sec-fetch-site": "none"}, True),
        ("read", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, False),
        ("read", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, True),
        ("read", {"origin": "http://evil"}, False),
        ("read", {}, True),
    ],
)
def test_pages_of_other_sites_get_nothing(role: Role, headers: dict[str, str], taken: bool) -> None:
    call = CallContext(METHOD, {"host": "h:30010", **headers}, "192.0.2.7:1", "rest")
    if taken:
        assert access().admit(call, role)
    else:
        assert refusal(access(), call, role)[0] is Status.PERMISSION_DENIED


def test_a_proxy_in_front_is_listed() -> None:
    call = CallContext(METHOD, {"host": "10.0.0.7:30010", "origin": "https://ops.example.org"}, "192.0.2.7:1", "rest")
    assert refusal(access(), call, "act")[0] is Status.PERMISSION_DENIED
    assert access(hosts=("Ops.example.org",)).admit(call, "act")
    call.metadata = {"host": "10.0.0.7:30010", "origin": "https://ops.example.org.evil"}
    assert refusal(access(hosts=("ops.example.org",)), call, "act")[0] is Status.PERMISSION_DENIED


def test_names_and_origins() -> None:
    assert host_name("[2001:db8::1]:80") == "2001:db8::1"
    assert same_host("https://h", "h")
    assert same_host("https://h:443", "h")
    assert same_host("http://[::1]:30010", "[::1]:30010")
    assert not same_host("https://h", "h:80")


def test_an_open_port_on_the_network_is_said_loudly() -> None:
    assert access(LOOPBACK).warnings() == []
    [said] = access(NETWORK).warnings()
    assert "controlplane is open to the network on 0.0.0.0:30010" in said
    assert "may read, act, call WITHOUT A TOKEN OR A CERTIFICATE" in said
    [said] = access(NETWORK, tokens=(OPS,)).warnings()
    assert "without TLS" in said
    secure = Listen(addr="0.0.0.0:30010", tls=TLS(enable=True))
    assert access(secure, tokens=(OPS,)).warnings() == []
    assert len(access(secure).warnings()) == 1


def test_acts_are_written_down(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    rules = access(tokens=(OPS, READER), audit=str(file))
    table, _ = make_table(Clock(), access=rules)
    table._methods = {path: _acting(method) for path, method in table._methods.items()}
    router = RestRouter(table)
    assert _ask(router, "/cluster/v1/frontiers?count=3&frontier_ids=x", OPS).status == 200
    assert _ask(router, "/cluster/v1/edge?edge_id=7", OPS).status == 404
    assert _ask(router, "/cluster/v1/frontiers", READER).status == 403
    assert _ask(router, "/cluster/v1/frontiers", None).status == 401
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["who"], line["outcome"].partition(":")[0]) for line in lines] == [
        ("ops", "OK"),
        ("ops", "NOT_FOUND"),
        ("reader", "PERMISSION_DENIED"),
        ("anonymous", "UNAUTHENTICATED"),
    ]
    assert lines[0]["what"] == "/controlplane.ClusterService/ListFrontiers count=3"
    assert (lines[0]["from"], lines[0]["via"], lines[0]["shown_by"]) == ("198.51.100.7:1234", "rest", "token")
    for line in lines:
        assert OPS.token not in json.dumps(line)


def test_what_peers_write_does_not_reach_the_terminal_of_who_reads_the_audit_log(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    rules = access(tokens=(OPS,), audit=str(file))
    table, _ = make_table(Clock(), access=rules)
    context = CallContext(table.methods[0], {}, "198.51.100.7:1234", "rest")
    hostile = "\x1b[2J\r\n\x9b1m\u202e\u2028\x00\ud800"
    rules.audit.done(context, rules.anonymous, None, RpcError(Status.FAILED_PRECONDITION, hostile))
    written = file.read_text()
    assert written.removesuffix("\n").isprintable()
    assert json.loads(written)["outcome"].startswith(f"FAILED_PRECONDITION: {hostile[:-1]}")


def test_refusals_of_strangers_do_not_fill_the_audit_log(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    rules = access(tokens=(OPS,), audit=str(file))
    for _ in range(1000):
        refusal(rules, context(), "act")
    assert len(file.read_text().splitlines()) == 20


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tokens: [{name: a, token: x, token_file: y, roles: [read]}]", "expected either token or token_file"),
        ("tokens: [{name: a, roles: [read]}]", "expected either token or token_file"),
        ("tokens: [{name: a, token: 'x y', roles: [read]}]", "printable ASCII without spaces"),
        ("tokens: [{name: a, token: secret0123456789}]", "roles: missing"),
        ("tokens: [{name: a, token: s, roles: [write]}]", "expected a list of read, act, call"),
        ("tokens: [{token: s, roles: [read]}]", "expected a name"),
        ("identities: [{name: a, subject: b, roles: [read]}]", "needs controlplane.listen.tls.enable"),
        ("anonymous: [auto, read]", "expected a list of read, act, call, or auto"),
    ],
)
def test_mistakes_in_the_configuration(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_frontier(f"controlplane: {{access: {{{text}}}}}")
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_list_without_roles_is_not_the_default() -> None:
    config: FrontierConfig = parse_frontier("controlplane: {access: {anonymous: []}}").config
    assert config.controlplane.access.anonymous == ()
    assert FrontierConfig().controlplane.access.anonymous == ("auto",)


def _acting(method: Any) -> Any:
    return replace(method, role="act")


def _ask(router: RestRouter, target: str, token: Token | None) -> Recorder:
    return ask(router, "GET", target, {"authorization": f"Bearer {token.token}"} if token else {})


def test_an_audit_log_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"access\.audit: cannot write"):
        access(audit=str(tmp_path / "file" / "audit.log"))
