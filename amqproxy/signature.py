"""The parameters of a function, and the fields of a message class, as types that a codec can read and write."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union

import msgspec

from .blob import Blob
from .errors import ContractError
from .messages import form_of

_Field = tuple[str, Any, bool]
"""Name, type, whether it may be left out."""


def signature_of(function: Any, title: str) -> inspect.Signature:
    """The signature with its annotations resolved; ContractError, which calls the function `title`, if it has none."""
    try:
        hints = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    except Exception as error:
        raise ContractError(
            f"an annotation of {title} cannot be resolved: {error}. Annotations must be names of its module"
        ) from error
    try:
        raw = inspect.signature(function)
    except ValueError as error:
        reason = "does not take self" if inspect.ismethod(function) else f"has no signature: {error}"
        raise ContractError(f"{title} {reason}") from error
    for parameter in raw.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ContractError(
                f"{title} takes *{parameter.name}, which a contract cannot describe; "
                "name its parameters, or take one list or dict"
            )
    parameters = [p.replace(annotation=_bare(hints.get(p.name, Any))) for p in raw.parameters.values()]
    return inspect.Signature(parameters, return_annotation=_bare(hints.get("return", inspect.Signature.empty)))


def _bare(annotation: Any) -> Any:
    """A generated message without what is noted beside it; msgspec reads the notes on other types."""
    inner = _without_notes(annotation)
    return inner if form_of(inner) != "plain" else annotation


def _without_notes(annotation: Any) -> Any:
    while typing.get_origin(annotation) is typing.Annotated or isinstance(annotation, typing.NewType):
        is_new = isinstance(annotation, typing.NewType)
        annotation = annotation.__supertype__ if is_new else typing.get_args(annotation)[0]
    return annotation


_STREAMS = (AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator)


@dataclass(frozen=True, slots=True)
class Streamed:
    """What is not one value: a stream of items, or of the chunks of a Blob."""

    kind: Literal["items", "chunks"]
    item: Any
    """The type of one item."""


def streamed(annotation: Any) -> Streamed | None:
    """What kind of stream an annotation means; None for one value."""
    annotation = _without_notes(annotation)
    if annotation is Blob:
        return Streamed("chunks", bytes)
    if (typing.get_origin(annotation) or annotation) not in _STREAMS:
        return None
    return Streamed("items", _bare((*typing.get_args(annotation), Any)[0]))


def arguments_types(name: str, parameters: list[inspect.Parameter]) -> tuple[Any, Any]:
    """The parameters as a Struct, and as one that is read from an array.

    A parameter with a default may be left out: then it stays unset, is not sent, and the handler's own default holds.
    """
    fields = [(p.name, p.annotation, p.default is not p.empty) for p in parameters]
    by_name = any(p.kind is p.KEYWORD_ONLY for p in parameters)  # then what may be left out need not come last
    return _struct(name, fields, kw_only=by_name), _by_position(name, parameters)


def message_by_position(kind: Any) -> Any:
    """A message's fields as a Struct read from an array, for callers that know SERVICE.METHOD but not the class.

    None for messages that are arrays themselves, and for those with a field that must be named.
    """
    if hasattr(kind, "model_fields"):  # a pydantic model, which checks its fields itself
        return _array(kind.__name__, [(n, Any, not f.is_required()) for n, f in kind.model_fields.items()])
    info = msgspec.inspect.type_info(kind)
    if not isinstance(info, _KEYED) or getattr(info, "array_like", False):
        return None
    if isinstance(info, msgspec.inspect.TypedDictType):
        hints = typing.get_type_hints(kind)
        return _array(kind.__name__, [(f.name, hints[f.name], not f.required) for f in info.fields])
    hints = typing.get_type_hints(kind, include_extras=True)
    names = {field.alias: field.name for field in getattr(kind, "__attrs_attrs__", ())}
    parameters = inspect.signature(kind).parameters.values()
    typed = [p.replace(annotation=hints.get(names.get(p.name, p.name), Any)) for p in parameters]
    return _by_position(kind.__name__, typed)


_KEYED = (msgspec.inspect.StructType, msgspec.inspect.DataclassType, msgspec.inspect.TypedDictType)


def _by_position(name: str, parameters: list[inspect.Parameter]) -> Any:
    """Parameters as an array; None if one must be named."""
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters):
        return None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return _array(name, [(p.name, p.annotation, p.default is not p.empty) for p in positional])


def _array(name: str, fields: list[_Field]) -> Any:
    """Fields as a Struct read from an array, in which only the last ones can be left out."""
    if not all(field.isidentifier() for field, _, _ in fields):
        return None
    return _struct(
        name,
        [(field, kind, all(o for _, _, o in fields[place:])) for place, (field, kind, _) in enumerate(fields)],
        array_like=True,
    )


def _struct(name: str, fields: list[_Field], *, array_like: bool = False, kw_only: bool = False) -> Any:
    members: list[Any] = [
        (field, Union[kind, msgspec.UnsetType], msgspec.UNSET) if optional else (field, kind)  # noqa: UP007
        for field, kind, optional in fields
    ]
    return msgspec.defstruct(name, members, forbid_unknown_fields=True, array_like=array_like, kw_only=kw_only)
