"""Services that every gRPC tool expects: health, reflection in both versions, and kratos' metadata."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from google.protobuf import descriptor_pb2
from twisted.internet.defer import Deferred

from frontier_tx.rpc.context import CallContext
from frontier_tx.rpc.contract import Contract
from frontier_tx.rpc.methods import MethodTable
from frontier_tx.rpc.status import RpcError, Status

REFLECTION = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
NOT_FOUND_TEXT = "proto:\u00a0not found"
"""The reference's parser separates with a no-break space."""


class Serving:
    """Whether a server can do its job, and who wants to hear of changes."""

    def __init__(self, serving: bool = True) -> None:
        self._serving = serving
        self._waiting: set[Deferred[None]] = set()

    @property
    def serving(self) -> bool:
        """The state now."""
        return self._serving

    def set(self, serving: bool) -> None:
        """Change the state; watchers hear of it if it is another one."""
        if serving == self._serving:
            return
        self._serving = serving
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            waiter.callback(None)

    async def follow(self) -> AsyncIterator[bool]:
        """The state now and each later one; a slow reader misses what came and went meanwhile."""
        last: bool | None = None
        while True:
            if last != self._serving:
                last = self._serving
                yield last
            else:
                waiter: Deferred[None] = Deferred()
                self._waiting.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiting.discard(waiter)


class HealthService:
    """``grpc.health.v1.Health``: the server as a whole, under the empty name; it knows no other."""

    def __init__(self, contract: Contract, serving: Serving) -> None:
        self._response = contract.message("grpc.health.v1.HealthCheckResponse")
        self._status = contract.enum("grpc.health.v1.HealthCheckResponse.ServingStatus")
        self._serving = serving

    def _of(self, serving: bool) -> Any:
        return self._response(status=self._status["SERVING" if serving else "NOT_SERVING"])

    def check(self, request: Any, context: CallContext) -> Any:
        """The state now; NOT_FOUND for a named service."""
        if request.service:
            raise RpcError(Status.NOT_FOUND, "unknown service")
        return self._of(self._serving.serving)

    async def watch(self, request: Any, context: CallContext) -> AsyncIterator[Any]:
        """The state now and its changes; of a named service one SERVICE_UNKNOWN, and the stream stays open."""
        if request.service:
            yield self._response(status=self._status["SERVICE_UNKNOWN"])
            await Deferred()
        async for serving in self._serving.follow():
            # One change wakes everybody who follows.
            await context.turn()
            yield self._of(serving)


class ReflectionService:
    """``ServerReflection`` of one version over the contract of a table."""

    def __init__(self, table: MethodTable, package: str) -> None:
        self._table = table
        self._contract = table.contract
        self._response = table.contract.message(f"{package}.ServerReflectionResponse")

    async def server_reflection_info(self, requests: AsyncIterator[Any], context: CallContext) -> AsyncIterator[Any]:
        """One answer per question, in order."""
        async for request in requests:
            response = self._response(valid_host=request.host, original_request=request)
            try:
                self._answer(request, response)
            except (KeyError, TypeError):
                response.error_response.error_code = Status.NOT_FOUND
                response.error_response.error_message = NOT_FOUND_TEXT
            yield response

    def _answer(self, request: Any, response: Any) -> None:
        pool: Any = self._contract.pool
        question = request.WhichOneof("message_request")
        if question == "list_services":
            for name in self._table.services:
                response.list_services_response.service.add(name=name)
        elif question == "file_by_filename":
            self._files(request.file_by_filename, response)
        elif question == "file_containing_symbol":
            self._files(self._file_of(request.file_containing_symbol), response)
        elif question == "file_containing_extension":
            asked = request.file_containing_extension
            extended = pool.FindMessageTypeByName(asked.containing_type)
            self._files(pool.FindExtensionByNumber(extended, asked.extension_number).file.name, response)
        elif question == "all_extension_numbers_of_type":
            extended = pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
            answer = response.all_extension_numbers_response
            answer.base_type_name = extended.full_name
            answer.extension_number.extend(sorted(field.number for field in pool.FindAllExtensions(extended)))
        else:
            response.error_response.error_code = Status.INVALID_ARGUMENT
            response.error_response.error_message = "the request holds no question"

    def _file_of(self, symbol: str) -> str:
        try:
            name: str = self._contract.pool.FindFileContainingSymbol(symbol).name
        except KeyError:
            # The pool knows no methods by name.
            service, _, method = symbol.rpartition(".")
            name = self._contract.service(service).methods_by_name[method].containing_service.file.name
        return name

    def _files(self, name: str, response: Any) -> None:
        found = [file.SerializeToString() for file in closure(self._contract, name)]
        response.file_descriptor_response.file_descriptor_proto.extend(found)


class MetadataService:
    """``kratos.api.Metadata`` over the contract of a table."""

    def __init__(self, table: MethodTable) -> None:
        self._table = table
        self._list = table.contract.message("kratos.api.ListServicesReply")
        self._desc = table.contract.message("kratos.api.GetServiceDescReply")

    def list_services(self, request: Any, context: CallContext) -> Any:
        """Names of services and paths of methods."""
        return self._list(services=self._table.services, methods=sorted(method.path for method in self._table.methods))

    def get_service_desc(self, request: Any, context: CallContext) -> Any:
        """The files that describe one service."""
        if request.name not in self._table.services:
            raise RpcError(Status.NOT_FOUND, f"service {request.name} not found")
        response = self._desc()
        for file in closure(self._table.contract, self._table.contract.service(request.name).file.name):
            response.file_desc_set.file.add().ParseFromString(file.SerializeToString())
        return response


def closure(contract: Contract, name: str) -> Iterator[descriptor_pb2.FileDescriptorProto]:
    """A file of the contract and, after it, all that it imports; raises ``KeyError`` for an unknown name."""
    seen = {name: contract.files[name]}
    queue = [name]
    while queue:
        file = seen[queue.pop(0)]
        yield file
        for imported in file.dependency:
            if imported not in seen:
                seen[imported] = contract.files[imported]
                queue.append(imported)


def add_standard_services(table: MethodTable, serving: Serving) -> None:
    """Serve health, reflection and metadata beside what the table serves otherwise."""
    table.add("grpc.health.v1.Health", HealthService(table.contract, serving), "open")
    table.add("kratos.api.Metadata", MetadataService(table), "read")
    for package in REFLECTION:
        table.add(f"{package}.ServerReflection", ReflectionService(table, package), "read")
