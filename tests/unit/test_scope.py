"""What holds around a call: nothing outside, and what one task sets is nobody else's."""

from __future__ import annotations

import asyncio

from amqproxy.scope import Block, Scope, scope


def test_outside_of_all_there_is_none() -> None:
    assert scope.get() is None


def test_a_scope_knows_the_one_around_it() -> None:
    outer = Block(deadline=2.0)
    inner: Scope = Block(deadline=1.0, outer=outer, watcher=print)
    token = scope.set(inner)
    try:
        found = scope.get()
        assert found is not None and found.outer is not None
        assert (found.deadline, found.outer.deadline) == (1.0, 2.0)
        assert (found.watcher, found.outer.watcher, found.outer.outer) == (print, None, None)
    finally:
        scope.reset(token)
    assert scope.get() is None


async def test_a_task_inherits_it_and_keeps_its_own() -> None:
    async def inside() -> tuple[Scope | None, Scope | None]:
        inherited = scope.get()
        scope.set(Block(deadline=1.0))
        await asyncio.sleep(0)
        return inherited, scope.get()

    around = Block(deadline=9.0)
    token = scope.set(around)
    try:
        for inherited, own in await asyncio.gather(inside(), inside()):
            assert inherited is around
            assert own == Block(deadline=1.0)
        assert scope.get() is around
    finally:
        scope.reset(token)
