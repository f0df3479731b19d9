"""What single keys accept and refuse, and what is said about it."""

from __future__ import annotations

import contextlib
import re

import pytest

from frontier_tx.config import FrontierConfig, parse_frontier
from frontier_tx.errors import ConfigError


def config_of(text: str) -> FrontierConfig:
    return parse_frontier(text, "f.yaml").config


def problems_of(text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_frontier(text, "f.yaml")
    return caught.value.problems


KAFKA = "mqm: {kafka: {enable: true, addr: 'h:9092', producer: {topics: a, %s}}}"


def listening_on(value: str) -> str:
    return f"edgebound:\n  listen:\n    addr: {value}\n"


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        ("0.0.0.0:30012", "0.0.0.0", 30012),
        ("':30012'", "", 30012),
        ("localhost:0", "localhost", 0),
        ("'[::]:8'", "::", 8),
        ("'[fe80::1%eth0]:8'", "fe80::1%eth0", 8),
        ("10.0.0.1:030012", "10.0.0.1", 30012),
    ],
)
def test_addresses(value: str, host: str, port: int) -> None:
    listen = config_of(listening_on(value)).edgebound.listen
    assert (listen.host, listen.port) == (host, port)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("127.0.0.1", "the port is missing"),
        ("'127.0.0.1:'", "'' is not a port from 0 to 65535"),
        ("127.0.0.1:65536", "'65536' is not a port"),
        ("127.0.0.1:http", "'http' is not a port"),
        ("127.0.0.1:-1", "'-1' is not a port"),
        ("127.0.0.1:٣", "is not a port"),
        ("'::1:8'", "an IPv6 address needs brackets"),
        ("'[1.2.3.4]:8'", "'1.2.3.4' is not an IPv6 address"),
        ("'a b:8'", "'a b' is not a host name"),
        ("tcp://127.0.0.1:8", "IPv6 address needs brackets"),
    ],
)
def test_bad_addresses(value: str, why: str) -> None:
    (problem,) = problems_of(listening_on(value))
    assert problem.startswith("f.yaml:3: edgebound.listen.addr: ")
    assert why in problem
    assert problem.endswith("expected host:port, such as 0.0.0.0:30012 or [::]:30012")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "exchange: {hashby: round}",
            "f.yaml:1: exchange.hashby: round is not allowed; expected edgeid, srcip or random",
        ),
        (
            "limits:\n  call_seconds: soon",
            "f.yaml:2: limits.call_seconds: soon is not allowed; expected a number of seconds from 0.05 to 86400",
        ),
        (
            "limits: {call_seconds: '5'}",
            "f.yaml:1: limits.call_seconds: '5' is not allowed; expected a number of seconds from 0.05 to 86400",
        ),
        (
            "limits: {call_seconds: .inf}",
            "f.yaml:1: limits.call_seconds: .inf is not allowed; expected a number of seconds from 0.05 to 86400",
        ),
        (
            "limits: {frame_bytes: 1e6}",
            "f.yaml:1: limits.frame_bytes: 1e6 is not allowed; "
            "expected a whole number of bytes from 4096 to 1073741824",
        ),
        (
            "controlplane: {enable: 1}",
            "f.yaml:1: controlplane.enable: 1 is not allowed; expected true or false",
        ),
        (
            "controlplane: {enable: 'yes'}",
            "f.yaml:1: controlplane.enable: 'yes' is not allowed; expected true or false",
        ),
        ("edgebound: 5", "f.yaml:1: edgebound: 5 is not allowed; expected a section of keys"),
        ("log: [a, b]", "f.yaml:1: log: a list of 2 is not allowed; expected a section of keys"),
        ("- a", "f.yaml:1: the whole file: a list of 1 is not allowed; expected a section of keys"),
        ("log:\n  level: [info]", "f.yaml:2: log.level: a list of 1 is not allowed; "
                                  "expected debug, info, warn or error"),
        (
            "mqm: {redis: {password: {a: b}}}",
            "f.yaml:1: mqm.redis.password: a section of 1 keys is not allowed; expected text",
        ),
        (
            "mqm: {amqp: {exchanges: [{durable: maybe}]}}",
            "f.yaml:1: mqm.amqp.exchanges[0].durable: maybe is not allowed; expected true or false",
        ),
        (
            "mqm: {amqp: {queues: 3}}",
            "f.yaml:1: mqm.amqp.queues: 3 is not allowed; expected a list of sections",
        ),
        (
            'daemon: {frontier_id: "a\\nb"}',
            r"f.yaml:1: daemon.frontier_id: 'a\nb' is not allowed; "
            "expected text of up to 256 characters, no control characters",
        ),
    ],
)  # fmt: skip
def test_refused(text: str, problem: str) -> None:
    assert problems_of(text) == (problem,)


def test_udp_is_refused_with_the_reason() -> None:
    (problem,) = problems_of("edgebound: {listen: {network: udp}}")
    assert problem.startswith("f.yaml:1: edgebound.listen.network: udp is not allowed (frames need an ordered byte")


def test_every_mistake_is_listed() -> None:
    text = "edgebound:\n  listen:\n    addr: x\nexchange:\n  hashby: y\nlimits:\n  frame_bytes: -1\n"
    assert [problem.split(":")[1] for problem in problems_of(text)] == ["3", "5", "7"]


def test_a_long_value_is_shown_short() -> None:
    (problem,) = problems_of(f"exchange: {{hashby: {'x' * 5000}}}")
    assert len(problem) < 200


def test_secrets_stay_out_of_errors_and_of_repr() -> None:
    (problem,) = problems_of("mqm: {redis: {enable: true, addrs: 'h:1', db: -1, password: hunter2}}")
    assert "hunter2" not in problem
    assert "hunter2" not in repr(config_of("mqm: {redis: {password: hunter2}}"))


def test_given_twice() -> None:
    assert problems_of("log:\n  level: info\n  level: warn\n") == ("f.yaml:3: log.level: given twice, first in line 2",)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a: [1, 2\nb: 3", "f.yaml:2:2: not readable as YAML: while parsing a flow sequence did not find expected"),
        ("a: b: c", "f.yaml:1:5: not readable as YAML: mapping values are not allowed"),
        (b"\xff\xfe\x00\xd8", "f.yaml"),
        (b"a: \xc3\x28", "f.yaml: not readable as YAML"),
        ("a: \x00", "f.yaml: not readable as YAML"),
        ("a: 1\n--- \nb: 2", "f.yaml:2:1: not readable as YAML: expected a single document"),
        ("a: *b", "f.yaml:1:4: not readable as YAML: found undefined alias"),
        ("[" * 1000, "f.yaml:1: nested deeper than 64 levels"),
        ("#" * 2_000_000, "f.yaml: larger than 1048576 bytes"),
    ],
)
def test_not_yaml(text: str | bytes, start: str) -> None:
    (problem,) = problems_of(text)
    assert problem.startswith(start)
    assert "\n" not in problem


def test_nested_beyond_what_the_parser_takes() -> None:
    """libyaml 0.2.6 refuses so much before it tells of any level; earlier ones leave that to us."""
    (problem,) = problems_of("[" * 100_000)
    assert re.match(
        r"f\.yaml:1:(1001: not readable as YAML: .* maximum nesting| nested deeper than 64 levels)", problem
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "edgebound:\n", "edgebound: ~\nlog: {}\n", "log: {level: }\n"])
def test_nothing_said_means_defaults(text: str) -> None:
    config = config_of(text)
    assert config.edgebound.listen == FrontierConfig().edgebound.listen
    assert config.log == FrontierConfig().log


@pytest.mark.parametrize(("text", "given_out"), [
    (None, True),
    ("", True),
    ("daemon: {frontier_id: f}", True),
    ("edgebound: {listen: {addr: '127.0.0.1:1'}}", False),
    ("edgebound: {edgeid_alloc_when_no_idservice_on: no}", False),
    ("edgebound: {edgeid_alloc_when_no_idservice_on: yes}", True),
])  # fmt: skip
def test_ids_are_given_out_unless_a_file_speaks_of_edges_and_not_of_that(text: str | None, given_out: bool) -> None:
    assert parse_frontier(text).config.edgebound.edgeid_alloc_when_no_idservice_on is given_out


@pytest.mark.parametrize("value", ["['127.0.0.1:1', 'h:2']", "127.0.0.1:1, h:2", "\n      - 127.0.0.1:1\n      - h:2"])
@pytest.mark.parametrize("key", ["addr", "addrs"])
def test_addr_and_addrs_list_or_text(key: str, value: str) -> None:
    config = config_of(f"frontlas:\n  dial:\n    {key}: {value}\n")
    assert config.frontlas.dial.addrs == ("127.0.0.1:1", "h:2")


def test_the_preferred_spelling_wins_key_by_key() -> None:
    config = config_of(
        "control_plane: {enable: true, listen: {addr: '127.0.0.1:1', advertised_addr: 'a:1'}}\n"
        "controlplane: {listen: {addr: '127.0.0.1:2'}}\n"
        "mqm: {kafka: {producer: {idepotent: false, idempotent: true}}, amqp: {queueBindings: [{queue_name: q}],"
        " queues: {name: alone, exclustive: true}}}\n"
    )
    assert config.controlplane.enable
    assert config.controlplane.listen.addr == "127.0.0.1:2"
    assert config.controlplane.listen.advertised_addr == "a:1"
    assert config.mqm.kafka.producer.idempotent
    assert config.mqm.amqp.queuebindings[0].queue_name == "q"
    assert config.mqm.amqp.queues[0].exclusive


def test_texts_are_kept_as_they_are_written() -> None:
    config = config_of(
        "mqm: {redis: {password: 007}, nats: {producer: {subjects: [1.50, yes, 'a,b', '']}},"
        " amqp: {producer: {headers: {n: 7, f: 1.5, b: true, t: x, q: '7'}}}}"
    )
    assert config.mqm.redis.password == "007"
    assert config.mqm.nats.producer.subjects == ("1.50", "yes", "a,b", "")
    assert config.mqm.amqp.producer.headers == {"n": 7, "f": 1.5, "b": True, "t": "x", "q": "7"}


def test_zero_means_the_default_where_existing_files_have_it() -> None:
    config = config_of("mqm: {kafka: {producer: {required_acks: 0, timeout: 0}}}\nfrontlas: {metrics: {interval: 0}}")
    assert config.mqm.kafka.producer.required_acks == 1
    assert config.mqm.kafka.producer.timeout == 10
    assert config.frontlas.metrics.interval == 30


def test_merged_sections() -> None:
    config = config_of(
        "edgebound:\n  listen: &l\n    addr: 127.0.0.1:7\n    tls: {mtls: true}\n"
        "servicebound:\n  listen:\n    <<: *l\n    addr: 127.0.0.1:8\n"
    )
    assert config.servicebound.listen.addr == "127.0.0.1:8"
    assert config.servicebound.listen.tls.mtls


@pytest.mark.parametrize(
    "text",
    [
        "log: &a\n  file: *a\n",
        "log: &a\n  <<: *a\n  level: warn\n",
        "mqm: {amqp: {queues: &q [*q, *q]}}",
        "a: &a [x]\nb: &b [*a, *a]\nlog: {level: *b}",
    ],
)
def test_documents_that_refer_to_themselves_end(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse_frontier(text)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("edgbound: {}", "f.yaml:1: unknown key edgbound is ignored; did you mean edgebound?"),
        (
            "exchange:\n  hash_by: srcip",
            "f.yaml:2: unknown key exchange.hash_by is ignored; did you mean exchange.hashby?",
        ),
        ("log: {Level: warn}", "f.yaml:1: unknown key log.Level is ignored; did you mean log.level?"),
        ("zzzzzz: 1", "f.yaml:1: unknown key zzzzzz is ignored"),
        ('"a\\nb": 1', r"f.yaml:1: unknown key 'a\nb' is ignored"),
    ],
)
def test_unknown_keys_are_warnings(text: str, warning: str) -> None:
    assert parse_frontier(text, "f.yaml").warnings[0] == warning


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "edgebound: {listen: {addr: '0.0.0.0:30011'}}",
            "f.yaml: servicebound.listen.addr: 127.0.0.1:30011 collides with edgebound.listen.addr; "
            "give one of them another port",
        ),
        (
            "frontlas: {enable: true}",
            "f.yaml: frontlas.dial.addrs: missing; needed while frontlas.enable is true",
        ),
        (
            "edgebound: {bypass_enable: true}",
            "f.yaml: edgebound.bypass.addrs: missing; needed while edgebound.bypass_enable is true",
        ),
        (
            "edgebound: {listen: {tls: {enable: true}}}",
            "f.yaml: edgebound.listen.tls.certs: missing; needed while edgebound.listen.tls.enable is true",
        ),
        (
            "edgebound: {listen: {tls: {enable: true, certs: [{cert: a}]}}}",
            "f.yaml: edgebound.listen.tls.certs[0].key: missing; expected the path of a PEM file",
        ),
        (
            "mqm: {kafka: {enable: true, producer: {topics: a}}}",
            "f.yaml: mqm.kafka.addrs: missing; needed while mqm.kafka.enable is true",
        ),
        (
            KAFKA % "required_acks: 2",
            "f.yaml: mqm.kafka.producer.required_acks: 2: brokers know 1 and -1",
        ),
        (
            KAFKA % "compression: gzip, compression_level: 22",
            "f.yaml: mqm.kafka.producer.compression_level: 22: gzip has levels from 1 to 9, and 0 is its own default",
        ),
        (
            KAFKA % "flush: {frequency: 10}",
            "f.yaml: mqm.kafka.producer.flush.frequency: 10 s is not less than mqm.buffer.confirm_seconds (10 s)",
        ),
        (
            "mqm: {kafka: {enable: true, addr: 'h:9092', sasl: {mechanism: plain}, producer: {topics: a}}}",
            "f.yaml: mqm.kafka.sasl: mechanism and username are needed both, or neither",
        ),
        (
            "limits: {write_high_bytes: 40000000}",
            "f.yaml: limits.write_buffer_bytes: 33554432 is less than write_high_bytes (40000000)",
        ),
    ],
)
def test_keys_that_do_not_go_together(text: str, problem: str) -> None:
    assert problems_of(text) == (problem,)


def test_a_queue_without_topics_is_a_warning() -> None:
    loaded = parse_frontier("mqm: {nsq: {enable: true, addr: 'h:4150'}}", "f.yaml")
    assert loaded.warnings[-1] == "f.yaml: mqm.nsq.producer.topics lists no topic, so nothing goes to this queue"


def test_a_file_that_lets_no_edge_in_by_itself_says_so() -> None:
    key = "edgebound.edgeid_alloc_when_no_idservice_on"
    (warning,) = parse_frontier("edgebound: {listen: {addr: '127.0.0.1:1'}}", "f.yaml").warnings
    assert warning.startswith(f"f.yaml: {key} is not set, so edges get in only while a service registers get_edge_id")
    for text in ("true", "false", "null"):
        assert parse_frontier(f"edgebound: {{edgeid_alloc_when_no_idservice_on: {text}}}").warnings == ()
    for quiet in (None, "", "log: {level: info}"):
        assert parse_frontier(quiet).warnings == ()
