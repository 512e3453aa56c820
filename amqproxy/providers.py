"""What handlers need besides their arguments: a provider makes it for a call, and cleans up when the call has ended.

    async def open_database() -> AsyncIterator[Database]:
        async with pool.acquire() as connection:
            yield Database(connection)

    class Accounts:
        async def balance(self, id: int, db: Database = amqproxy.provided) -> Decimal: ...

    mq.serve(Accounts(), providers={Database: open_database})       # also for @amqproxy.serve("accounts", providers=…)

`db` is no part of the contract: callers neither see nor send it. Proxies know by its default, `amqproxy.provided`, or
by its type, if `@amqproxy.serve` names it among `providers`; what only `mq.serve` names, a proxy of the same class does
not know of. `amqproxy.Call` is always provided: the call that runs.

A provider is, for parameters that are annotated with its key,

- an instance of that class, or what cannot be called: it is handed out as it is;
- a generator function, plain or async: what it yields is handed out, and what is behind the yield runs when the call
  has ended, with the handler's exception, if there is one;
- any other callable, such as a function, plain or async, or a class: what it gives is handed out, and if that is a
  context manager, it is entered, and left when the call has ended. (To hand out a shared one as it is, yield it.)

A provider's own parameters are provided in the same way. Each provider is called at most once in a call, whoever needs
it, and only for methods that do. What it raises, the call fails with. It may raise another exception in place of the
handler's, but it cannot swallow that: the call fails.

Providers run in the event loop. Those of a plain `def` handler that are plain, too, run in the handler's thread: there
they may block, and what wants to be used by one thread only is.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any

from .contract import Method
from .errors import ContractError
from .provided import provided

Function = Callable[..., Any]
Made = dict[Any, Any]
"""What was made for one call, by type."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider that is called."""

    kind: Any
    """The type that it provides."""
    make: Function
    needs: Mapping[str, Any]
    """The types of its own parameters."""
    blocks: bool
    """Whether it is plain, and so can run in a thread."""

    def _call(self, made: Made) -> Any:
        return self.make(**{name: made[kind] for name, kind in self.needs.items()})

    async def enter(self, made: Made, stack: AsyncExitStack) -> None:
        """Make it in the event loop, when all that it needs is made."""
        value = self._call(made)
        if inspect.isawaitable(value) and not _has(value, "__aenter__"):  # some can be both awaited and entered
            value = await value
        if _has(value, "__aenter__"):
            value = await stack.enter_async_context(value)
        elif _has(value, "__enter__"):
            value = stack.enter_context(value)
        made[self.kind] = value

    def enter_in_thread(self, made: Made, stack: ExitStack) -> None:
        """The same in a thread."""
        value = self._call(made)
        if _has(value, "__enter__"):
            value = stack.enter_context(value)
        elif inspect.isawaitable(value) or _has(value, "__aenter__"):
            if inspect.iscoroutine(value):
                value.close()
            raise TypeError(
                f"{_name(self.make)} is plain, and so it runs in the thread of the plain handler; "
                f"but it gives a {type(value).__name__}, which is for the event loop: make it an `async def`"
            )
        made[self.kind] = value


class Providers:
    """The providers of one worker."""

    def __init__(self, given: Mapping[Any, Any]) -> None:
        """Take them by the types that they provide."""
        self._given = given

    def provision(self, function: Function, method: Method) -> Provision:
        """What a method's function is provided with; ContractError if a provider cannot be called."""
        order: dict[Any, Provider] = {}
        values: Made = {}
        for kind in method.provided.values():
            self._plan(kind, order, values, ())
        return Provision(function, method, values, [*order.values()])

    def _plan(self, kind: Any, order: dict[Any, Provider], values: Made, above: tuple[Any, ...]) -> None:
        """Put the provider of a type behind those that it needs, or note the value that is handed out as it is."""
        given = self._given[kind]
        if kind in above:
            circle = " needs ".join(map(_name, (*above[above.index(kind) :], kind)))
            raise ContractError(f"providers need each other in a circle: {circle}")
        if not callable(given) or _is_instance(given, kind):
            values[kind] = given
        elif kind not in order:
            needs = self._needs(given)
            for need in needs.values():
                self._plan(need, order, values, (*above, kind))
            order[kind] = Provider(kind, _context(given), needs, not _is_for_loop(given))

    def _needs(self, given: Function) -> dict[str, Any]:
        """The parameters of a provider, with their types; ContractError if one is not provided."""
        try:
            parameters = inspect.signature(given).parameters
        except ValueError:  # some functions written in C do not tell what they take
            return {}
        hints = _hints(given) if parameters else {}
        needs = {}
        for name, parameter in parameters.items():
            by_name = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if by_name and hints.get(name, Any) in [*self._given]:
                needs[name] = hints[name]
            elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            elif parameter.default is parameter.empty or parameter.default is provided:
                raise ContractError(f"the provider {_name(given)} takes {parameter}, and nothing provides that")
        return needs


class Provision:
    """What one handler is provided with: opened in the event loop first, and the rest where the handler runs."""

    def __init__(self, function: Function, method: Method, values: Made, order: Sequence[Provider]) -> None:
        """Take what is handed out as it is, and the providers that are called, in order."""
        self._function = function
        self._wanted = method.provided
        # Arguments that come by position are given by name, since what is provided may stand between them; unless they
        # have none for Python, and then there are no others.
        sent = [name for name in method.signature.parameters if method.feed is None or name != method.feed.name]
        self._names = () if method.positional_only else tuple(sent)
        self._values = values
        inner = inspect.unwrap(function)
        self._run = self._call
        in_thread: list[Provider] = []
        if inspect.isgeneratorfunction(inner):
            self._run, in_thread = self._generate_in_thread, _for_thread(order)
        elif method.stream is None and not inspect.iscoroutinefunction(inner):
            self._run, in_thread = self._call_in_thread, _for_thread(order)
        self._in_thread = in_thread
        self._in_loop = [each for each in order if each not in in_thread]

    def constant(self) -> Function | None:
        """The function to run in place of the handler's own, if it is the same for all calls."""
        return None if self._in_loop or self._in_thread else functools.partial(self._call, self._values)

    async def open(self, stack: AsyncExitStack) -> Function:
        """Open what is opened in the event loop, until the stack is closed: the function to run in place of the own."""
        made = dict(self._values)
        for provider in self._in_loop:
            await provider.enter(made, stack)
        return functools.partial(self._run, made)

    def _call(self, made: Made, /, *args: Any, **kwargs: Any) -> Any:
        wanted = {name: made[kind] for name, kind in self._wanted.items()}
        if not self._names:
            return self._function(*args, **kwargs, **wanted)
        return self._function(**dict(zip(self._names, args, strict=False)), **kwargs, **wanted)

    def _call_in_thread(self, made: Made, /, *args: Any, **kwargs: Any) -> Any:
        with _Stack() as stack:
            for provider in self._in_thread:
                provider.enter_in_thread(made, stack)
            return self._call(made, *args, **kwargs)

    def _generate_in_thread(self, made: Made, /, *args: Any, **kwargs: Any) -> Iterator[Any]:
        with _Stack() as stack:
            for provider in self._in_thread:
                provider.enter_in_thread(made, stack)
            yield from self._call(made, *args, **kwargs)


class AsyncStack(AsyncExitStack):
    """Context managers that cannot swallow an exception: a call that failed has failed."""

    async def __aexit__(self, *details: Any) -> None:
        await super().__aexit__(*details)


class _Stack(ExitStack):
    """The same in a thread."""

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)


def _for_thread(order: Sequence[Provider]) -> list[Provider]:
    """The providers that need not run in the event loop: they are plain, and so are all that need them."""
    needed: set[Any] = set()
    chosen: list[Provider] = []
    for each in reversed(order):
        if each.blocks and each.kind not in needed:
            chosen.insert(0, each)
        else:
            needed.update(each.needs.values())
    return chosen


def _context(given: Function) -> Function:
    """A generator function as one that gives a context manager; others as they are."""
    if inspect.isasyncgenfunction(given):
        return contextlib.asynccontextmanager(given)
    return contextlib.contextmanager(given) if inspect.isgeneratorfunction(given) else given


def _is_for_loop(given: Function) -> bool:
    """Whether a provider, or what it gives, must be awaited, as far as it tells before it is called."""
    inner = inspect.unwrap(given)  # out of @asynccontextmanager, say
    if isinstance(inner, type):
        return hasattr(inner, "__aenter__")
    kinds = (inner, getattr(inner, "__call__", None))  # noqa: B004
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in kinds)


def _is_instance(given: Any, kind: Any) -> bool:
    """Whether it is the thing itself; a class or a function makes things, whatever protocol it happens to fit."""
    if inspect.isroutine(given) or isinstance(given, type):
        return False
    return isinstance(kind, type) and isinstance(given, kind)


def _hints(given: Function) -> dict[str, Any]:
    while isinstance(given, functools.partial):
        given = given.func
    if isinstance(given, type):
        given = given.__init__  # type: ignore[misc]  # of this very class
    elif not inspect.isroutine(given):
        given = type(given).__call__
    try:
        return typing.get_type_hints(inspect.unwrap(given), include_extras=True)
    except Exception as error:  # annotations are evaluated here, which may raise anything
        raise ContractError(f"an annotation of the provider {_name(given)} cannot be resolved: {error}") from error


def _has(value: Any, method: str) -> bool:
    return hasattr(type(value), method)


def _name(thing: Any) -> str:
    return getattr(thing, "__qualname__", None) or repr(thing)
