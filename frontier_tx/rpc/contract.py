"""A contract: messages and methods from an installed descriptor set, in a descriptor pool of its own.

Frontier and Frontlas use the same protobuf package and six equal message names with different fields, so generated
modules of both cannot be imported into one process; two pools can live side by side.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

_VERBS = ("get", "put", "post", "delete", "patch")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class HttpBinding:
    """One place of a method in the REST interface: a verb in capitals and a path such as ``/v1/edges/{edge_id}``.

    ``body`` and ``response_body`` are fields that travel as bodies.
    """

    verb: str
    path: str
    body: str = ""
    response_body: str = ""


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """One method of a contract; ``path`` is ``/package.Service/Method``."""

    service: str
    name: str
    path: str
    request: Any
    response: Any
    client_streaming: bool
    server_streaming: bool
    bindings: tuple[HttpBinding, ...]

    @property
    def unary(self) -> bool:
        """Whether one request gets one response."""
        return not (self.client_streaming or self.server_streaming)

    @property
    def handler_name(self) -> str:
        """The name in snake case, with abbreviations as one word: ``ListEdgeRPCs`` is ``list_edge_rpcs``."""
        return _WORDS.sub("_", self.name).lower()


class Contract:
    """The messages and services of one descriptor set."""

    def __init__(self, descriptor_set: bytes) -> None:
        self.pool = DescriptorPool()
        self.files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        for proto in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file:
            self.pool.AddSerializedFile(proto.SerializeToString())
            self.files[proto.name] = proto
        self._rule: Any = self.pool.FindExtensionByName("google.api.http")
        self._options: Any = message_factory.GetMessageClass(
            self.pool.FindMessageTypeByName("google.protobuf.MethodOptions")
        )
        # Makes the class known to the pool before a rule is read.
        message_factory.GetMessageClass(self.pool.FindMessageTypeByName("google.api.HttpRule"))

    def message(self, full_name: str) -> Any:
        """The class of a message; raises ``KeyError`` when there is none of this name."""
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(full_name))

    def enum(self, full_name: str) -> dict[str, int]:
        """Names and numbers of an enumeration; raises ``KeyError`` when there is none of this name."""
        return {value.name: value.number for value in self.pool.FindEnumTypeByName(full_name).values}

    def service(self, full_name: str) -> ServiceDescriptor:
        """The descriptor of a service; raises ``KeyError`` when there is none of this name."""
        descriptor: ServiceDescriptor = self.pool.FindServiceByName(full_name)
        return descriptor

    def methods(self, service: str) -> Iterator[MethodSpec]:
        """The methods of a service in the order of their declaration."""
        for method in self.service(service).methods:
            yield self._spec(service, method)

    def method(self, service: str, name: str) -> MethodSpec:
        """One method; raises ``KeyError`` when the service has none of this name."""
        return self._spec(service, self.service(service).methods_by_name[name])

    def _spec(self, service: str, method: MethodDescriptor) -> MethodSpec:
        return MethodSpec(
            service=service,
            name=method.name,
            path=f"/{service}/{method.name}",
            request=message_factory.GetMessageClass(method.input_type),
            response=message_factory.GetMessageClass(method.output_type),
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
            bindings=tuple(self._bindings(method)),
        )

    def _bindings(self, method: MethodDescriptor) -> Iterator[HttpBinding]:
        # The options come in a class of the default pool, which does not know the extension of this one.
        options = self._options.FromString(method.GetOptions().SerializeToString())
        if not options.HasExtension(self._rule):
            return
        rule = options.Extensions[self._rule]
        for one in (rule, *rule.additional_bindings):
            verb = one.WhichOneof("pattern")
            if verb in _VERBS:
                yield HttpBinding(verb.upper(), getattr(one, verb), one.body, one.response_body)


def load(name: str) -> Contract:
    """A new contract from an installed descriptor set; ``name`` is ``frontier`` or ``frontlas``."""
    return Contract((files("frontier_tx.rpc") / "protos" / f"{name}.binpb").read_bytes())


@cache
def frontier_contract() -> Contract:
    """What one Frontier serves."""
    return load("frontier")


@cache
def frontlas_contract() -> Contract:
    """What Frontlas serves."""
    return load("frontlas")
