"""Parameters that workers provide: which they are, and what is wrong with a signature that has one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from amqproxy.errors import ContractError
from amqproxy.handler import Call
from amqproxy.provided import check_provided, given_anyway, provided, without_provided


class Database: ...


class Replica(Database): ...


def split(function: Callable[..., Any], *kinds: Any) -> tuple[str, dict[str, Any]]:
    signature, wanted = without_provided(inspect.signature(function, eval_str=True), kinds, "f")
    return str(signature), wanted


def test_a_type_that_is_provided_is_dropped_wherever_it_stands() -> None:
    def function(db: Database, x: int, other: Database, *, y: int = 2, last: Database) -> None: ...

    assert split(function, Database, str) == (
        "(x: int, *, y: int = 2) -> None",
        {"db": Database, "other": Database, "last": Database},
    )
    assert split(function)[1] == {}


def test_a_marked_parameter_is_dropped_whatever_its_type_is() -> None:
    def function(x: int, db: Database | None = provided, y=provided) -> None: ...  # type: ignore[no-untyped-def]

    assert split(function) == ("(x: int) -> None", {"db": Database | None, "y": inspect.Parameter.empty})


def test_the_call_is_always_provided_and_its_children_are_not() -> None:
    class Child(Call): ...

    def function(call: Call, child: Child, calls: list[Call]) -> None: ...

    function.__annotations__["child"] = Child
    assert split(function)[1] == {"call": Call}


def test_types_are_compared_as_wholes() -> None:
    main = Annotated[Database, "main"]

    def function(a: Database, b: Replica, c: Annotated[Database, "main"], d: Annotated[int, {}]) -> None: ...

    assert split(function, Database)[1] == {"a": Database}
    assert split(function, main)[1] == {"c": main}
    assert split(function, Replica, Annotated[int, "x"])[1] == {"b": Replica}


def test_what_has_no_name_for_python_cannot_be_provided() -> None:
    def function(x: int, db: Database, /, y: int) -> None: ...

    assert split(function)[1] == {}
    with pytest.raises(ContractError, match=r"^f: db is provided, by its name: put it behind the /$"):
        split(function, Database)


def test_what_nothing_provides_is_told_with_the_cure() -> None:
    check_provided({"db": Database, "call": Call}, [Database], "f")
    check_provided({}, [], "f")
    with pytest.raises(ContractError, match=r"^f: nothing provides db; serve it with providers=\{Database: …\}, a "):
        check_provided({"call": Call, "db": Database}, [Replica], "f")
    with pytest.raises(ContractError, match=r"providers=\{list\[int\]: …\}"):
        check_provided({"db": list[int]}, [list[str]], "f")
    with pytest.raises(ContractError, match=r"providers=\{typing.Annotated\[int, \{\}\]: …\}"):
        check_provided({"db": Annotated[int, {}]}, [Database], "f")


def test_callers_leave_out_what_is_provided() -> None:
    assert given_anyway({"db": Database}, {"x": 1, "db": 2}) == (
        "db is provided by the worker, and callers leave it out"
    )
    assert given_anyway({"db": Database}, {"x": 1}) == ""
    assert given_anyway({}, {"x": 1}) == ""


def test_the_mark_says_what_it_is() -> None:
    assert repr(provided) == "provided"
