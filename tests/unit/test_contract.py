"""Contracts: what is read from classes and functions, and that a call through one is a local call."""

# No `from __future__ import annotations`: annotations of classes in functions must be real here.
# ruff: noqa: UP045  (Optional[X] and X | None are different things to look at)
import abc
import enum
import functools
import inspect
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, NewType, Optional, Protocol, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.blob import Blob
from amqproxy.contract import (
    Contract,
    Feed,
    Method,
    MethodOptions,
    contract_of,
    method,
    serve,
)
from amqproxy.errors import ConnectionLost, ContractError, RemoteError
from amqproxy.messages import class_name, message, message_name
from amqproxy.options import ServeOptions
from amqproxy.provided import provided
from amqproxy.signature import Streamed
from tests.idl.person_pb2 import Person as ProtobufPerson
from tests.idl.person_thrift.ttypes import Person as ThriftPerson

NOTHING: AsyncIterator[int] = aiter(Blob(b""))  # type: ignore[arg-type]  # it has no items

examples = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

T = TypeVar("T")
UNSET = msgspec.UNSET


@message("com.example.Demo$AddRequest")
@dataclass
class AddRequest:
    x: int
    y: int = 2


@message("com.example.Demo$AddResponse")
@dataclass
class AddResponse:
    sum: int


class Subclassed(AddRequest):
    pass


@message("com.example.Demo$Special")
@dataclass
class Special(AddRequest):
    z: int = 3


@message
class Point(TypedDict):
    x: int
    y: int


@message
class Named(NamedTuple):
    x: int
    y: int = 2


class Outer:
    @message
    @dataclass
    class Inner:
        x: int


@serve("calculator", queue="sums", durable=False)
class Calculator:
    limit: ClassVar[int] = 10

    def add(self, x: int, y: int = 2) -> int:
        """Add two numbers."""
        return x + y

    async def divide(self, x: float, /, *, by: float) -> float:
        return x / by

    @staticmethod
    def double(x: int) -> int:
        return 2 * x

    @classmethod
    def name_of(cls, x: int) -> str:
        return f"{cls.__name__} {x}"


class MessageCalculator:
    async def add(self, request: AddRequest) -> AddResponse:
        return AddResponse(request.x + request.y)


def only(target: Any) -> Method:
    """The one method of a contract."""
    (found,) = contract_of(target).methods.values()
    return found


def of(function: Any) -> Method:
    """The contract of a static function, which is quick to write down."""
    return only(type("Service", (), {function.__name__: staticmethod(function)}))


def through(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function as its contract does."""
    made = of(function)
    return made.call(function, made.bind(args, kwargs))


# What is read


def test_a_described_class_has_its_name_its_options_and_its_public_methods() -> None:
    contract = contract_of(Calculator)
    assert contract.name == "calculator"
    assert contract.title == "Calculator"
    assert contract.options == ServeOptions(queue="sums", durable=False)
    assert list(contract.methods) == ["add", "divide", "double", "name_of"]
    assert not contract.is_function


def test_a_class_without_a_description_is_called_by_its_own_name() -> None:
    contract = contract_of(MessageCalculator)
    assert (contract.name, contract.options, contract.errors) == ("MessageCalculator", ServeOptions(), ())


def test_an_instance_has_the_contract_of_its_class() -> None:
    assert contract_of(Calculator()).methods.keys() == contract_of(Calculator).methods.keys()
    assert contract_of(Calculator()).name == "calculator"


def test_the_service_may_be_called_by_another_name() -> None:
    contract = contract_of(Calculator, name="sums")
    assert contract.name == "sums"
    assert contract.methods["add"].request_class == "sums.add"
    assert contract.options.queue == "sums"
    assert contract_of(Calculator).name == "calculator"


def test_a_function_is_a_service_with_one_method() -> None:
    @serve("adder")
    async def add(x: int, y: int) -> int:
        return x + y

    contract = contract_of(add)
    assert contract.is_function
    assert (contract.name, list(contract.methods)) == ("adder", ["add"])
    assert contract.methods["add"].request_class == "adder.add"
    assert contract.methods["add"].bind((1,), {"y": 2}) == contract.methods["add"].request_type(1, 2)


def test_a_function_without_a_description_is_called_by_its_own_name() -> None:
    def add(x: int) -> int:
        return x

    assert contract_of(add).name == "add"


def test_a_bound_method_is_a_function_without_self() -> None:
    calculator = Calculator()
    found = only(calculator.add)
    assert list(found.signature.parameters) == ["x", "y"]
    assert found.call(calculator.add, found.bind((1,), {})) == 3


def test_a_bound_class_method_is_a_function_without_cls() -> None:
    found = only(Calculator.name_of)
    assert found.call(Calculator.name_of, found.bind((1,), {})) == "Calculator 1"


def test_a_builtin_function_is_a_service_if_it_has_a_signature() -> None:
    found = only(len)
    assert found.call(len, found.bind(([1, 2],), {})) == 2
    with pytest.raises(ContractError, match="max"):
        contract_of(max)


def test_a_method_says_what_it_is() -> None:
    found = contract_of(Calculator).methods["add"]
    assert found.name == "add"
    assert found.title == "Calculator.add(x: int, y: int = 2) -> int"
    assert (found.request_class, found.reply_class) == ("calculator.add", "calculator.add.Reply")
    assert found.alias == "calculator.add"
    assert found.result_type is int
    assert found.doc == "Add two numbers."
    assert found.options == MethodOptions()
    assert (found.takes_message, found.optional, found.keyword_only) == (False, True, ())
    assert list(found.signature.parameters) == ["x", "y"]


def test_what_has_no_annotation_may_be_anything() -> None:
    class Service:
        def echo(self, value):  # type: ignore[no-untyped-def]
            return value

    found = only(Service)
    assert found.result_type is Any
    assert found.signature.parameters["value"].annotation is Any
    assert found.doc == ""


def test_a_result_of_none_is_declared_as_such() -> None:
    def forget(x: int) -> None: ...

    assert of(forget).result_type is type(None)


def test_static_and_class_methods_lose_only_cls() -> None:
    methods = contract_of(Calculator).methods
    assert list(methods["double"].signature.parameters) == ["x"]
    assert list(methods["name_of"].signature.parameters) == ["x"]
    assert methods["double"].call(Calculator().double, methods["double"].bind((2,), {})) == 4
    assert methods["name_of"].call(Calculator().name_of, methods["name_of"].bind((2,), {})) == "Calculator 2"


def test_only_public_functions_are_served() -> None:
    def free(self: Any, x: int) -> int:
        return x

    class Callable_:
        def __call__(self, x: int) -> int:
            return x

    class Service:
        constant = 5
        borrowed = free
        partial = functools.partial(free, None)
        instance = Callable_()
        builtin = len
        short = lambda self, x: x  # noqa: E731

        class Nested:
            def method(self) -> None: ...

        class Colour(enum.Enum):
            RED = 1

        def __init__(self) -> None: ...

        def __call__(self, x: int) -> int:
            return x

        def _private(self) -> None: ...

        def __mangled(self) -> None: ...

        def __dunder__(self) -> None: ...

        @property
        def value(self) -> int:
            return 5

        @functools.cached_property
        def cached(self) -> int:
            return 5

        @functools.lru_cache  # noqa: B019
        def remembered(self) -> int:
            return 5

        def public(self) -> None: ...

    assert sorted(contract_of(Service).methods) == ["borrowed", "public", "short"]


def test_methods_of_bases_are_served_and_those_of_object_are_not() -> None:
    class Base:
        def one(self, x: int) -> int:
            return x

        def two(self) -> None: ...

    class Mixin:
        def two(self, of: str) -> None: ...

        def three(self) -> None: ...

    class Service(Base, Mixin):  # type: ignore[misc]
        def one(self, x: str) -> str:  # type: ignore[override]
            return x

        def four(self) -> None: ...

    contract = contract_of(Service)
    assert sorted(contract.methods) == ["four", "one", "three", "two"]
    assert contract.methods["one"].result_type is str
    assert list(contract.methods["two"].signature.parameters) == [], "Base comes before Mixin"


@pytest.mark.parametrize(
    "override", [property(lambda self: 1), None, 5, functools.cached_property(lambda self: 1), len, int]
)
def test_a_method_that_a_subclass_overrides_with_something_else_is_not_served(override: Any) -> None:
    class Base:
        def one(self) -> None: ...

        def two(self) -> None: ...

    assert list(contract_of(type("Service", (Base,), {"one": override})).methods) == ["two"]


def test_a_subclass_of_a_described_class_keeps_the_description_unless_it_has_its_own() -> None:
    class Faster(Calculator):
        pass

    @serve("other")
    class Other(Calculator):
        pass

    assert contract_of(Faster).name == "calculator"
    assert contract_of(Other).name == "other"
    assert contract_of(Calculator).name == "calculator"


def test_protocols_abstract_classes_and_generic_classes_are_contracts() -> None:
    class Adding(Protocol):
        async def add(self, x: int) -> int: ...

    class Implementation(Adding):
        async def add(self, x: int) -> int:
            return x

    class Abstract(abc.ABC):
        @abc.abstractmethod
        async def add(self, x: int) -> int: ...

    class Store(Generic[T]):
        def keep(self, item: T) -> list[T]:
            return [item]

    assert list(contract_of(Adding).methods) == ["add"]
    assert list(contract_of(Implementation).methods) == ["add"]
    assert list(contract_of(Abstract).methods) == ["add"]
    assert list(contract_of(Store).methods) == ["keep"]


@pytest.mark.parametrize("target", [object, object(), None, 5, type("Empty", (), {}), functools.partial(len), inspect])
def test_what_has_no_public_methods_cannot_be_served(target: Any) -> None:
    with pytest.raises(ContractError, match="no public methods"):
        contract_of(target)


def test_a_decorated_method_has_the_signature_of_what_it_wraps() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return run

    class Service:
        @logged
        def add(self, x: int) -> int:
            return x

    assert list(only(Service).signature.parameters) == ["x"]
    assert only(Service).result_type is int


def test_a_decorator_may_declare_another_signature() -> None:
    def with_database(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(self: Any, x: int) -> Any:
            return function(self, "the database", x)

        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", "x")]
        )
        return run

    class Service:
        @with_database
        def get(self, database: str, x: int) -> str:
            return f"{database} {x}"

    found = only(Service)
    assert list(found.signature.parameters) == ["x"]
    assert found.call(Service().get, found.bind((1,), {})) == "the database 1"


def test_annotations_may_be_strings_and_refer_to_what_comes_later() -> None:
    class Service:
        def add(self, x: "int", later: "Later | None") -> "list[Later]":
            return []

    found = only(Service)
    assert found.signature.parameters["x"].annotation is int
    assert found.result_type == list[Later]


@dataclass
class Later:
    x: int


def test_annotated_types_keep_their_limits() -> None:
    def take(x: Annotated[int, msgspec.Meta(ge=1)]) -> None: ...

    assert of(take).signature.parameters["x"].annotation == Annotated[int, msgspec.Meta(ge=1)]


# What is refused


def test_an_annotation_that_cannot_be_resolved_is_refused_by_name() -> None:
    class Service:
        def add(self, x: "Nowhere") -> int:  # type: ignore[name-defined]  # noqa: F821
            return 1

    with pytest.raises(ContractError, match=r"Service\.add .*'Nowhere' is not defined"):
        contract_of(Service)


def test_a_message_whose_annotation_cannot_be_resolved_is_refused() -> None:
    @message
    @dataclass
    class Broken:
        x: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    def take(request: Broken) -> None: ...

    with pytest.raises(ContractError, match="Nowhere"):
        of(take)


@pytest.mark.parametrize("annotation", [ClassVar[int], Generic])
def test_an_annotation_that_is_no_type_of_a_parameter_is_refused(annotation: Any) -> None:
    def take(x: Any = 1) -> None: ...

    take.__annotations__["x"] = annotation
    with pytest.raises(ContractError, match="take"):
        of(take)


@pytest.mark.parametrize("unnamed", ["*numbers: int", "**named: int", "x, *rest", "*, x=1, **rest"])
def test_parameters_without_number_or_name_are_refused(unnamed: str) -> None:
    function = compiled(unnamed)
    with pytest.raises(ContractError, match="cannot describe"):
        of(function)


def test_a_generator_is_a_stream_of_what_it_is_annotated_to_yield() -> None:
    def count(to: int) -> Iterator[int]:
        yield to

    async def count_later(to: int) -> AsyncIterator[int]:
        yield to

    async def anything() -> Any:
        yield 1

    for generator in (count, count_later):
        method = of(generator)
        assert (method.stream, method.result_type) == (Streamed("items", int), int)
    assert of(anything).stream == Streamed("items", Any)


def test_an_asynchronous_iterator_as_the_result_is_a_stream_whatever_makes_it() -> None:
    def count(to: int) -> AsyncIterator[int]:
        return NOTHING

    async def fetch(name: str) -> Blob:
        return Blob(b"")

    assert of(count).stream == Streamed("items", int)
    assert of(fetch).stream == Streamed("chunks", bytes)


def test_a_generator_that_is_annotated_as_something_else_is_refused() -> None:
    async def count(to: int) -> int:  # type: ignore[misc]  # which is the point
        yield to

    async def fetch() -> Blob:  # type: ignore[misc]  # as above
        yield b""

    with pytest.raises(ContractError, match="its result is annotated as AsyncIterator"):
        of(count)
    with pytest.raises(ContractError, match="yield bytes as AsyncIterator"):
        of(fetch)


def test_a_parameter_may_be_a_stream_and_is_not_part_of_the_request() -> None:
    async def upload(name: str, data: Blob) -> int:
        return 0

    method = of(upload)
    assert method.feed == Feed("data", Streamed("chunks", bytes))
    assert method.request_type.__struct_fields__ == ("name",)
    source = object()
    assert method.without_feed(("x",), {"data": source}) == (source, (), {"name": "x"})
    assert method.bind((), {"name": "x"}) == method.request_type(name="x")
    with pytest.raises(ContractError, match="missing a required argument: 'data'"):
        method.without_feed(("x",), {})


def test_a_stream_may_come_beside_a_message() -> None:
    @message("Upload")
    @dataclass
    class Upload:
        name: str

    async def upload(request: Upload, data: AsyncIterator[int]) -> int:
        return 0

    method = of(upload)
    assert method.request_class == "Upload"
    given = method.without_feed((Upload("x"), "items"), {})
    assert method.bind(*given[1:]) == Upload("x")


def test_a_call_has_one_stream_to_the_worker_which_must_be_given() -> None:
    async def two(a: AsyncIterator[int], b: Blob) -> int:
        return 0

    async def optional(a: AsyncIterator[int] = NOTHING) -> int:
        return 0

    async def positional(a: AsyncIterator[int], /) -> int:
        return 0

    with pytest.raises(ContractError, match="a and b are streams"):
        of(two)
    for function in (optional, positional):
        with pytest.raises(ContractError, match="can neither be positional-only nor have a default"):
            of(function)


def test_a_method_without_self_is_refused() -> None:
    class Service:
        def add() -> None: ...  # type: ignore[misc]

    class Keyword:
        def add(*, self: Any) -> None: ...

    for kind in (Service, Keyword):
        with pytest.raises(ContractError, match="does not take self"):
            contract_of(kind)


@pytest.mark.parametrize("wrapped", [int, type, functools.partial(int, base=2), max])
def test_a_static_method_of_something_without_a_signature_is_no_reason_for_another_error(
    wrapped: Any,
) -> None:
    class Service:
        def public(self) -> None: ...

        odd = staticmethod(wrapped)

    try:
        contract = contract_of(Service)
    except ContractError as error:
        assert "odd" in str(error)
    else:
        assert "public" in contract.methods


def test_two_methods_for_one_message_are_refused() -> None:
    class Service:
        def add(self, request: AddRequest) -> int:
            return 1

        def subtract(self, request: AddRequest) -> int:
            return 1

    with pytest.raises(ContractError, match=r"add and subtract both take com\.example\.Demo\$AddRequest"):
        contract_of(Service)


def test_a_message_that_is_named_like_another_method_is_refused() -> None:
    @message("calculator.subtract")
    @dataclass
    class Confusing:
        x: int

    @serve("calculator")
    class Service:
        def add(self, request: Confusing) -> int:
            return 1

        def subtract(self, x: int) -> int:
            return 1

    with pytest.raises(ContractError, match=r"add and subtract both take calculator\.subtract"):
        contract_of(Service)


def test_a_message_that_is_named_like_its_own_method_is_taken() -> None:
    @message("calculator.add")
    @dataclass
    class Plain:
        x: int

    @serve("calculator")
    class Service:
        def add(self, request: Plain) -> int:
            return 1

    assert list(contract_of(Service).by_class()) == ["calculator.add"]


@pytest.mark.parametrize("size", [240, 250, 255])
def test_names_that_are_too_long_for_the_wire_are_refused_when_the_contract_is_read(size: int) -> None:
    try:
        found = only(serve("s" * size)(type("Service", (), {"add": lambda self: None})))
    except ContractError as error:
        assert "add" in str(error)
        assert size + len(".add.Reply") > 255
    else:
        assert max(map(len, (found.request_class, found.reply_class, found.alias))) <= 255


def test_parameters_named_unlike_any_identifier_of_ours_are_carried() -> None:
    names = [
        "self_",
        "cls",
        "args",
        "kwargs",
        "handler",
        "request",
        "type",
        "name",
        "_",
        "_x",
        "größe",
        "ªb",
        "T",
    ]
    function = compiled(", ".join(names))
    assert through(function, *range(len(names))) == tuple(range(len(names)))
    named = {inspect_name: place for place, inspect_name in enumerate(inspect.signature(function).parameters)}
    assert through(function, **named) == tuple(range(len(names)))


def test_a_static_method_may_have_a_parameter_named_self() -> None:
    def odd(self: int, cls: int) -> tuple[int, int]:
        return self, cls

    assert through(odd, 1, cls=2) == (1, 2)
    assert through(odd, **{"self": 1, "cls": 2}) == (1, 2)


# Describing


def test_describing_changes_nothing_else_and_returns_the_same() -> None:
    class Service:
        def add(self) -> None: ...

    function = Service.add
    assert method(timeout=1)(function) is function
    before = set(vars(Service))
    assert serve("service")(message("m.Name")(Service)) is Service
    assert {name.startswith("__amqproxy_") for name in set(vars(Service)) - before} == {True}


@pytest.mark.parametrize("name", ["", None, 5, b"bytes", "x" * 256, "ü" * 128, "a\nb", "a\x00b", "\udc80"])
def test_a_name_that_cannot_go_over_the_wire_is_refused(name: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        serve(name)
    if name is not None:  # which means: the class's own name
        with pytest.raises((TypeError, ValueError)):
            contract_of(Calculator, name=name)
        with pytest.raises((TypeError, ValueError)):
            message(name)


@pytest.mark.parametrize("name", ["x", "x" * 255, "a b", "com.example.Outer$Inner", "größe", "a/b:c"])
def test_any_printable_name_will_do(name: str) -> None:
    service = serve(name)(type("Service", (), {}))
    assert vars(service)
    assert message_name(message(name)(type("Message", (), {}))) == name


def test_unknown_or_wrong_options_of_a_service_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="colour"):
        serve("service", colour="red")
    with pytest.raises(ValueError, match="concurrency"):
        serve("service", concurrency=0)


def test_a_service_may_name_errors_that_callers_shall_see_as_themselves() -> None:
    class NoSuchUser(Exception):
        pass

    service = serve("service", errors=(NoSuchUser, KeyError))(type("Service", (), {"add": lambda self: None}))
    assert contract_of(service).errors == (NoSuchUser, KeyError)


@pytest.mark.parametrize("errors", [(SystemExit,), (KeyboardInterrupt,), (int,), ("KeyError",), KeyError, 5])
def test_errors_that_are_no_exception_types_are_refused_when_the_service_is_described(errors: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        serve("service", errors=errors)


class Particular(Exception):
    def __new__(cls, code: int, reason: str) -> Any:
        return super().__new__(cls, code, reason)


class Plain(Exception):
    def __new__(cls, text: str) -> Any:
        return super().__new__(cls, text)


class Done(StopAsyncIteration):
    pass


@pytest.mark.parametrize("kind", [Done, StopIteration])
def test_errors_that_end_an_iteration_are_refused_when_the_service_is_described(kind: Any) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__} would end its caller's iteration"):
        serve("service", errors=(kind,))


def test_errors_that_tell_of_the_callers_own_link_are_refused_when_the_service_is_described() -> None:
    with pytest.raises(TypeError, match=r"ConnectionLost would be taken .*: take RemoteError as its base"):
        serve("service", errors=(ConnectionLost,))
    serve("service", errors=(type("Mine", (RemoteError,), {}),))


@pytest.mark.parametrize("kind", [Particular, Plain, ExceptionGroup])
def test_errors_that_cannot_be_rebuilt_are_refused_when_the_service_is_described(kind: Any) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__} cannot be rebuilt for callers, who have its name and text"):
        serve("service", errors=(KeyError, kind))


def test_a_method_may_have_a_timeout_and_be_idempotent() -> None:
    class Service:
        @method(timeout=2.5, idempotent=True, heartbeat=0.5)
        def add(self) -> None: ...

    assert only(Service).options == MethodOptions(2.5, True, 0.5)


@pytest.mark.parametrize("wrap", [staticmethod, classmethod])
def test_options_of_static_and_class_methods_hold_in_either_order_of_decorators(wrap: Any) -> None:
    def add(x: int) -> None: ...

    def add_too(x: int) -> None: ...

    inside = type("Service", (), {"add": wrap(method(timeout=2)(add))})
    outside = type("Service", (), {"add": method(timeout=2)(wrap(add_too))})
    assert only(outside).options == MethodOptions(2)
    assert only(inside).options == MethodOptions(2)


def test_options_of_a_wrapped_method_hold() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(function)(lambda *args: function(*args))

    class Service:
        @logged
        @method(idempotent=True)
        def add(self) -> None: ...

    assert only(Service).options == MethodOptions(None, True)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_method_has_a_finite_positive_timeout_or_none(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        method(timeout=timeout)


# Messages


def test_a_message_has_the_name_it_was_given_or_that_of_its_class_as_on_the_jvm() -> None:
    assert message_name(AddRequest) == "com.example.Demo$AddRequest"
    assert message_name(Point) == f"{__name__}.Point"
    assert message_name(Named) == f"{__name__}.Named"
    assert message_name(Outer.Inner) == f"{__name__}.Outer$Inner"

    class Local:
        pass

    here = "test_a_message_has_the_name_it_was_given_or_that_of_its_class_as_on_the_jvm"
    assert class_name(Local) == f"{__name__}.{here}$Local"


@pytest.mark.parametrize(("decorate", "name"), [(message, None), (message(), None), (message("m.Name"), "m.Name")])
def test_a_message_may_be_any_kind_of_class_that_has_fields(decorate: Any, name: str | None) -> None:
    class Struct(msgspec.Struct):
        x: int

    @attrs.define
    class Attrs:
        x: int

    class Model(pydantic.BaseModel):
        x: int

    @dataclass(slots=True, frozen=True)
    class Slotted:
        x: int

    class Dict(TypedDict):
        x: int

    class Tuple(NamedTuple):
        x: int

    for kind in (Struct, Attrs, Model, Slotted, Dict, Tuple):
        assert decorate(kind) is kind
        assert message_name(kind) == (name or class_name(kind))

        def take(request: kind) -> None: ...  # type: ignore[valid-type]

        assert of(take).request_class == message_name(kind)
        assert of(take).takes_message


def test_a_class_that_is_rebuilt_by_a_later_decorator_stays_a_message() -> None:
    @dataclass(slots=True)
    @message("m.Name")
    class Slotted:
        x: int

    assert message_name(Slotted) == "m.Name"


@pytest.mark.parametrize(
    "kind", [Subclassed, list[AddRequest], Optional[AddRequest], int, None, "AddRequest", AddRequest(1), Any]
)
def test_nothing_but_the_class_itself_is_the_message(kind: Any) -> None:
    assert message_name(kind) is None


def test_a_name_of_a_class_that_is_too_long_for_the_wire_is_refused() -> None:
    with pytest.raises(ValueError):
        message(type("x" * 300, (), {}))


def test_a_method_with_one_message_is_called_by_the_messages_name() -> None:
    found = only(MessageCalculator)
    assert found.takes_message
    assert found.request_type is AddRequest
    assert found.request_class == "com.example.Demo$AddRequest"
    assert found.reply_class == "com.example.Demo$AddResponse"
    assert found.alias == "MessageCalculator.add"
    contract = contract_of(MessageCalculator)
    found = contract.methods["add"]
    assert contract.by_class() == {"com.example.Demo$AddRequest": [found], "MessageCalculator.add": [found]}


@pytest.mark.parametrize("annotation", [Subclassed, Optional[AddRequest], list[AddRequest]])
def test_a_parameter_of_another_type_makes_no_message_method(annotation: Any) -> None:
    def take(request: annotation) -> annotation: ...

    found = of(take)
    assert not found.takes_message
    assert (found.request_class, found.reply_class) == ("Service.take", "Service.take.Reply")


def test_two_messages_are_plain_parameters() -> None:
    def take(one: AddRequest, two: AddResponse) -> None: ...

    assert not of(take).takes_message
    assert of(take).bind((AddRequest(1), AddResponse(2)), {}).two == AddResponse(2)


def test_a_message_is_taken_whole_or_made_of_its_fields() -> None:
    found = only(MessageCalculator)
    request = AddRequest(1, 2)
    assert found.bind((request,), {}) is request
    assert found.bind((1, 2), {}) == request
    assert found.bind((1,), {"y": 2}) == request
    assert found.bind((1,), {}) == request
    assert found.bind((), {"x": 1}) == request


def test_a_message_may_be_given_by_the_parameters_name_as_in_a_local_call() -> None:
    request = AddRequest(1, 2)
    assert only(MessageCalculator).bind((), {"request": request}) is request


def test_a_message_may_be_a_keyword_only_parameter() -> None:
    def take(*, request: AddRequest) -> AddRequest:
        return request

    request = AddRequest(1, 2)
    assert through(take, request) is request
    assert through(take, request=request) is request


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "x"),
        ((1, 2, 3), {}, "positional"),
        ((1,), {"z": 2}, "z"),
        ((1,), {"x": 2}, "x"),
    ],
)
def test_fields_that_do_not_fit_the_message_are_refused(args: Any, kwargs: Any, text: str) -> None:
    with pytest.raises(ContractError, match=text) as caught:
        only(MessageCalculator).bind(args, kwargs)
    assert str(caught.value).startswith("MessageCalculator.add(request: ")


def test_a_value_that_the_messages_own_constructor_refuses_is_a_contract_error() -> None:
    @message
    class Positive(pydantic.BaseModel):
        x: pydantic.PositiveInt

    def take(request: Positive) -> None: ...

    assert of(take).bind((), {"x": 1}) == Positive(x=1)
    with pytest.raises(ContractError, match="greater than 0"):
        of(take).bind((), {"x": -1})
    with pytest.raises(ContractError):
        of(take).bind((1,), {})


def test_a_typed_dict_is_taken_whole_or_made_of_its_fields() -> None:
    def take(request: Point) -> Point:
        return request

    found = of(take)
    assert found.bind(({"x": 1, "y": 2},), {}) == {"x": 1, "y": 2}
    assert found.bind((), {"x": 1, "y": 2}) == {"x": 1, "y": 2}
    assert found.call(take, {"x": 1, "y": 2}) == {"x": 1, "y": 2}
    with pytest.raises(ContractError):
        found.bind((1, 2), {})


def test_a_message_finds_the_method_that_takes_it() -> None:
    class Service:
        def add(self, request: AddRequest) -> None: ...

        def plot(self, request: Point) -> None: ...

        def plain(self, x: int) -> None: ...

    contract = contract_of(Service)
    assert contract.method_of(AddRequest(1)).name == "add"
    assert contract.method_of({"x": 1, "y": 2}).name == "plot"
    with pytest.raises(ContractError, match=r"takes no AddResponse; it takes com\.example\.Demo\$AddRequest, .*Point"):
        contract.method_of(AddResponse(1))
    with pytest.raises(ContractError, match="it takes no messages"):
        contract_of(Calculator).method_of(AddRequest(1))


@pytest.mark.parametrize("order", [("parent", "child"), ("child", "parent")])
def test_a_message_goes_to_the_method_of_its_own_class_before_that_of_its_parent(
    order: tuple[str, str],
) -> None:
    def parent(self: Any, request: AddRequest) -> None: ...

    def child(self: Any, request: Special) -> None: ...

    functions = {"parent": parent, "child": child}
    contract = contract_of(type("Service", (), {name: functions[name] for name in order}))
    assert contract.method_of(Special(1)).name == "child"
    assert contract.method_of(AddRequest(1)).name == "parent"


def test_a_dict_that_two_methods_could_take_goes_to_neither() -> None:
    @message
    class Size(TypedDict):
        width: int

    class Service:
        def plot(self, request: Point) -> None: ...

        def resize(self, request: Size) -> None: ...

    with pytest.raises(ContractError):
        contract_of(Service).method_of({"width": 1})


# By position


def test_arguments_are_an_array_too_in_the_order_of_the_parameters() -> None:
    def take(x: int, y: str = "y") -> tuple[int, str]:
        return x, y

    found = of(take)
    for given_, result in (([1, "a"], (1, "a")), ([1], (1, "y"))):
        request = found.from_positions(msgspec.convert(given_, found.positional_type))
        assert found.call(take, request) == result
    for wrong in ([], [1, "a", 3], ["a"]):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, found.positional_type)


def test_fields_of_a_message_are_an_array_too() -> None:
    found = only(MessageCalculator)
    for given_, result in (([1, 5], AddRequest(1, 5)), ([1], AddRequest(1, 2))):
        assert found.from_positions(msgspec.convert(given_, found.positional_type)) == result


def test_a_message_that_is_an_array_itself_has_no_other_form_by_position() -> None:
    class Pair(msgspec.Struct, array_like=True):
        x: int

    message(Pair)

    def take(request: Pair) -> None: ...

    def take_tuple(request: Named) -> None: ...

    assert of(take).positional_type is None
    assert of(take_tuple).positional_type is None


def test_every_kind_of_message_may_have_required_fields_behind_optional_ones() -> None:
    @message
    class Model(pydantic.BaseModel):
        x: int = 1
        y: int

    class Start(TypedDict, total=False):
        x: int

    @message
    class Dict(Start):
        y: int

    @message
    class Struct(msgspec.Struct, kw_only=True):
        x: int = 1
        y: int

    @message
    @dataclass(kw_only=True)
    class Data:
        x: int = 1
        y: int

    for kind in (Model, Dict, Struct, Data):

        def take(request: kind) -> Any:  # type: ignore[valid-type]
            return request

        found = of(take)
        assert found.bind((), {"y": 2}) == kind(y=2)
        if found.positional_type is not None:
            assert found.from_positions(msgspec.convert([1, 2], found.positional_type)) == kind(x=1, y=2)


def test_fields_that_can_only_be_named_have_no_position() -> None:
    @message
    @dataclass(kw_only=True)
    class Data:
        x: int
        y: int

    def take(request: Data) -> None: ...

    assert of(take).positional_type is None


def test_fields_that_the_constructor_does_not_take_have_no_position() -> None:
    @message
    @dataclass
    class Data:
        x: int
        double: int = field(init=False)

        def __post_init__(self) -> None:
            self.double = 2 * self.x

    def take(request: Data) -> None: ...

    found = of(take)
    assert found.from_positions(msgspec.convert([2], found.positional_type)).double == 4
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert([2, 5], found.positional_type)


# Binding and calling


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "missing a required argument: 'x'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"z": 3}, "unexpected keyword argument 'z'"),
        ((1,), {"x": 3}, "multiple values for argument 'x'"),
        ((), {"y": 3}, "missing a required argument: 'x'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_as_python_refuses_them(args: Any, kwargs: Any, text: str) -> None:
    found = contract_of(Calculator).methods["add"]
    with pytest.raises(ContractError) as caught:
        found.bind(args, kwargs)
    assert str(caught.value).startswith("Calculator.add(x: int, y: int = 2) -> int: ")
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((1,), {}, "missing a required.* argument: 'by'"),
        ((1, 2), {}, "too many positional arguments"),
        ((), {"x": 1, "by": 2}, "x"),
        ((), {"by": 2}, "missing a required.* argument: 'x'"),
    ],
)
def test_keyword_only_and_positional_only_parameters_are_kept_apart(args: Any, kwargs: Any, text: str) -> None:
    with pytest.raises(ContractError, match=text):
        contract_of(Calculator).methods["divide"].bind(args, kwargs)


def test_what_is_left_out_is_not_sent_and_the_handlers_own_default_holds() -> None:
    def take(x: int, y: int = 2, *, z: int = 3) -> tuple[int, int, int]:
        return x, y, z

    request = of(take).bind((1,), {})
    assert msgspec.to_builtins(request) == {"x": 1}

    def newer(x: int, y: int = 20, *, z: int = 30) -> tuple[int, int, int]:
        return x, y, z

    assert of(take).call(newer, request) == (1, 20, 30)
    assert of(take).call(newer, of(take).bind((1,), {"z": 4})) == (1, 20, 4)


def test_none_is_a_value_and_not_what_is_left_out() -> None:
    def take(x: int | None = 5) -> int | None:
        return x

    assert through(take) == 5
    assert through(take, None) is None
    assert through(take, x=None) is None


def test_what_is_left_out_ahead_of_what_is_given_takes_nothing_with_it() -> None:
    def take(a: int = 1, /, b: int = 2, *, c: int = 3) -> tuple[int, int, int]:
        return a, b, c

    assert through(take, b=20) == (1, 20, 3)
    assert through(take, c=30) == (1, 2, 30)


def test_a_positional_argument_behind_one_that_was_left_out_is_refused_and_not_dropped() -> None:
    def take(a: int = 1, b: int = 2, /) -> tuple[int, int]:
        return a, b

    found = of(take)
    request = found.request_type(b=20)  # as another language may send it
    with pytest.raises(TypeError):
        found.call(take, request)


def test_requests_do_not_change_the_contract() -> None:
    found = contract_of(Calculator).methods["add"]
    with pytest.raises(FrozenInstanceError):
        found.name = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        contract_of(Calculator).name = "other"  # type: ignore[misc]


def compiled(parameters: str) -> Callable[..., Any]:
    """A function with these parameters that returns what it was given."""
    scope: dict[str, Any] = {}
    exec(f"def f({parameters}): return tuple(locals().values())", scope)
    function: Callable[..., Any] = scope["f"]
    return function


@st.composite
def signatures(draw: st.DrawFn) -> str:
    """Parameters of all kinds, with and without defaults."""
    positional, either, named = (draw(st.integers(0, 2)) for _ in range(3))
    defaults = draw(st.integers(0, positional + either))
    ahead = [f"p{number}" for number in range(positional)] + [f"e{number}" for number in range(either)]
    for place in range(len(ahead) - defaults, len(ahead)):
        ahead[place] += f"={100 + place}"
    behind = [f"n{number}" + draw(st.sampled_from(["", f"={200 + number}"])) for number in range(named)]
    return ", ".join(ahead[:positional] + ["/"] * bool(positional) + ahead[positional:] + ["*"] * bool(named) + behind)


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except TypeError:
        return "refused"


def test_what_python_takes_by_position_only_is_not_taken_by_name() -> None:
    def take(a: int, /, b: int) -> tuple[int, int]:
        return a, b

    assert through(take, 1, b=2) == (1, 2)
    with pytest.raises(ContractError, match="'a'"):
        of(take).bind((), {"a": 1, "b": 2})


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, int, set[str]]:
    """A signature, how many arguments are given by position, and which by name."""
    parameters = draw(signatures())
    names = inspect.signature(compiled(parameters)).parameters
    return parameters, draw(st.integers(0, len(names))), draw(st.sets(st.sampled_from([*names, "unknown"])))


@examples
@given(calls())
def test_a_call_through_the_contract_is_a_local_call(call: tuple[str, int, set[str]]) -> None:
    parameters, by_position, by_name = call
    function = compiled(parameters)
    found = of(function)
    args, kwargs = tuple(range(by_position)), {name: 10 + place for place, name in enumerate(sorted(by_name))}
    local = outcome(lambda: function(*args, **kwargs))
    assert outcome(lambda: found.call(function, found.bind(args, kwargs))) == local
    if local == "refused":
        with pytest.raises(ContractError):
            found.bind(args, kwargs)


@examples
@given(signatures(), st.randoms(use_true_random=False))
def test_every_call_that_python_accepts_is_accepted(parameters: str, chance: random.Random) -> None:
    function = compiled(parameters)
    args, kwargs = [], {}
    by_position = True
    for number, parameter in enumerate(inspect.signature(function).parameters.values()):
        may_be_left_out = parameter.default is not parameter.empty
        if may_be_left_out and chance.random() < 0.4:
            by_position = False
        elif parameter.kind is parameter.KEYWORD_ONLY or (
            parameter.kind is not parameter.POSITIONAL_ONLY and chance.random() < 0.5
        ):
            kwargs[parameter.name] = number
            by_position = False
        elif by_position:
            args.append(number)
        elif parameter.kind is not parameter.POSITIONAL_ONLY:
            kwargs[parameter.name] = number
        elif not may_be_left_out:
            return
    assert through(function, *args, **kwargs) == function(*args, **kwargs)


def test_a_contract_can_be_made_by_hand() -> None:
    assert Contract("s", "S", {}).by_class() == {}


def test_a_method_without_its_object_is_not_taken_for_a_function() -> None:
    with pytest.raises(ContractError, match=r"Calculator\.add is a method, which wants an object: serve .*Calculator"):
        contract_of(Calculator.add)
    assert contract_of(Calculator().add).methods


def test_a_name_is_no_contract() -> None:
    with pytest.raises(ContractError, match="and not the name 'calculator'"):
        contract_of("calculator")


def test_a_function_that_stands_in_a_class_is_served_like_any_other() -> None:
    class Holder:
        @staticmethod
        async def double(x: int) -> int:
            return 2 * x

    assert list(contract_of(Holder.double).methods) == ["double"]


def test_a_message_that_is_left_out_is_its_default() -> None:
    nobody = AddRequest(0, 0)

    class Service:
        async def add(self, request: AddRequest = nobody) -> int:
            raise NotImplementedError

    method = contract_of(Service).methods["add"]
    assert method.bind((), {}) is nobody
    assert method.bind((1, 2), {}) == AddRequest(1, 2)


def test_what_has_nothing_in_it_has_no_form() -> None:
    class Service:
        async def ping(self) -> None: ...
        async def store(self, request: ProtobufPerson) -> None: ...
        async def fetch(self) -> ProtobufPerson:
            raise NotImplementedError

        async def keep(self, request: ThriftPerson) -> ThriftPerson:
            raise NotImplementedError

        async def turn(self, request: ProtobufPerson, twice: bool) -> ThriftPerson:
            raise NotImplementedError

    forms = {name: sorted(method.forms) for name, method in contract_of(Service).methods.items()}
    assert forms == {
        "ping": [],
        "store": ["protobuf"],
        "fetch": ["protobuf"],
        "keep": ["thrift"],
        "turn": ["plain", "thrift"],
    }


Other = NewType("Other", ThriftPerson)


def test_notes_beside_a_generated_message_do_not_hide_it() -> None:
    class Service:
        async def store(self, request: Annotated[ProtobufPerson, "who"]) -> Other:
            raise NotImplementedError

    method = contract_of(Service).methods["store"]
    assert (method.request_type, method.result_type) == (ProtobufPerson, ThriftPerson)


class Untold(ThriftPerson):
    """A class of its own: other tests name the generated one."""


def test_a_reply_is_named_as_its_request_was() -> None:
    class Service:
        async def turn(self, request: ProtobufPerson) -> ProtobufPerson:
            raise NotImplementedError

        async def keep(self, request: Untold) -> Untold:
            raise NotImplementedError

    java, full = "com.github.sstone.amqp.proxy.gpbtest.Gpbtest$Person", "com.github.sstone.amqp.proxy.gpbtest.Person"
    methods = contract_of(Service, name="s").methods
    assert methods["turn"].names == {"s.turn": java, java: java, full: full}
    thrift = f"{__name__}.Untold"
    assert methods["keep"].names == {"s.keep": thrift, thrift: thrift}


@message("com.github.sstone.amqp.proxy.gpbtest.Person")
class Shared(ThriftPerson): ...


@message("Twice.ping")
class PingPerson(ThriftPerson): ...


def test_messages_of_protobuf_and_of_thrift_may_share_a_name_and_others_may_not() -> None:
    class Service:
        async def turn(self, request: ProtobufPerson) -> None: ...
        async def keep(self, request: Shared) -> None: ...

    contract = contract_of(Service)
    assert len(contract.by_class()["com.github.sstone.amqp.proxy.gpbtest.Person"]) == 2

    class Twice:
        async def ping(self) -> None: ...
        async def pong(self, request: PingPerson) -> None: ...

    with pytest.raises(ContractError, match=r"ping and pong both take Twice\.ping"):
        contract_of(Twice)


# What the worker provides


class Database: ...


@serve("accounts", providers={Database: Database})
class Accounts:
    async def balance(self, db: Database, id: int, *, currency: str = "EUR") -> int:
        raise NotImplementedError

    async def find(self, db: Database, request: AddRequest) -> AddResponse:
        raise NotImplementedError

    async def feed(self, items: AsyncIterator[int], limit: int, db: Database) -> int:
        raise NotImplementedError

    async def fed(self, request: Special, items: AsyncIterator[int], db: Database) -> int:
        raise NotImplementedError


def test_what_is_provided_is_none_of_the_contract() -> None:
    contract = contract_of(Accounts)
    balance, find, feed, _ = contract.methods.values()
    assert balance.title == "Accounts.balance(id: int, *, currency: str = 'EUR') -> int"
    assert str(balance.signature) == "(id: int, *, currency: str = 'EUR') -> int"
    assert [field.name for field in msgspec.structs.fields(balance.request_type)] == ["id", "currency"]
    assert balance.provided == {"db": Database}
    assert find.takes_message and find.request_class == "com.example.Demo$AddRequest"
    assert feed.feed is not None and feed.feed.name == "items"
    assert contract_of(Calculator).methods["add"].provided == {}


@pytest.mark.parametrize("name", ["balance", "find", "feed"])
def test_what_is_provided_cannot_be_given(name: str) -> None:
    found = contract_of(Accounts).methods[name]
    bind = found.without_feed if found.feed is not None else found.bind
    with pytest.raises(ContractError, match=r"\) -> [\w.]+: db is provided by the worker, and callers leave it out$"):
        bind((1,), {"db": Database()})


def test_what_a_request_holds_is_told_by_parameter() -> None:
    balance, find, feed, fed = contract_of(Accounts).methods.values()
    assert balance.arguments(balance.bind((7,), {})) == {"id": 7}
    assert balance.arguments(balance.bind((), {"currency": "CHF", "id": 7})) == {"id": 7, "currency": "CHF"}
    assert find.arguments(AddRequest(1)) == {"request": AddRequest(1)}
    assert feed.arguments(feed.bind((), {"limit": 3})) == {"limit": 3}
    assert fed.arguments(Special(1)) == {"request": Special(1)}


def test_a_worker_knows_of_more_that_is_provided_than_callers_do() -> None:
    class Notes:
        async def add(self, text: str, db: Database) -> None: ...

    assert "db" in contract_of(Notes).methods["add"].signature.parameters
    serving = contract_of(Notes, serving={"providers": {Database: None}, "grace": 3})
    assert serving.methods["add"].provided == {"db": Database}
    assert serving.options == ServeOptions(providers={Database: None}, grace=3)
    both = contract_of(Accounts, serving={"providers": {str: "x"}})
    assert both.options.providers == {Database: Database, str: "x"}
    assert both.methods["balance"].provided == {"db": Database, "currency": str}


def test_a_worker_that_lacks_a_provider_says_so() -> None:
    class Marked:
        async def add(self, text: str, db: Database = provided) -> None: ...

    assert contract_of(Marked).methods["add"].provided == {"db": Database}
    assert contract_of(Marked, serving={"providers": {Database: None}}).methods["add"].provided == {"db": Database}
    with pytest.raises(ContractError, match=r"Marked.add\(text: str\) -> NoneType: nothing provides db; serve it with"):
        contract_of(Marked, serving={})
    with pytest.raises(TypeError, match="serve has no option 'colour'"):
        contract_of(Marked, serving={"colour": "red"})


def test_a_method_that_runs_at_most_once_is_not_idempotent() -> None:
    class Bank:
        @method(at_most_once=True)
        async def pay(self) -> None: ...

    assert contract_of(Bank).methods["pay"].options.at_most_once
    with pytest.raises(ValueError, match="choose one"):
        method(at_most_once=True, idempotent=True)
    with pytest.raises(TypeError, match="at_most_once is True or False, not 1"):
        method(at_most_once=1)  # type: ignore[arg-type]
