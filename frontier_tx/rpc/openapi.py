"""An OpenAPI 3.1 document of the REST interface, made from the methods that are served, so that it cannot lie."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from frontier_tx.rpc.contract import HttpBinding
from frontier_tx.rpc.exchange import HttpHeaders, RestRequest
from frontier_tx.rpc.methods import Method, MethodTable
from frontier_tx.rpc.rest import RestRouter

JSON, BYTES, EVENTS = "application/json", "application/octet-stream", "text/event-stream"
PATH = "/openapi.json"
_ERRORS = {
    "400": "A value does not fit.",
    "401": "A token or a client certificate is needed.",
    "403": "The caller may not do this.",
    "404": "It is not there.",
    "429": "Too much is under way; try again later.",
    "default": "The call failed.",
}
_BYTES_ERRORS = {
    "413": "The body is too large.",
    "422": "The receiver itself answered with an error; `reason` says which side it is.",
    "503": "The receiver went away meanwhile.",
    "504": "No answer came in time.",
}
_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: ("uint32", 0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: ("uint64", 0, 2**64 - 1),
}
_LONG = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


def serve(router: RestRouter, title: str, version: str) -> None:
    """Hand the document out at ``PATH``, to everybody."""
    document = json.dumps(describe(router.table, title, version), ensure_ascii=False).encode()

    def page(request: RestRequest) -> tuple[int, HttpHeaders, bytes]:
        return 200, [("Content-Type", JSON)], document

    router.page(PATH, page)


def describe(table: MethodTable, title: str, version: str) -> dict[str, Any]:
    """The document as plain values."""
    schemas = _Schemas()
    paths: dict[str, Any] = {}
    for method in table.entries:
        for binding in () if method.spec.client_streaming else method.spec.bindings:
            operations = paths.setdefault(binding.path, {})
            operations[binding.verb.lower()] = _operation(method, binding, schemas)
    schemas.of(table.contract.message("frontier.rest.Error").DESCRIPTOR)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": schemas.made,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(method: Method, binding: HttpBinding, schemas: _Schemas) -> dict[str, Any]:
    spec = method.spec
    raw = bool(binding.body or binding.response_body)
    errors = {**_ERRORS, **(_BYTES_ERRORS if raw else {})}
    if spec.server_streaming:
        content: dict[str, Any] = {EVENTS: {"schema": {"type": "string"}}}
    elif binding.response_body:
        content = {BYTES: {}, JSON: {}}
    else:
        content = {JSON: {"schema": schemas.of(spec.response.DESCRIPTOR)}}
    operation: dict[str, Any] = {
        "operationId": f"{spec.service.rpartition('.')[2]}_{spec.name}",
        "tags": [spec.service],
        "summary": (inspect.getdoc(method.handler) or "").partition("\n\n")[0],
        "x-role": method.role,
        "parameters": list(_parameters(spec.request.DESCRIPTOR, binding, raw)),
        "responses": {
            "200": {"description": "Done.", "content": content},
            **{
                status: {
                    "description": text,
                    "content": {JSON: {"schema": {"$ref": "#/components/schemas/frontier.rest.Error"}}},
                }
                for status, text in errors.items()
            },
        },
    }
    if binding.body:
        operation["requestBody"] = {"content": {BYTES: {}, JSON: {}}}
    return operation


def _parameters(request: Any, binding: HttpBinding, raw: bool) -> Iterator[dict[str, Any]]:
    for field in request.fields:
        if field.name == binding.body or field.message_type is not None or field.type == field.TYPE_BYTES:
            continue
        in_path = f"{{{field.name}}}" in binding.path
        schema = _scalar(field)
        if schema["type"] == "string" and in_path:
            schema["minLength"] = 1
        if field.is_repeated:
            schema = {"type": "array", "items": schema}
        where = "path" if in_path else "query"
        yield {"name": field.name, "in": where, "required": in_path, "schema": schema}
    if raw:
        text = "Time until the caller gives up, such as 500ms, 5s, 2m."
        schema = {"type": "string", "pattern": r"^[0-9]{1,6}(ms|s|m)$"}
        yield {"name": "timeout", "in": "query", "required": False, "description": text, "schema": schema}


def _scalar(field: Any) -> dict[str, Any]:
    """A value as it stands in a path or a query."""
    if field.cpp_type in _NUMBERS:
        name, low, high = _NUMBERS[field.cpp_type]
        return {"type": "integer", "format": name, "minimum": low, "maximum": high}
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return {"type": "boolean"}
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return {"type": "string", "enum": list(field.enum_type.values_by_name)}
    return {"type": "string"}


class _Schemas:
    """Schemas of messages as JSON, each made once."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}

    def of(self, descriptor: Any) -> dict[str, Any]:
        name = descriptor.full_name
        if name == "google.protobuf.Struct":
            return {"type": "object"}
        if name not in self.made:
            self.made[name] = {}
            self.made[name] = {
                "type": "object",
                "properties": {field.json_name: self._field(field) for field in descriptor.fields},
                "required": [field.json_name for field in descriptor.fields if not field.has_presence],
            }
        return {"$ref": f"#/components/schemas/{name}"}

    def _field(self, field: Any) -> dict[str, Any]:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self._value(field.message_type.fields_by_name["value"])}
        value = self._value(field)
        return {"type": "array", "items": value} if field.is_repeated else value

    def _value(self, field: Any) -> dict[str, Any]:
        if field.message_type is not None:
            return self.of(field.message_type)
        if field.cpp_type in _LONG:
            # Numbers of 64 bits are texts in JSON.
            return {"type": "string", "pattern": "^-?[0-9]+$", "format": _NUMBERS[field.cpp_type][0]}
        if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return {"type": ["number", "string"]}
        if field.type == field.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        return _scalar(field)
