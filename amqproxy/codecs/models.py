"""The keys of dictionaries and sets in pydantic models, which pydantic reads in ways of its own: "1_0" is a 10.

It goes on after a value that is wrong, too. So what a value would be as a key is asked of pydantic itself: of the part
of the model's schema that reads the key (https://docs.pydantic.dev/latest/internals/architecture/).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

Keys = Callable[[Sequence[Any]], Sequence[Any]]
"""What values of JSON are when they are read as keys, without those that cannot be; it raises if reading ends there."""

_SALTED = frozenset(
    (
        *("str", "bytes", "bool", "none", "date", "time", "datetime", "timedelta", "enum", "literal", "url"),
        *("multi-host-url", "nullable", "union", "tagged-union", "tuple", "frozenset", "default"),
    )
)
"""Of schemas: those of keys whose hashes nobody can choose, if they are made of such alone."""
_QUICK = _SALTED | {"int", "float", "decimal"}
"""Those of keys that are compared without code in Python."""
_BESIDE = frozenset(("config", "default", "expected", "metadata", "serialization"))
"""What a schema holds that is no schema for reading."""
_encoder = msgspec.json.Encoder(decimal_format="number")


def keys_in(models: Iterable[Any]) -> tuple[list[Keys], list[Keys], bool]:
    """How to read the keys of dictionaries, and the members of sets, whose hashes can be chosen; one for each kind.

    And whether code in Python compares some of them.
    """
    keys: dict[str, Keys] = {}
    members: dict[str, Keys] = {}
    slow = False
    for model in models:
        schema = _schema_of(model)
        shared = [one for node, _ in _nodes(schema, None) for one in node.get("definitions", ())]
        for node, config in _nodes(schema, None):
            key = node.get("keys_schema")
            if key is not None and not _is_of(_SALTED, key):
                slow = slow or not _is_of(_QUICK, key)
                keys.setdefault(repr((key, config)), _of_keys(key, config, shared))
            if node.get("type") in ("set", "frozenset"):
                member = node.get("items_schema", {"type": "any"})
                if not _is_of(_SALTED, member):
                    slow = slow or not _is_of(_QUICK, member)
                    members.setdefault(repr((member, config)), _of_members(member, config, shared))
    return list(keys.values()), list(members.values()), slow


def _schema_of(model: Any) -> Any:
    """Pydantic's schema of a model; None for another class that reads JSON by itself."""
    schema = getattr(model, "__pydantic_core_schema__", None)
    if schema is not None and not isinstance(schema, dict):  # one that waits for a class that was made later
        model.model_rebuild(raise_errors=False)
        schema = model.__pydantic_core_schema__
    return schema


def _nodes(schema: Any, config: Any) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """All schemas in one, itself among them, each with the settings of the model that it is in."""
    waiting = [(schema, config)]
    while waiting:
        node, config = waiting.pop()
        if isinstance(node, dict):
            config = node.get("config", config)
            if isinstance(node.get("type"), str):
                yield node, config
            waiting += [(inner, config) for name, inner in node.items() if name not in _BESIDE]
        elif isinstance(node, (list, tuple)):
            waiting += [(inner, config) for inner in node]


def _is_of(kinds: Collection[str], schema: Any) -> bool:
    """Whether a schema is made of these alone."""
    return all(node["type"] in kinds for node, _ in _nodes(schema, None))


def _of_members(schema: Any, config: Any, shared: list[Any]) -> Keys:
    read = _reading(schema, config, shared)

    def keys_of(values: Sequence[Any]) -> list[Any]:
        return list(filter(_has_hash, read(_encoder.encode(values))))

    return keys_of


def _of_keys(schema: Any, config: Any, shared: list[Any]) -> Keys:
    """Keys of JSON are text, which even strict models read as numbers: so each is read in an object of its own."""
    read = _reading({"type": "dict", "keys_schema": schema}, config, shared)

    def keys_of(values: Sequence[Any]) -> list[Any]:
        return [key for one in read(_encoder.encode([{value: None} for value in values])) for key in one]

    return keys_of


def _reading(schema: Any, config: Any, shared: list[Any]) -> Callable[[bytes], list[Any]]:
    """How to read an array of values, and leave out those that are wrong."""
    from pydantic_core import SchemaValidator, core_schema

    whole = core_schema.list_schema(core_schema.with_default_schema(_without_refs(schema), on_error="omit"))
    if shared:
        whole = core_schema.definitions_schema(whole, shared)  # type: ignore[assignment]
    read: Callable[[bytes], list[Any]] = SchemaValidator(whole, config).validate_json
    return read


def _without_refs(schema: Any) -> Any:
    """A copy without names, each of which may be given once only; to those of copies nothing refers."""
    if isinstance(schema, dict):
        return {name: one if name in _BESIDE else _without_refs(one) for name, one in schema.items() if name != "ref"}
    if isinstance(schema, (list, tuple)):
        return type(schema)(map(_without_refs, schema))
    return schema


def _has_hash(value: Any) -> bool:
    try:
        hash(value)
    except Exception:  # of a list, or what the code of a class raises
        return False
    return True
