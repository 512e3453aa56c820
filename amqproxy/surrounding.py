"""Handlers with something around them: middleware, and what they are provided with."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from .handler import Call, Handler, current
from .middleware import Next, chain
from .options import ServeOptions
from .providers import AsyncStack, Providers, Provision
from .stream import close

Through = Callable[[Any, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""How a request, and the running of its handler, go through middleware."""


def surrounding(options: ServeOptions) -> Callable[[Handler], Handler]:
    """What puts around a handler what the options of its worker say; others are left as they are.

    ContractError if one of its providers cannot be called.
    """
    providers = Providers({Call: current, **options.providers})
    first = chain(options.middleware, _last) if options.middleware else None
    keeping = _keeping(options)

    def around(handler: Handler) -> Handler:
        if handler.method.provided:
            handler = _provided(handler, providers.provision(handler._function, handler.method))
        through = None
        if first is not None:
            handler = SurroundedHandler(**_fields(handler), _handler=handler, _first=first)
            through = handler.through
        return handler if keeping is None or handler.streams else keeping(handler, through)

    return around


def _keeping(options: ServeOptions) -> Callable[[Handler, Through | None], Handler] | None:
    """What keeps a handler's replies, if they are to be kept; imported where they are, as it is not cheap."""
    if options.deduplicate is None:
        return None
    from .deduplicating import keeping

    return keeping(options)


def _provided(handler: Handler, provision: Provision) -> Handler:
    if constant := provision.constant():
        return dataclasses.replace(handler, _function=constant)
    return ProvidedHandler(**_fields(handler), _handler=handler, _provision=provision)


def _fields(handler: Handler) -> dict[str, Any]:
    return {field.name: getattr(handler, field.name) for field in dataclasses.fields(Handler)}


@dataclass(frozen=True, slots=True)
class ProvidedHandler(Handler):
    """A handler whose function takes more than its callers send."""

    _handler: Handler
    _provision: Provision

    async def start(self, request: Any) -> Any:
        """Run it, within its providers."""
        async with AsyncStack() as stack:
            return await self._opened(await self._provision.open(stack)).start(request)

    async def start_fed(self, request: Any, feed: Any) -> Any:
        """Run it, within its providers."""
        async with AsyncStack() as stack:
            return await self._opened(await self._provision.open(stack)).start_fed(request, feed)

    async def items(self, request: Any, feed: Any) -> AsyncIterator[Any]:
        """What it streams; its providers are opened for the first item and closed behind the last."""
        return self._items(request, feed)

    async def _items(self, request: Any, feed: Any) -> AsyncIterator[Any]:
        async with AsyncStack() as stack:
            items = await self._opened(await self._provision.open(stack)).items(request, feed)
            try:
                async for item in items:
                    yield item
            finally:
                await close(items)

    def _opened(self, function: Callable[..., Any]) -> Handler:
        return dataclasses.replace(self._handler, _function=function)


@dataclass(frozen=True, slots=True)
class SurroundedHandler(Handler):
    """A handler with middleware around it."""

    _handler: Handler
    _first: Next

    def start(self, request: Any) -> Coroutine[Any, Any, Any]:
        """Run it, through the middleware."""
        return self.through(request, functools.partial(self._handler.start, request))

    def start_fed(self, request: Any, feed: Any) -> Coroutine[Any, Any, Any]:
        """Run it, through the middleware."""
        return self.through(request, functools.partial(self._handler.start_fed, request, feed))

    async def items(self, request: Any, feed: Any) -> AsyncIterator[Any]:
        """What the middleware makes of what it streams."""
        return self.iterator(await self.through(request, functools.partial(self._handler.items, request, feed)))

    async def through(self, request: Any, run: Callable[[], Awaitable[Any]]) -> Any:
        """What the middleware makes of the running of a handler, or of what stands in for it."""
        call = current()
        call.given, call.reached = (self.method, request, run), False
        return await self._first(call)


async def _last(call: Any, /) -> Any:
    if not isinstance(call, Call):
        raise TypeError(f"next takes the call that the middleware was given, and not {call!r}")
    _, _, run = call.given
    call.reached = True
    return await run()
