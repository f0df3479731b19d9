"""Lists of a control plane, in pages of which none is lost when peers come and go meanwhile."""

from collections.abc import Iterator
from typing import Any

from frontier_tx.cli.control import PAGE, Control
from frontier_tx.cli.failures import Exit, Failure, fail

_FOREVER = 1 << 62


def pages(control: Control, kind: str, filters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every edge or service of a Frontier, the oldest first, each once.

    The next page begins at the time of the last record, not at a number: who leaves between two pages shifts nothing.

    :param kind: ``edges`` or ``services``.
    """
    key = "edge_id" if kind == "edges" else "service_id"
    size, since, seen = PAGE, 0, set[str]()
    while True:
        window = {"start_time": since, "end_time": _FOREVER} if since else {}
        asked = {"page": 1, "page_size": size, "order": "+create_time", **window, **filters}
        records, *_ = control.page(kind, f"/{kind}", **asked)
        for record in records:
            if record[key] not in seen:
                seen.add(record[key])
                yield record
        if len(records) < size:
            return
        last = int(records[-1]["create_time"])
        if last == since or (not since and int(records[0]["create_time"]) == last):
            # More have come in one second than fit on a page.
            size *= 2
        since = last
        seen = {record[key] for record in records if int(record["create_time"]) == last}


def steps(control: Control, kind: str, filters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every edge or service of a cluster, each once; what comes or goes meanwhile may be there or not."""
    cursor, seen = 0, set[tuple[Any, ...]]()
    searching = True
    while True:
        path = f"/{kind}/search" if searching else f"/{kind}"
        try:
            asked = filters if searching else {}
            records, _, cursor = control.page(kind, path, cursor=cursor, count=PAGE, **asked)
        except Failure as failure:
            if not searching or failure.code is not Exit.NOT_FOUND:
                raise
            # One that cannot search, such as the Go implementation.
            searching = False
            continue
        for record in records:
            identity = tuple(sorted((name, str(value)) for name, value in record.items() if name != "update_time"))
            if identity not in seen and (searching or _holds(record, filters)):
                seen.add(identity)
                yield record
        if not cursor:
            return


def _holds(record: dict[str, Any], filters: dict[str, Any]) -> bool:
    """Whether a record is what was asked for, where the server did not look."""
    for name in filters:
        if name not in record:
            fail(Exit.USAGE, f"this Frontlas cannot look for {name}: it is older than this command, or the Go one")
    return all(str(record[name]).startswith(str(text)) for name, text in filters.items())


def everything(control: Control, kind: str, filters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every edge or service of whatever the control plane belongs to."""
    return (steps if control.clustered else pages)(control, kind, filters)


def edges_of_meta(control: Control, meta: str) -> list[dict[str, Any]]:
    """The edges that have exactly this meta."""
    if control.clustered:
        return [edge for edge in steps(control, "edges", {"meta": meta}) if edge.get("meta") == meta]
    return [edge for edge in pages(control, "edges", {"meta": meta}) if edge.get("meta") == meta]


def identity(text: str) -> tuple[str, str]:
    """Split ``edge/42`` or ``service/7`` into kind and name; the kind is empty where it is not said."""
    kind, mark, name = text.partition("/")
    if not mark:
        return "", text
    if kind not in ("edge", "service") or not name:
        fail(Exit.USAGE, f"{text!r} is nobody: expected an ID, edge/ID or service/ID")
    return kind, name


def services_of_name(control: Control, name: str) -> list[dict[str, Any]]:
    """The services that have exactly this name."""
    return [each for each in everything(control, "services", {"service": name}) if each.get("service") == name]
