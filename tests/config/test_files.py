"""Files that ship with the project, files of other origin, and texts of no meaning at all."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from frontier_tx.config import FrontierConfig, load_frontier, parse_frontier
from frontier_tx.config.loading import Loaded
from frontier_tx.config.render import HIDDEN, effective, to_mapping
from frontier_tx.config.schema import keys_of, spelling_of
from frontier_tx.errors import ConfigError
from frontlas_tx.config import FrontlasConfig, load_frontlas, parse_frontlas

ROOT = Path(__file__).resolve().parents[2]


def test_full_files_hold_every_key_and_the_defaults() -> None:
    frontier = load_frontier(str(ROOT / "configs" / "frontier_all.yaml"), {})
    frontlas = load_frontlas(str(ROOT / "configs" / "frontlas_all.yaml"), {"REDIS_TYPE": "standalone"})
    assert frontier.config == FrontierConfig()
    assert (frontier.warnings, frontlas.warnings) == ((), ())
    assert dataclasses.replace(frontlas.config.redis, mode="") == FrontlasConfig().redis
    for name, defaults in (("frontier", FrontierConfig()), ("frontlas", FrontlasConfig())):
        written = yaml.safe_load((ROOT / "configs" / f"{name}_all.yaml").read_text())
        assert written == to_mapping(defaults)


def test_short_files_differ_only_where_they_say_so() -> None:
    frontier = load_frontier(str(ROOT / "configs" / "frontier.yaml"), {}).config
    assert frontier.edgebound.listen.addr == "0.0.0.0:30012"
    assert frontier.servicebound.listen.addr == "0.0.0.0:30011"
    assert frontier.controlplane == dataclasses.replace(FrontierConfig().controlplane, enable=True)
    said = dict.fromkeys(("edgebound", "servicebound", "controlplane"), 0)
    assert to_mapping(frontier) | said == to_mapping(FrontierConfig()) | said
    frontlas = load_frontlas(str(ROOT / "configs" / "frontlas.yaml"), {}).config
    assert (frontlas.registry, frontlas.redis.mode) == ("redis", "standalone")
    assert frontlas.frontier_plane.expiration.edge_life == 86_400


def test_generated_files_are_up_to_date() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "write-configuration-docs"))["written"]()
    for path, text in written.items():
        assert path.read_text() == text, f"{path.name} is stale; run scripts/write-configuration-docs"


def test_what_is_in_effect_loads_again_and_hides_secrets() -> None:
    text = "mqm: {redis: {password: hunter2}}\nedgebound: {listen: {tls: {certs: [{cert: a, key: b}]}}}"
    config = parse_frontier(text).config
    shown = effective(config)
    assert "hunter2" not in shown
    again = parse_frontier(shown)
    assert again.warnings == ()
    assert again.config.mqm.redis.password == HIDDEN
    assert dataclasses.replace(again.config, mqm=config.mqm) == config


#: Empty and zero everywhere, as generated samples of Frontier for Go have it, with the spellings used there.
SAMPLES: list[dict[str, Any]] = [
    {
        "daemon": {"rlimit": {"enable": False, "nofile": 1024}, "pprof": {"enable": True, "cpu_profile_rate": 0}},
        "edgebound": {
            "listen": {"network": "tcp", "addr": "0.0.0.0:1", "advertised_addr": "", "tls": {"ca_certs": None}},
            "bypass": {"addrs": ["10.0.0.1:8443"], "tls": {"enable": True, "mtls": True, "ca_certs": ["x"]}},
            "bypass_enable": False,
            "edgeid_alloc_when_no_idservice_on": True,
        },
        "exchange": {"hashby": ""},
        "dao": {"backend": "buntdb", "debug": False},
        "frontlas": {"enable": False, "dial": {"network": "tcp", "addrs": ["127.0.0.1:2"]}, "metrics": {"interval": 0}},
        "mqm": {
            "kafka": {"addrs": None, "producer": {"idempotent": False, "timeout": 0, "flush": {"bytes": 0}}},
            "amqp": {"queueBindings": None, "exchanges": None, "heartbeat": 0, "producer": {"headers": None}},
        },
    },
    {
        "mqm": {},
        "servicebound": {"listen": {"network": "", "addr": ""}},
        "edgebound": {"edgeid_alloc_when_no_idservice_on": False},
    },
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_of_other_origin_load_without_a_warning(sample: dict[str, Any]) -> None:
    assert parse_frontier(yaml.safe_dump(sample)).warnings == ()


def test_a_frontlas_sample_of_other_origin() -> None:
    sample = {
        "frontier_manager": {"listen": {"network": "tcp", "addr": "0.0.0.0:1"}, "expiration": {"edge_meta": 0}},
        "daemon": {"rlimit": {"enable": False, "num_file": 1024}},
        "redis": {
            "mode": "standalone", "protocol": 0, "max_retries": 0, "pool_size": 0, "dial_timeout": 0,
            "disable_indentity": False, "standalone": {"addr": "", "network": ""}, "sentinel": {"addrs": None},
            "cluster": {"max_redirects": 0},
        },
    }  # fmt: skip
    loaded = parse_frontlas(yaml.safe_dump(sample))
    assert loaded.warnings == ()
    assert loaded.config.daemon.rlimit.nofile == 1024
    assert loaded.config.redis == dataclasses.replace(FrontlasConfig().redis, mode="standalone", protocol=0)


def names_of(cls: type[Any]) -> set[str]:
    found = set()
    for name, key in keys_of(cls):
        found |= {spelling_of(name), *key.aliases}
        inner = key.items or (type(getattr(cls(), name)) if key.kind is None else None)
        if inner is not None:
            found |= names_of(inner)
    return found


NAMES = [*sorted(names_of(FrontierConfig) | names_of(FrontlasConfig)), "<<", "x"]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["127.0.0.1:1", "tcp", "redis", "standalone", "1e400", "-0", "0x", "0b_", "2001-99-99", ":1"]),
    st.binary(max_size=4),
)
TREES = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | VALUES, inner, max_size=6),
    max_leaves=30,
)


def loads_or_says_why(text: str | bytes) -> None:
    for parse in (parse_frontier, parse_frontlas):
        loaded: Loaded[Any] | None = None
        problems: tuple[str, ...] = ()
        try:
            loaded = parse(text, "f.yaml")
        except ConfigError as error:
            problems = error.problems
        assert bool(problems) != bool(loaded)
        for line in (*problems, *(loaded.warnings if loaded else ())):
            assert line.isprintable()
        if loaded:
            assert parse(effective(loaded.config)).warnings == ()


@given(TREES)
def test_any_document_is_a_configuration_or_a_config_error(tree: Any) -> None:
    loads_or_says_why(yaml.safe_dump(tree, allow_unicode=True))


@given(st.text() | st.text("{}[]:,-&*#?|>'\"%@`!<~ \n\tab01.", max_size=60) | st.binary())
def test_any_text_is_a_configuration_or_a_config_error(text: str | bytes) -> None:
    loads_or_says_why(text)


A_NAME = st.sampled_from(NAMES)


@given(A_NAME, A_NAME, A_NAME, st.text("{}[]0123456789:.,-_eExbo+ny~'", max_size=12))
def test_any_scalar_at_any_key(first: str, second: str, third: str, value: str) -> None:
    loads_or_says_why(f"{first}:\n  {second}:\n    {third}: {value}\n")
