"""What blocking code sees of an async object: one class for all of them, put together from what the object offers."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from types import BuiltinFunctionType, FunctionType, MethodType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from .. import proxy
from ..batch import Batch
from ..blob import Blob
from ..signature import Streamed, streamed
from .items import Items, unblocking
from .thread import is_awaited

if TYPE_CHECKING:
    from .client import Client

FUNCTIONS = (MethodType, FunctionType, BuiltinFunctionType)


def mirrored(client: Client, value: Any) -> Any:
    """The value itself, or what blocking code shall see of it if it is of use to an event loop only."""
    kind = mirror_of(type(value))  # type: ignore[arg-type]  # classes are hashable
    return value if kind is None else kind(client, value)


@lru_cache(maxsize=256)
def mirror_of(kind: type) -> type[Mirror] | None:
    """The class that shows objects of this one to blocking code; None if they can be used as they are."""
    function = issubclass(kind, FUNCTIONS)
    offered = [mirror for name, mirror in OFFERS.items() if hasattr(kind, name)]
    if not (function or offered or is_awaited(kind) or _is_ours(kind)):
        return None
    if issubclass(kind, Batch):
        return Collecting
    if function or any("__call__" in vars(base) for base in kind.__mro__):
        offered.append(Calling)
    return type(kind.__name__, (*dict.fromkeys(offered), Mirror), {})


def _is_ours(kind: type) -> bool:
    """Whether it is a class of amqproxy's with something to await, or with attributes of which only it knows."""
    if kind.__module__.partition(".")[0] != __name__.partition(".")[0] or issubclass(kind, Mirror):
        return False
    members = [inspect.getattr_static(kind, name) for name in dir(kind)]
    return hasattr(kind, "__getattr__") or any(map(inspect.iscoroutinefunction, members))


class Mirror:
    """Shows an object that belongs to an event loop to code that has none.

    Attributes are those of the object. What is called runs in the event loop of the connection.
    """

    def __init__(self, client: Client, target: Any) -> None:
        self.__dict__.update(_client=client, _target=target)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        found = getattr(self._target, name)
        value = mirrored(self._client, found)
        if value is found:
            return value
        if callable(value) and not isinstance(found, MethodType):
            self.__dict__[name] = value  # a proxy's method, which is there for good
        else:
            value.__dict__["_of"] = self  # who is not to be collected, and so closed, ahead of its method
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._target, name, value)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(name for name in dir(self._target) if not name.startswith("_"))})

    def __repr__(self) -> str:
        return f"<sync {repr(self._target).removeprefix('<').removesuffix('>')}>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be pickled or copied: it uses a connection of this process; connect in the other one, "
            "with amqproxy.sync.connect(), and make it there"
        )

    def __amqproxy_options__(self, **changes: Any) -> Any:
        return mirrored(self._client, proxy.options(self._target, **changes))

    def _handed_over(self) -> Any:
        """The object, for whoever has the use of it from now on."""
        return self._target

    def _run(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return self._client._thread.run(function, args, kwargs)


class Calling(Mirror):
    """Can be called."""

    def __init__(self, client: Client, target: Any) -> None:
        super().__init__(client, target)
        described = ("__name__", "__qualname__", "__doc__")
        self.__dict__.update({name: value for name in described if (value := getattr(target, name, None))})
        self.__dict__["_streams"] = _streams_of(target)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call it in the event loop, and return what it returns there, waited for if it can be awaited."""
        client = self._client
        args, kwargs = self._inward(args, kwargs)
        return mirrored(client, client._thread.run(self._target, args, kwargs))

    def _inward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the async side wants them."""
        client = self._client
        if self._streams:
            args, kwargs = self._fed(args, kwargs)
        if args:
            args = tuple([inward(client, value) for value in args])
        if kwargs:
            kwargs = {name: inward(client, value) for name, value in kwargs.items()}
        return args, kwargs

    def _fed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, with something for each stream that may take its time over its items."""
        try:
            given = self._target.__signature__.bind(*args, **kwargs)
        except TypeError:  # the call itself will tell
            return args, kwargs
        for name, stream in self._streams.items():
            given.arguments[name] = fed(given.arguments[name], stream)
        return given.args, given.kwargs

    @property
    def __signature__(self) -> inspect.Signature | None:
        try:
            return inspect.signature(self._target)
        except (TypeError, ValueError):
            return None


class Posting(Calling):
    """Can be called, and is not waited for: it returns a `concurrent.futures.Future`."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Let it be called in the event loop, and return what will come of it."""
        args, kwargs = self._inward(args, kwargs)
        return self._client._thread.post(self._target, args, kwargs)


class Collecting(Posting):
    """A batch: its calls share messages, and so none of them is waited for when it is made."""

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        self.__dict__[name] = posting = Posting(self._client, method._target)
        return posting


def _streams_of(method: Any) -> dict[str, Streamed]:
    """The parameters that are fed streams, of a method of a service of which more is known than the name."""
    signature: inspect.Signature | None = getattr(method, "__signature__", None)
    parameters = signature.parameters.values() if signature is not None else ()
    return {p.name: stream for p in parameters if (stream := streamed(p.annotation)) is not None}


class Iterating(Mirror):
    """Can be iterated: each item is waited for. Whoever stops early closes it, as the end of a `for` loop does."""

    def __init__(self, client: Client, target: Any) -> None:
        super().__init__(client, target)
        self.__dict__.update(_ready=deque(), _over=False)

    def __iter__(self) -> Iterator[Any]:
        if hasattr(type(self._target), "__anext__"):
            return self
        iterator: Iterator[Any] = mirrored(self._client, self._run(aiter, self._target))
        return iterator

    def __next__(self) -> Any:
        ready = self._ready
        while True:
            with suppress(IndexError):  # which another thread may be the cause of
                return ready.popleft()
            ready.extend(self._more())

    def _more(self) -> list[Any]:
        """The next items: one, or all that are there if the object can tell."""
        target = self._target
        try:
            found = self._run(target.some) if hasattr(target, "some") else [self._run(anext, target)]
        except StopAsyncIteration:
            self.__dict__["_over"] = True
            raise StopIteration from None
        return [mirrored(self._client, item) for item in found]

    def close(self) -> None:
        """End it; its worker, or whatever else it comes from, is told."""
        self.__dict__["_over"] = True
        self._ready.clear()
        if hasattr(self._target, "aclose") and not self._client._thread.forked:
            self._run(self._target.aclose)

    def _handed_over(self) -> Any:
        self.__dict__["_over"] = True  # who has it closes it
        return self._target

    def __del__(self) -> None:
        known = self.__dict__
        if known.get("_over") is not False:
            return
        target = known["_target"]
        if hasattr(target, "aclose") and getattr(target, "begun", True):  # else it has a word to say about that
            known["_client"]._thread.drop(target.aclose)


class Entering(Mirror):
    """Can be entered and left by `with`."""

    def __enter__(self) -> Any:
        entered = self._run(self._target.__aenter__)
        return self if entered is self._target else mirrored(self._client, entered)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.__dict__["_over"] = True
        if self._client._thread.forked:  # it belongs to the parent, and whatever ends this block shall be heard of
            return False
        return bool(self._run(self._target.__aexit__, kind, error, traceback))


OFFERS: dict[str, type[Mirror]] = {"__aiter__": Iterating, "__anext__": Iterating, "__aenter__": Entering}


def inward(client: Client, value: Any) -> Any:
    """An argument as the async side wants it: what a mirror shows, and an iterator as an async one."""
    if isinstance(value, Mirror) and value._client is client:
        return value._handed_over()
    if type(value) is Blob:
        return unblocking(value)
    return Items(value) if hasattr(type(value), "__next__") else value


def fed(value: Any, stream: Streamed) -> Any:
    """What a stream parameter is fed from, if iterating over it may hold up the event loop."""
    if isinstance(value, (Blob, Mirror)) or hasattr(value, "__aiter__"):
        return value
    if stream.kind == "chunks":
        return Blob(value)
    return Items(iter(value)) if hasattr(value, "__iter__") and not isinstance(value, (list, tuple)) else value
