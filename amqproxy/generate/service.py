"""A contract as a client in another language sees it."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import inspect as described

from ..contract import Contract, Method
from ..errors import ContractError
from ..messages import form_of
from ..options import CallOptions
from .shapes import Choice, Record, Shape, Shapes, described_types, is_empty_default


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method."""

    name: str
    shape: Shape
    required: bool
    keyword_only: bool
    is_empty: bool
    """Whether it is an empty list, object or text when it is left out."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of the service."""

    name: str
    doc: str
    request_class: str
    parameters: tuple[Parameter, ...]
    is_message: bool
    """Whether its only parameter travels as the whole body, under the name of its class."""
    result: Shape
    timeout: float
    """Seconds."""

    @property
    def required(self) -> tuple[Parameter, ...]:
        """The parameters that must be given."""
        return tuple(each for each in self.parameters if each.required)

    @property
    def optional(self) -> tuple[Parameter, ...]:
        """The parameters that may be left out, for their defaults in Python."""
        return tuple(each for each in self.parameters if not each.required)


@dataclass(frozen=True, slots=True)
class Service:
    """A service: where it is called, and what can be called."""

    name: str
    queue: str
    doc: str
    operations: tuple[Operation, ...]
    named: Mapping[str, Record | Choice]
    left_out: Mapping[str, str]
    """Methods that JSON cannot call, and why."""


def service_of(contract: Contract, doc: str = "", *, queue: str | None = None) -> Service:
    """The service of a contract; ContractError if JSON can call none of its methods."""
    left_out = {name: reason for name, method in contract.methods.items() if (reason := _not_for_json(method))}
    methods = [method for name, method in contract.methods.items() if name not in left_out]
    if not methods:
        raise ContractError(f"{contract.title} has no method that JSON can call: {'; '.join(left_out.values())}")
    nodes = iter(_described(methods))
    shapes = Shapes()
    operations = tuple(_operation(method, nodes, shapes) for method in methods)
    queue = queue or contract.options.queue or contract.name
    return Service(contract.name, queue, doc, operations, shapes.named, left_out)


def _described(methods: list[Method]) -> list[described.Type]:
    """All types of the methods, in the order in which `_operation` wants them; ContractError if one has no form."""
    try:
        return described_types([kind for method in methods for kind in _kinds(method)])
    except Exception as error:  # annotations of classes are evaluated here, which may raise anything
        if len(methods) > 1:
            for method in methods:
                _described([method])  # which tells whose type it was
        raise ContractError(f"{methods[0].title}: a type of it cannot be described: {error}") from error


def _kinds(method: Method) -> Iterator[Any]:
    for parameter in method.signature.parameters.values():
        yield parameter.annotation
    yield method.result_type


def _operation(method: Method, nodes: Iterator[described.Type], shapes: Shapes) -> Operation:
    parameters = tuple(
        Parameter(
            each.name,
            shapes.of(next(nodes)),
            required=each.default is each.empty or method.takes_message,
            keyword_only=each.kind is each.KEYWORD_ONLY,
            is_empty=is_empty_default(each.default),
        )
        for each in method.signature.parameters.values()
    )
    return Operation(
        name=method.name,
        doc=method.doc,
        request_class=method.request_class,
        parameters=parameters,
        is_message=method.takes_message,
        result=shapes.of(next(nodes)),
        timeout=method.options.timeout or CallOptions().timeout,
    )


def _not_for_json(method: Method) -> str | None:
    """Why a method cannot be called with JSON, or None if it can be."""
    for kind in _kinds(method):
        for part in _parts(kind):
            if (form := form_of(part)) != "plain":
                return f"{method.name} takes or returns {part.__name__}, a {form} message"
    return None


def _parts(kind: Any) -> Iterator[Any]:
    """A type and those in its brackets."""
    yield kind
    for inner in typing.get_args(kind):
        yield from _parts(inner)
