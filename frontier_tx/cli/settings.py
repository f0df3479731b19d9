"""Where the servers are, and how a command proves who it is: options, then the environment, then a context."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn
from urllib.parse import urlsplit

from frontier_tx.cli.contexts import KEYS, Contexts, contexts_path
from frontier_tx.cli.failures import Exit, fail

#: Variable of the environment for each setting.
ENVIRONMENT = {key: "FRONTIER_" + key.upper() for key in (*KEYS, "context")}
ENVIRONMENT |= {"frontlas": "FRONTIER_FRONTLAS_ADDR"}

#: A door of a server: the port where none is given, and what it is called in a sentence.
DOORS = {
    "control": (30010, "the control plane"),
    "service": (30011, "the gateway's port for services"),
    "edge": (30012, "the gateway's port for edges"),
    "frontlas": (40011, "Frontlas"),
}


@dataclass(frozen=True, slots=True)
class Address:
    """A door: host and port, or the path of a Unix socket as host with port 0; TLS or not."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Settings:
    """What the options, the environment and the contexts say together.

    A context that an option names comes before the environment, as it was asked for.

    :param options: what was given on the command line, by the names of ``contexts.KEYS`` and ``context``.
    """

    def __init__(self, options: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> None:
        self._options = {key: value for key, value in options.items() if value is not None}
        self._environment = {
            key: environment[name] for key, name in ENVIRONMENT.items() if environment.get(name) is not None
        }

    @cached_property
    def contexts(self) -> Contexts:
        """The user's contexts."""
        return Contexts(contexts_path())

    @cached_property
    def context(self) -> str:
        """The name of the context in use; empty: none."""
        return str(self._options.get("context") or self._environment.get("context") or self.contexts.current)

    @cached_property
    def _layers(self) -> list[Mapping[str, Any]]:
        entry = self.contexts.get(self.context) if self.context else {}
        if "context" in self._options:
            return [self._options, entry, self._environment]
        return [self._options, self._environment, entry]

    def get(self, key: str) -> Any:
        """One setting; None where nobody said anything."""
        for layer in self._layers:
            if layer.get(key) not in (None, ""):
                return layer[key]
        return None

    def flag(self, key: str) -> bool:
        """One setting that is yes or no."""
        value = self.get(key)
        if isinstance(value, str):
            if value.lower() in ("1", "true", "yes", "on", "0", "false", "no", "off"):
                return value.lower() in ("1", "true", "yes", "on")
            fail(Exit.USAGE, f"{ENVIRONMENT.get(key, key)}: {value!r} is neither yes nor no")
        return bool(value)

    @property
    def clustered(self) -> bool:
        """Whether Frontlas is meant, and so a cluster."""
        for layer in self._layers:
            if layer.get("frontlas"):
                return True
            if layer.get("server") or layer.get("control_addr") or layer.get("service_addr"):
                return False
        return False

    def address(self, door: str) -> Address:
        """Where a door is: its own setting, or the server's host with the usual port.

        ``--server HOST:PORT`` names the very door that the command needs.
        """
        own = door if door == "frontlas" else f"{door}_addr"
        for layer in self._layers:
            for key in (own, "server"):
                if layer.get(key):
                    return self._parsed(str(layer[key]), door)
        return self._parsed("127.0.0.1", door)

    def _parsed(self, text: str, door: str) -> Address:
        scheme, mark, rest = text.partition("://")
        rest = rest.rstrip("/") if mark else text
        if (mark and scheme not in ("tcp", "tls", "http", "https")) or not rest:
            _no_address(text)
        tls = scheme in ("tls", "https") if mark else self.secure
        if rest.startswith("unix:"):
            return Address(rest, 0, False)
        if rest.count(":") > 1 and not rest.startswith("["):
            rest = f"[{rest}]"
        try:
            parts = urlsplit(f"//{rest}")
            port = DOORS[door][0] if parts.port is None else parts.port
        except ValueError:
            _no_address(text)
        if parts.netloc != rest or "@" in rest or not port:
            _no_address(text)
        return Address(parts.hostname or "127.0.0.1", port, tls)

    @property
    def secure(self) -> bool:
        """Whether doors whose addresses do not say so speak TLS."""
        return self.flag("tls") or any(self.get(key) for key in ("ca", "cert", "key")) or self.flag("insecure")

    def tls(self) -> ssl.SSLContext:
        """The context of TLS for all doors."""
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.flag("insecure"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            if self.get("ca"):
                context = context if self.flag("insecure") else ssl.create_default_context(cafile=self.get("ca"))
            if self.get("cert"):
                context.load_cert_chain(self.get("cert"), self.get("key"), password=self._no_passphrase)
            elif self.get("key"):
                fail(Exit.USAGE, "--key goes with --cert, the certificate that it belongs to")
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(self.get(key)) for key in ("ca", "cert", "key") if self.get(key))
            fail(Exit.USAGE, f"cannot use the TLS files {files}: {error.strerror or error}")
        return context

    def _no_passphrase(self) -> str:
        fail(Exit.USAGE, f"the key {self.get('key') or self.get('cert')} wants a passphrase; it has to be a plain one")

    @property
    def token(self) -> str:
        """The bearer token; empty: none."""
        for layer in self._layers:
            if layer.get("token"):
                return str(layer["token"]).strip()
            if layer.get("token_file"):
                try:
                    with open(layer["token_file"]) as file:
                        return file.read(65536).strip()
                except (OSError, UnicodeDecodeError) as error:
                    fail(Exit.USAGE, f"cannot read the token file {layer['token_file']}: {error}")
        return ""

    def timeout(self, default: float) -> float:
        """Seconds that the command may take."""
        value = self.get("timeout")
        return default if value is None else seconds(value)


def seconds(value: object) -> float:
    """Return a time as people write it (``5``, ``5s``, ``500ms``, ``2m``) in seconds; Failure where it is none."""
    text = str(value).strip()
    for unit, size in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)):
        if text.endswith(unit):
            try:
                found = float(text.removesuffix(unit)) * size
            except ValueError:
                break
            if 0 < found <= 10_000_000:
                return found
            break
    return fail(Exit.USAGE, f"{text!r} is no time: expected a number above 0 with ms, s, m or h, such as 5s")


def _no_address(text: str) -> NoReturn:
    fail(Exit.USAGE, f"{text!r} is no address: expected HOST, HOST:PORT, tls://HOST:PORT or unix:/PATH")
