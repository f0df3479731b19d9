"""Named servers: a file in the user's configuration folder, readable by nobody else since it may hold tokens."""

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from frontier_tx.cli.failures import Exit, fail

#: What a context may say; the options of the same names say it for one command.
KEYS = (
    "server", "control_addr", "service_addr", "edge_addr", "frontlas",
    "token", "token_file", "tls", "ca", "cert", "key", "insecure", "timeout",
)  # fmt: skip


def contexts_path() -> Path:
    """``FRONTIER_CONTEXTS``, or ``frontier/contexts.yaml`` in the XDG folder."""
    named = os.environ.get("FRONTIER_CONTEXTS")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(home) / "frontier" / "contexts.yaml"


class Contexts:
    """The file: ``current``, and ``contexts`` by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.current = ""
        self.entries: dict[str, dict[str, Any]] = {}
        #: What its reader should know, such as that others can read it.
        self.warning = ""
        try:
            text = path.read_text()
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            fail(Exit.USAGE, f"cannot read the contexts in {path}: {error}")
        self._take(text)
        if stat.S_IMODE(path.stat().st_mode) & 0o077 and any("token" in entry for entry in self.entries.values()):
            self.warning = f"others can read the tokens in {path}: chmod 600 {path}"

    def _take(self, text: str) -> None:
        import yaml

        try:
            found = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            fail(Exit.USAGE, f"{self.path} is no YAML: {' '.join(str(error).split())}")
        entries = found.get("contexts", {}) if isinstance(found, dict) else None
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            fail(Exit.USAGE, f"{self.path}: expected `contexts:` with a name and settings each")
        for name, entry in entries.items():
            strange = sorted(str(key) for key in entry if key not in KEYS)
            if strange:
                known = ", ".join(KEYS)
                fail(Exit.USAGE, f"{self.path}: context {name} has an unknown key {strange[0]}; known are {known}")
            self.entries[str(name)] = entry
        self.current = str(found.get("current") or "")

    def get(self, name: str) -> dict[str, Any]:
        """One context; Failure where there is none of this name."""
        if name not in self.entries:
            known = ", ".join(sorted(self.entries)) or "none yet"
            fail(Exit.USAGE, f"there is no context {name!r}; there are: {known}. `frontier context add` makes one")
        return self.entries[name]

    def write(self) -> None:
        """Replace the file in one step; nobody else can read it."""
        import yaml

        content: dict[str, Any] = {"contexts": self.entries}
        if self.current:
            content = {"current": self.current, **content}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        name = None
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkstemp makes it with mode 600.
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".contexts")
            with os.fdopen(handle, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except OSError as error:
            if name is not None and os.path.exists(name):
                os.unlink(name)
            fail(Exit.USAGE, f"cannot write {self.path}: {error.strerror or error}")
