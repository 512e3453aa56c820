"""A worker's handlers without a worker: called as a session calls them, with bodies of JSON."""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from amqproxy.codecs.registry import codecs
from amqproxy.contract import contract_of
from amqproxy.handler import Call, Handler, HandlerTable, instance_of
from amqproxy.properties import Properties
from amqproxy.surrounding import surrounding

_numbers = itertools.count(1)


class Handlers:
    """The handlers of one object, or of one class, which is made."""

    def __init__(self, target: Any, threads: ThreadPoolExecutor, **options: Any) -> None:
        contract = contract_of(target, name="service", serving=options)
        around = surrounding(contract.options)
        self._table = HandlerTable(instance_of(target), contract, codecs(1000), threads, (), around)

    def handler(self, method: str) -> Handler:
        return self._table.find(f"service.{method}".encode(), b"json")

    async def call(self, method: str, /, *args: Any, headers: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        """What a call is answered with, in a task of its own, as in a worker."""
        return await asyncio.create_task(self._call(self.handler(method), headers or {}, args or kwargs))

    async def _call(self, handler: Handler, headers: dict[str, Any], arguments: Any) -> Any:
        self.enter(handler, headers)
        request = handler.decode(msgspec.json.encode(arguments))
        return msgspec.json.decode(handler.encode(await handler.start(request)))

    async def stream(self, method: str, /, *args: Any, **kwargs: Any) -> list[Any]:
        """The items of a stream."""
        handler = self.handler(method)
        self.enter(handler, {})
        return [item async for item in await handler.items(handler.decode(msgspec.json.encode(args or kwargs)), None)]

    def enter(self, handler: Handler, headers: dict[str, Any]) -> Call:
        """Make a call of it the current one."""
        header = Properties(headers=headers).encode()
        call = Call("service", handler.method.name, "worker", False, header, asyncio.get_running_loop().time)
        call.enter()
        return call
