"""Calls and messages by the control plane, for who reaches no other port."""

from collections.abc import Iterable

from frontier_tx.cli.control import segment
from frontier_tx.cli.session import Session


def call_through(session: Session, edge_id: int, method: str, data: bytes, timeout: float) -> bytes:
    """Call an edge; the control plane has a little longer than the edge."""
    control = session.control
    control.seconds = timeout + 5
    _, answer = control.raw("POST", f"/edges/{edge_id}/rpcs/{segment(method)}", {"timeout": _written(timeout)}, data)
    return answer


def publish_through(session: Session, edge_id: int, messages: Iterable[bytes], topic: str, timeout: float) -> int:
    """Publish to an edge; return how many messages it acknowledged."""
    control, sent = session.control, 0
    control.seconds = timeout + 5
    for data in messages:
        control.raw("POST", f"/edges/{edge_id}/messages", {"topic": topic, "timeout": _written(timeout)}, data)
        sent += 1
    return sent


def _written(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
