"""The error tree: whose fault, did the handler run; and what a remote exception may become."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from amqproxy import errors
from amqproxy.errors import (
    REBUILT_BUILTINS,
    AccessRefused,
    AMQProxyError,
    BadReply,
    BrokerUnavailable,
    CallError,
    CallTimeout,
    Closed,
    ConnectionLost,
    ContractError,
    EncodingFailed,
    MessageTooLarge,
    Overloaded,
    RemoteError,
    TopologyConflict,
    Unroutable,
    exception_name,
    remote_error_class,
)

examples = settings(max_examples=100, deadline=None, derandomize=True, database=None)

NEVER_REBUILT = [
    "SystemExit",
    "KeyboardInterrupt",
    "GeneratorExit",
    "BaseException",
    "StopIteration",
    "StopAsyncIteration",
    "ConnectionError",
    "ConnectionResetError",
    "BrokenPipeError",
    "MemoryError",
    "ImportError",
    "asyncio.exceptions.CancelledError",
    "builtins.SystemExit",
    "builtins.ZeroDivisionError",
    "os._exit",
    "os.system",
    "__class__",
    "print",
    "RemoteError",
    "amqproxy.errors.ConnectionLost",
    "ZeroDivisionError ",
    "zerodivisionerror",
    "",
]


class NoSuchUser(Exception):
    """An exception of a user's own."""


class Picky(Exception):
    """One whose constructor takes something else than one text."""

    def __init__(self, user: str, number: int) -> None:
        super().__init__(f"{user} has no {number}")
        self.number = number


class Labelled(Exception):
    """One with properties named like RemoteError's attributes."""

    @property
    def code(self) -> str:
        return "E42"

    @property
    def message(self) -> str:
        return "labelled"


class Denied(RemoteError):
    """A user's subclass of RemoteError, raised in a handler to choose what the caller sees."""


class Outer:
    class Nested(Exception):
        pass


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (ContractError, TypeError),
        (BrokerUnavailable, ConnectionError),
        (AccessRefused, PermissionError),
        (TopologyConflict, AMQProxyError),
        (Closed, RuntimeError),
        (CallError, AMQProxyError),
        (CallTimeout, TimeoutError),
        (ConnectionLost, ConnectionError),
    ],
)
def test_an_error_is_caught_as_ours_and_as_its_builtin_kin(kind: type[AMQProxyError], also: type[Exception]) -> None:
    error = kind("what happened")
    assert isinstance(error, AMQProxyError)
    assert isinstance(error, also)
    assert str(error) == "what happened"


@pytest.mark.parametrize(
    ("kind", "executed"),
    [
        (CallError, "maybe"),
        (Unroutable, "no"),
        (Overloaded, "no"),
        (MessageTooLarge, "no"),
        (EncodingFailed, "no"),
        (CallTimeout, "maybe"),
        (ConnectionLost, "maybe"),
        (BadReply, "yes"),
        (RemoteError, "yes"),
    ],
)
def test_a_failed_call_says_whether_its_handler_ran(kind: type[CallError], executed: str) -> None:
    assert kind("x").executed == executed
    assert kind("x", executed="no").executed == "no"
    assert kind("x", executed="maybe").executed == "maybe"
    assert kind.executed == executed, "one instance changes nothing for the others"


def test_every_error_is_in_the_tree_of_the_docstring() -> None:
    assert errors.__doc__ is not None
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, AMQProxyError) and not name.startswith("_")
    }
    assert {name for name in kinds if name not in errors.__doc__} == set()


def test_a_remote_error_has_defaults_for_all_but_the_message() -> None:
    error = RemoteError("no such user")
    assert (error.message, error.code, error.type) == ("no such user", "unknown", "RemoteError")
    assert (error.retryable, error.details, error.traceback, error.executed) == (False, None, None, "yes")


def test_a_remote_error_keeps_what_it_is_told() -> None:
    error = RemoteError(
        "m", code="not_found", type="T", retryable=True, details={"a": [1]}, traceback="tb", executed="no"
    )
    assert (error.message, error.code, error.type, error.retryable) == ("m", "not_found", "T", True)
    assert (error.details, error.traceback, error.executed) == ({"a": [1]}, "tb", "no")


@pytest.mark.parametrize(
    ("message", "traceback", "text"),
    [
        ("division by zero", None, "ZeroDivisionError: division by zero"),
        ("", None, "ZeroDivisionError"),
        ("m", "Traceback …", "ZeroDivisionError: m\n\nTraceback …"),
        ("", "Traceback …", "ZeroDivisionError\n\nTraceback …"),
    ],
)
def test_a_remote_error_reads_like_the_last_line_of_a_traceback(message: str, traceback: str | None, text: str) -> None:
    assert str(RemoteError(message, type="ZeroDivisionError", traceback=traceback)) == text


@pytest.mark.parametrize("said", [{"message": ValueError("boom")}, {"message": None}, {"message": "", "code": 404}])
def test_what_a_remote_error_says_is_text_or_refused(said: dict[str, Any]) -> None:
    try:
        error = RemoteError(**said)
    except TypeError:
        return
    assert isinstance(error.message, str)
    assert isinstance(error.code, str)
    assert str(error)


@pytest.mark.parametrize("name", REBUILT_BUILTINS)
def test_a_listed_builtin_is_raised_as_itself_and_as_a_remote_error(name: str) -> None:
    builtin = REBUILT_BUILTINS[name]
    kind = remote_error_class(name)
    with pytest.raises(builtin) as caught:
        raise kind("text", code="not_found", type=name, retryable=True, details=[1], traceback="tb")
    error = caught.value
    assert isinstance(error, RemoteError)
    assert (error.message, error.code, error.type, error.details) == ("text", "not_found", name, [1])
    assert (error.retryable, error.traceback, error.executed) == (True, "tb", "yes")
    assert str(error) == f"{name}: text\n\ntb"
    assert name in repr(error)
    assert exception_name(builtin) == name


def test_the_list_of_builtins_holds_only_plain_exceptions() -> None:
    for kind in REBUILT_BUILTINS.values():
        assert issubclass(kind, Exception)
        assert not issubclass(kind, (ConnectionError, StopIteration, StopAsyncIteration))


@pytest.mark.parametrize("name", ["RemoteError", *REBUILT_BUILTINS])
@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_remote_error_can_be_copied_and_sent_to_another_process(name: str, through: Any) -> None:
    error = remote_error_class(name)("text", code="c", type=name, retryable=True, details={"a": 1}, executed="no")
    again = through(error)
    assert isinstance(again, RemoteError)
    assert isinstance(again, REBUILT_BUILTINS.get(name, RemoteError))
    assert str(again) == str(error)
    assert (again.message, again.code, again.type) == ("text", "c", name)
    assert (again.retryable, again.details, again.traceback, again.executed) == (True, {"a": 1}, None, "no")


@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_subclass_of_remote_error_that_is_copied_is_of_the_same_class(through: Any) -> None:
    again = through(Denied("no", code="permission_denied", details=[1]))
    assert type(again) is Denied
    assert (again.message, again.code, again.details) == ("no", "permission_denied", [1])


@pytest.mark.parametrize("kind", [CallTimeout, ConnectionLost, Unroutable, BadReply])
def test_a_call_error_can_be_pickled(kind: type[CallError]) -> None:
    again = pickle.loads(pickle.dumps(kind("text", executed="no")))
    assert type(again) is kind
    assert (str(again), again.executed) == ("text", "no")


@pytest.mark.parametrize("name", NEVER_REBUILT)
def test_a_name_that_is_not_listed_chooses_nothing(name: str) -> None:
    assert remote_error_class(name) is RemoteError


@examples
@given(st.text())
@example("SystemExit")
def test_no_text_chooses_a_type_that_is_not_listed(name: str) -> None:
    kind = remote_error_class(name, (NoSuchUser,))
    assert issubclass(kind, RemoteError)
    assert kind is RemoteError or name in REBUILT_BUILTINS


def test_the_same_name_gives_the_same_class_each_time() -> None:
    assert remote_error_class("KeyError") is remote_error_class("KeyError")


def test_a_registered_type_is_raised_as_itself() -> None:
    name = exception_name(NoSuchUser)
    error = remote_error_class(name, (Outer.Nested, NoSuchUser))("ada", type=name)
    assert isinstance(error, NoSuchUser)
    assert isinstance(error, RemoteError)
    assert error.message == "ada"


def test_a_type_that_is_not_registered_is_a_plain_remote_error() -> None:
    assert remote_error_class(exception_name(NoSuchUser)) is RemoteError
    assert remote_error_class(exception_name(NoSuchUser), (Outer.Nested,)) is RemoteError
    assert remote_error_class("NoSuchUser", (NoSuchUser,)) is RemoteError, "the bare name is not enough"


def test_a_registered_type_is_built_without_its_own_constructor() -> None:
    name = exception_name(Picky)
    error = remote_error_class(name, (Picky,))("ada has no 7", code="not_found", type=name)
    assert isinstance(error, Picky)
    assert (error.message, error.code, error.args) == ("ada has no 7", "not_found", ("ada has no 7",))


def test_properties_of_a_registered_type_do_not_hide_what_the_worker_said() -> None:
    name = exception_name(Labelled)
    error = remote_error_class(name, (Labelled,))("text", code="not_found", type=name)
    assert isinstance(error, Labelled)
    assert (error.message, error.code) == ("text", "not_found")


def test_a_registered_subclass_of_remote_error_is_raised_as_itself() -> None:
    name = exception_name(Denied)
    error = remote_error_class(name, (Denied,))("no", code="permission_denied", type=name)
    assert isinstance(error, Denied)
    assert error.code == "permission_denied"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_what_ends_a_program_is_never_raised_even_if_it_is_registered(kind: Any) -> None:
    assert remote_error_class(exception_name(kind), (kind,)) is RemoteError


def test_an_exception_travels_under_its_bare_name_only_if_it_is_built_in() -> None:
    assert exception_name(ZeroDivisionError) == "ZeroDivisionError"
    assert exception_name(TimeoutError) == "TimeoutError"
    assert exception_name(Outer.Nested) == f"{__name__}.Outer.Nested"
