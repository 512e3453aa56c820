"""Parameters of a handler that its worker provides: no caller sends them, and none needs to know of them."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from .errors import ContractError

ALWAYS_PROVIDED = "__amqproxy_provided__"
"""An attribute of classes, true for those that every worker provides without being told."""


class _Provided:
    """The default of parameters that no caller sends: `db: Database = amqproxy.provided`.

    The worker hands them to the handler, from the providers that it is given. See `amqproxy.providers`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "provided"


provided: Any = _Provided()


def without_provided(
    signature: inspect.Signature, kinds: Iterable[Any], title: str
) -> tuple[inspect.Signature, dict[str, Any]]:
    """The signature as callers see it, and the parameters that the worker provides, with their types.

    These are the parameters of one of these `kinds`, those that are marked, and those for what is always provided.
    """
    known, sent, wanted = [*kinds], [], {}
    for parameter in signature.parameters.values():
        kind = parameter.annotation
        if not (parameter.default is provided or kind in known or _always(kind)):
            sent.append(parameter)
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            raise ContractError(f"{title}: {parameter.name} is provided, by its name: put it behind the /")
        else:
            wanted[parameter.name] = kind
    return signature.replace(parameters=sent), wanted


def check_provided(wanted: Mapping[str, Any], kinds: Iterable[Any], title: str) -> None:
    """ContractError if one of these parameters has a type that is not among the `kinds` that are provided."""
    known = [*kinds]
    for name, kind in wanted.items():
        if kind not in known and not _always(kind):
            wanted_type = kind.__qualname__ if isinstance(kind, type) else kind
            cure = f"serve it with providers={{{wanted_type}: …}}, a function that makes one, or the thing itself"
            raise ContractError(f"{title}: nothing provides {name}; {cure}")


def given_anyway(wanted: Collection[str], given: Iterable[str]) -> str:
    """What is wrong if a caller gives one of these parameters; nothing if it does not."""
    names = [name for name in given if name in wanted]
    return f"{names[0]} is provided by the worker, and callers leave it out" if names else ""


def _always(kind: Any) -> bool:
    return isinstance(kind, type) and vars(kind).get(ALWAYS_PROVIDED) is True
