"""From the registry's records and errors to the messages and errors of the cluster plane."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from frontier_tx.rpc.contract import Contract
from frontier_tx.rpc.status import RpcError, Status
from frontlas_tx.registry.errors import RegistryError, RegistryUnavailableError
from frontlas_tx.registry.records import EdgeRecord, FrontierRecord, ServiceRecord

NOT_FOUND_TEXT = "redis: nil"
"""What clients know as the text for something that is not there."""
MAX_CURSOR = 2**32 - 1


class Answers:
    """Makes messages; a record that is None becomes a blank message."""

    def __init__(self, contract: Contract) -> None:
        self._frontier = contract.message("controlplane.Frontier")
        self._edge = contract.message("controlplane.Edge")
        self._service = contract.message("controlplane.Service")

    def frontier(self, record: FrontierRecord | None) -> Any:
        """A ``Frontier``, with the spelling of its service address that lists must show."""
        if record is None:
            return self._frontier()
        return self._frontier(
            frontier_id=record.frontier_id,
            advertised_sb_addr=record.listed_sb_addr,
            advertised_eb_addr=record.advertised_eb_addr,
        )

    def edge(self, record: EdgeRecord | None) -> Any:
        """An ``Edge``."""
        if record is None:
            return self._edge()
        return self._edge(
            edge_id=record.edge_id,
            addr=record.addr,
            update_time=max(0, record.update_time),
            frontier_id=record.frontier_id,
        )

    def service(self, record: ServiceRecord | None) -> Any:
        """A ``Service``."""
        if record is None:
            return self._service()
        return self._service(
            service=record.service,
            addr=record.addr,
            update_time=max(0, record.update_time),
            frontier_id=record.frontier_id,
        )


def with_address(record: FrontierRecord) -> FrontierRecord:
    """A Frontier that holds an edge, as one that can be dialled.

    :raises RpcError: FAILED_PRECONDITION, it advertises no address; clients dial whatever they are given.
    """
    if record.advertised_sb_addr:
        return record
    raise RpcError(
        Status.FAILED_PRECONDITION,
        f"frontier {record.frontier_id}, which holds the edge, advertises no address for services; "
        "set servicebound.listen.advertised_addr there",
    )


def not_found() -> RpcError:
    """Nothing is there under the identity asked for."""
    return RpcError(Status.NOT_FOUND, NOT_FOUND_TEXT)


@contextmanager
def registry_errors() -> Iterator[None]:
    """Inside, failures of the registry become ``RpcError``: UNAVAILABLE while its store is away, else
    RESOURCE_EXHAUSTED, as all that can be wrong with a question is that there are too many."""
    try:
        yield
    except RegistryUnavailableError as error:
        raise RpcError(Status.UNAVAILABLE, str(error)) from error
    except RegistryError as error:
        raise RpcError(Status.RESOURCE_EXHAUSTED, str(error)) from error
