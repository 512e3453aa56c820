"""The errors of amqproxy. Each failed call says whose fault it was, whether the handler ran, and whether to try again.

AMQProxyError
├─ ContractError (also TypeError)            the class or the arguments do not fit the contract
├─ BrokerUnavailable (also ConnectionError)  no broker answered within the connect timeout
├─ AccessRefused (also PermissionError)      credentials, virtual host or permission refused; has .executed, too
├─ TopologyConflict                          a queue or exchange exists with other arguments
├─ Closed (also RuntimeError)                used after it was closed
└─ CallError                                 .executed is "no", "maybe" or "yes"
   ├─ Unroutable            no     no queue takes it: no pool was ever started under this name
   ├─ Overloaded            no     the queue is full, or too many calls are in flight
   ├─ MessageTooLarge       no     refused before sending
   ├─ EncodingFailed        no     a value the codec cannot write; names the path to it
   ├─ CallTimeout           maybe  (also TimeoutError) no answer within the call's time
   ├─ ConnectionLost        maybe  (also ConnectionError) the link broke while the call was out
   ├─ WorkerLost            maybe  the worker had begun, and gives no sign of life any more
   ├─ BadReply              yes    the reply does not decode
   └─ RemoteError           yes    the handler raised, or the worker refused
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from copy import copy
from functools import lru_cache
from typing import Any, Literal, TypeVar

Told = TypeVar("Told", bound=Exception)
Executed = Literal["no", "maybe", "yes"]


class AMQProxyError(Exception):
    """The root of all errors that amqproxy raises on purpose."""


class ContractError(AMQProxyError, TypeError):
    """A class cannot be served or called as it is written, or arguments do not fit; nothing was sent."""

    executed: Executed = "no"
    """"maybe" of an item that does not fit: the handler that it was for has begun."""


class BrokerUnavailable(AMQProxyError, ConnectionError):
    """No broker answered; the text names host and port, and what to do."""


class AccessRefused(AMQProxyError, PermissionError):
    """The broker refused credentials, a virtual host or a permission; the text names which."""

    executed: Executed = "no"
    """"maybe" of a call that was out when its channel was closed, which may be because of another call."""


class TopologyConflict(AMQProxyError):
    """A queue or exchange exists with other arguments than these; the text names the argument."""


class Closed(AMQProxyError, RuntimeError):
    """The connection, or what was made from it, is used after it was closed or before it was opened."""


class CallError(AMQProxyError):
    """A call failed."""

    executed: Executed = "maybe"
    """Whether the handler ran: "no", "yes", or "maybe" when nobody here can know."""

    def __init__(self, message: str, *, executed: Executed | None = None) -> None:
        Exception.__init__(self, message)  # not super(): a registered type's own constructor wants other arguments
        if executed is not None:
            self.executed = executed


class Unroutable(CallError):
    """No queue takes the call: no pool was ever started under this name."""

    executed: Executed = "no"


class Overloaded(CallError):
    """The queue is full and refused it, or too many calls are in flight already."""

    executed: Executed = "no"


class MessageTooLarge(CallError):
    """The body is over the limit; the call was not sent."""

    executed: Executed = "no"


class EncodingFailed(CallError):
    """A value that the codec cannot write; the text names the path to it."""

    executed: Executed = "no"


class CallTimeout(CallError, TimeoutError):
    """No answer came within the call's time; the text says how far the call got."""


class ConnectionLost(CallError, ConnectionError):
    """The link to the broker broke while the call was out."""


class WorkerLost(CallError):
    """The worker had begun, and then it died or gave no more sign of life."""


class BadReply(CallError):
    """A reply came and does not decode to the declared result."""

    executed: Executed = "yes"


class RemoteError(CallError):
    """The handler raised, or the worker refused the call.

    Raise one in a handler to choose what the caller sees: `raise RemoteError("no such user", code="not_found")`.
    """

    executed: Executed = "yes"

    # The values below are defaults in name only: they stand ahead of properties that a registered type may have.
    code: str = "unknown"
    """The status, by gRPC's names in lower case: "not_found", "invalid_argument", … "unknown" for other exceptions."""
    type: str = ""
    """The class name of the exception in the worker, as text."""
    message: str = ""
    """What the exception said."""
    retryable: bool = False
    """True if the worker says that the same call may succeed later."""
    details: Any = None
    """Whatever else the worker wants to tell, made of plain values."""
    traceback: str | None = None
    """The worker's traceback, if it was started with --debug."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "unknown",
        type: str = "RemoteError",
        retryable: bool = False,
        details: Any = None,
        traceback: str | None = None,
        executed: Executed | None = None,
    ) -> None:
        for text in (message, code, type):
            if not isinstance(text, str):
                raise TypeError(f"message, code and type of a RemoteError are str, not {text!r}")
        CallError.__init__(self, message, executed=executed)
        self.message = message
        self.code = code
        self.type = type
        self.retryable = retryable
        self.details = details
        self.traceback = traceback

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by what it was made from, since the classes that are also another type have no name to be found."""
        also = vars(type(self)).get("_also")
        return (_unpickle, (also, self.args, vars(self))) if also else (_blank, (type(self), self.args), vars(self))

    def __str__(self) -> str:
        text = f"{self.type}: {self.message}" if self.message else self.type
        return f"{text}\n\n{self.traceback}" if self.traceback else text


# Types that a remote failure may be raised as, besides RemoteError. Left out on purpose: what would end a program or an
# iteration, and the connection errors, which say that *our* link broke.
REBUILT_BUILTINS: Mapping[str, type[Exception]] = {
    name: getattr(builtins, name)
    for name in (
        "ArithmeticError",
        "AssertionError",
        "AttributeError",
        "BufferError",
        "EOFError",
        "FileExistsError",
        "FileNotFoundError",
        "FloatingPointError",
        "IndexError",
        "IsADirectoryError",
        "KeyError",
        "LookupError",
        "NotADirectoryError",
        "NotImplementedError",
        "OSError",
        "OverflowError",
        "PermissionError",
        "RecursionError",
        "RuntimeError",
        "TimeoutError",
        "TypeError",
        "UnicodeError",
        "ValueError",
        "ZeroDivisionError",
    )
}


def said(error: BaseException) -> str:
    """What an exception says, unless its own `__str__` fails."""
    try:
        return str(error)
    except Exception as second:
        return f"(its text cannot be had: {type(second).__name__})"


def retold(error: Told, text: str) -> Told:
    """The same error in other words, for one of those who share it; it has no traceback and no cause."""
    own = copy(error)
    own.args = (text,)
    return own


def doubted(error: CallError, doubt: str) -> None:
    """Have the error of a try that did not run tell no more than is known of the call: it had been sent before."""
    if error.executed == "no":
        error.executed = "maybe"
        tail = f" (it had been sent before, and {doubt})"
        error.args = (f"{error.args[0]}{tail}",)
        if isinstance(error, RemoteError):
            error.message += tail


def exception_name(kind: type[BaseException]) -> str:
    """The name under which an exception type travels: bare for built-in types, with its module for others."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def remote_error_class(name: str, registered: Iterable[type[Exception]] = ()) -> type[RemoteError]:
    """The class to raise for a remote exception of this name: RemoteError, and also the built-in or registered type.

    So `except ZeroDivisionError:` works as it does locally. A name that is in neither list chooses nothing.
    """
    known = REBUILT_BUILTINS.get(name)
    for kind in registered:
        if exception_name(kind) == name and issubclass(kind, Exception):
            known = kind
    return RemoteError if known is None else _combined(known)  # type: ignore[arg-type]  # classes are hashable


def check_rebuilt(kind: type[Exception]) -> None:
    """TypeError if callers cannot be given errors of this type: it wants more than a text, or shares no base.

    Nor can those that would end an iteration, or that say of the caller's own link what is none of it.
    """
    name = kind.__qualname__
    if issubclass(kind, (StopIteration, StopAsyncIteration)):
        raise TypeError(f"{name} would end its caller's iteration, and cannot be raised there: take another base")
    if issubclass(kind, AMQProxyError) and not issubclass(kind, RemoteError):
        raise TypeError(f"{name} would be taken for an error of the caller's own: take RemoteError as its base")
    try:
        remote_error_class(exception_name(kind), (kind,))("a text", code="unknown", type=name, executed="yes")
    except Exception as error:
        text = f"{name} cannot be rebuilt for callers, who have its name and text alone: {said(error)}"
        raise TypeError(text) from error


@lru_cache(maxsize=256)
def _combined(kind: type[Exception]) -> type[RemoteError]:
    bases = (kind,) if issubclass(kind, RemoteError) else (RemoteError, kind)
    return type(
        f"Remote{kind.__name__}", bases, {"__module__": __name__, "__init__": RemoteError.__init__, "_also": kind}
    )


def _unpickle(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> RemoteError:
    error = _blank(_combined(kind), args)  # type: ignore[arg-type]  # classes are hashable
    error.__dict__.update(state)
    return error


def _blank(kind: type[RemoteError], args: tuple[Any, ...]) -> RemoteError:
    error = kind.__new__(kind, *args)
    Exception.__init__(error, *args)
    return error
