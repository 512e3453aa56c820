"""Progress: what a handler tells its caller while it runs."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

import amqproxy
from amqproxy import Progress
from tests.contract.raw import Message, Raw
from tests.processes import PATIENCE, running
from tests.toiling import Toiler


class Told:
    """Handlers that tell what the test wants them to, when it wants it."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.go_on = asyncio.Event()
        self.in_thread = threading.Event()
        self.call: amqproxy.Call | None = None

    async def count(self, to: int) -> int:
        for number in range(1, to + 1):
            amqproxy.current().progress(number, to)
        return to

    def count_in_thread(self, to: int) -> int:
        for number in range(1, to + 1):
            amqproxy.current().progress(number, to)
        return to

    async def steps(self, to: int) -> str:
        """Go on to the next when the caller has seen one."""
        self.entered.set()
        try:
            for number in range(1, to + 1):
                self.go_on.clear()
                amqproxy.current().progress(number, to, f"step {number}")
                await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "done"

    async def fail(self) -> None:
        amqproxy.current().progress(1, 2, "failing")
        raise KeyError("lost")

    async def rows(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                amqproxy.current().progress(number, count)
                yield number
                await asyncio.sleep(0)
        finally:
            self.cancelled.set()

    async def total(self, numbers: AsyncIterator[int]) -> int:
        found = 0
        async for number in numbers:
            found += number
            amqproxy.current().progress(found)
        return found

    async def tell(self, done: Any, total: Any = None, note: Any = None) -> None:
        amqproxy.current().progress(done, total, note)

    async def linger(self) -> None:
        """Go on telling behind the end."""
        self.call = amqproxy.current()
        self.call.progress(1)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def proxy(mq: amqproxy.Client, service: str, told: Told) -> AsyncIterator[Any]:
    async with mq.serve(told, name=service, auto_delete=True):
        yield mq.proxy(Told, name=service, timeout=PATIENCE)


# In a loop


@pytest.mark.parametrize("method", ["count", "count_in_thread"])
async def test_updates_come_in_a_loop_and_the_result_behind_them(proxy: Any, method: str) -> None:
    watched = amqproxy.progress(getattr(proxy, method)(1000))
    updates = [update async for update in watched]
    assert updates[-1] == Progress(1000, 1000)  # whatever was left out between
    assert [update.done for update in updates] == sorted(update.done or 0 for update in updates)
    assert watched.result == 1000
    assert await watched == await watched == 1000


async def test_each_update_that_is_awaited_comes(proxy: Any, told: Told) -> None:
    seen = []
    watched = amqproxy.progress(proxy.steps(3))
    async for update in watched:
        seen.append(update)
        told.go_on.set()
    assert seen == [Progress(n, 3, f"step {n}") for n in (1, 2, 3)]
    assert watched.result == "done"


async def test_who_is_slow_sees_the_latest(mq: amqproxy.Client, raw: Raw, service: str, told: Told) -> None:
    async with mq.serve(told, name=service, auto_delete=True) as worker:
        watched = amqproxy.progress(mq.proxy(Told, name=service).steps(1))
        assert await anext(watched) == Progress(1, 1, "step 1")
        [call] = worker.running
        for number in (5, 6, 7):
            body = msgspec.json.encode({"done": number})
            _say(raw, call, b"amqproxy.Alive", body)
        _say(raw, call, f"{service}.steps.Reply".encode(), b'"done"')
        assert await watched == "done"
        assert [update async for update in watched] == [Progress(7)]
        told.go_on.set()


def _say(raw: Raw, call: amqproxy.Call, content_type: bytes, body: bytes) -> None:
    """Tell a caller something in the place of its worker."""
    assert call.reply_to is not None
    raw.publish(call.reply_to.decode(), body, content_type=content_type, correlation_id=call.correlation_id)


async def test_there_is_no_result_before_the_end(proxy: Any, told: Told) -> None:
    watched = amqproxy.progress(proxy.steps(1))
    with pytest.raises(RuntimeError, match="there is no result yet: await the call"):
        _ = watched.result
    async for _ in watched:
        with pytest.raises(RuntimeError, match="there is no result yet"):
            _ = watched.result
        told.go_on.set()
    assert watched.result == "done"


async def test_what_the_handler_raises_is_raised_behind_the_last_update(proxy: Any) -> None:
    seen, watched = [], amqproxy.progress(proxy.fail())
    with pytest.raises(KeyError, match="lost"):
        async for update in watched:
            seen.append(update)
    assert seen == [Progress(1, 2, "failing")]
    with pytest.raises(KeyError):
        _ = watched.result
    with pytest.raises(KeyError):
        await watched


async def test_leaving_the_loop_cancels_the_call(proxy: Any, told: Told) -> None:
    async for update in amqproxy.progress(proxy.steps(3)):
        assert update.done == 1
        break
    async with asyncio.timeout(1):
        await told.cancelled.wait()


async def test_an_exception_in_the_loop_cancels_the_call(proxy: Any, told: Told) -> None:
    async def watch() -> None:
        async for _ in amqproxy.progress(proxy.steps(3)):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await watch()
    async with asyncio.timeout(1):
        await told.cancelled.wait()


async def test_who_keeps_it_may_leave_the_loop_and_wait_for_the_result(proxy: Any, told: Told) -> None:
    watched = amqproxy.progress(proxy.steps(1))
    async for _ in watched:
        break
    told.go_on.set()
    assert await watched == "done"
    assert not told.cancelled.is_set()


async def test_the_end_of_a_with_block_cancels_the_call(proxy: Any, told: Told) -> None:
    async with amqproxy.progress(proxy.steps(3)) as watched:
        assert (await anext(watched)).done == 1
    assert told.entered.is_set()
    async with asyncio.timeout(1):
        await told.cancelled.wait()
    with pytest.raises(asyncio.CancelledError):
        await watched
    await watched.aclose()  # does no harm


async def test_closing_what_was_not_begun_sends_nothing(proxy: Any, told: Told) -> None:
    watched = amqproxy.progress(proxy.steps(3))
    await watched.aclose()
    await proxy.tell(1)
    assert not told.entered.is_set()


@pytest.mark.parametrize("callback", [None, lambda update: None])
async def test_who_is_cancelled_while_watching_cancels_the_call(proxy: Any, told: Told, callback: Any) -> None:
    async def watch() -> None:
        watched = amqproxy.progress(proxy.steps(3), callback)
        kept.append(watched)
        if callback is None:
            async for _ in watched:
                pass
        else:
            await watched

    kept: list[Any] = []
    task = asyncio.create_task(watch())
    await told.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(1):
        await told.cancelled.wait()


async def test_two_tasks_do_not_share_the_updates(proxy: Any, told: Told) -> None:
    watched = amqproxy.progress(proxy.steps(1))
    assert (await anext(watched)).done == 1
    first = asyncio.create_task(anext(watched))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task waits"):
        await anext(watched)
    told.go_on.set()
    with pytest.raises(StopAsyncIteration):
        await first


# By a callback


@pytest.mark.parametrize("method", ["count", "count_in_thread"])
async def test_a_callback_is_told_and_the_result_awaited(proxy: Any, method: str) -> None:
    seen: list[Progress] = []
    assert await amqproxy.progress(getattr(proxy, method)(500), seen.append) == 500
    assert seen[-1] == Progress(500, 500)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ZeroDivisionError("mine"), pytest.raises(ZeroDivisionError, match="mine")),
        (StopIteration(), pytest.raises(RuntimeError, match="the callback raised StopIteration")),
        (StopAsyncIteration(), pytest.raises(RuntimeError, match="the callback raised StopAsyncIteration")),
    ],
)
async def test_an_exception_in_the_callback_cancels_the_call_and_is_raised(
    proxy: Any, told: Told, error: Exception, raised: Any
) -> None:
    def fail(update: Progress) -> None:
        raise error

    with raised:
        await amqproxy.progress(proxy.steps(3), fail)
    async with asyncio.timeout(1):
        await told.cancelled.wait()
    assert await proxy.count(3) == 3  # and the connection is as it was


async def test_a_coroutine_of_several_calls_is_watched_as_a_whole(proxy: Any) -> None:
    async def several() -> list[int]:
        first = await proxy.count(3)
        return [first, *await asyncio.gather(proxy.count(5), proxy.count_in_thread(7))]

    seen: list[Progress] = []
    assert await amqproxy.progress(several(), seen.append) == [3, 5, 7]
    assert {Progress(3, 3), Progress(5, 5), Progress(7, 7)} <= set(seen)
    before = len(seen)
    assert await proxy.count(3) == 3  # behind it nobody is told
    assert len(seen) == before


async def test_of_two_that_watch_the_inner_one_is_told(proxy: Any) -> None:
    async def inner() -> Any:
        return await amqproxy.progress(proxy.count(3), one.append)

    one: list[Progress] = []
    other: list[Progress] = []
    assert await amqproxy.progress(inner(), other.append) == 3
    assert one[-1] == Progress(3, 3)
    assert not other


async def test_many_calls_are_watched_at_once(proxy: Any) -> None:
    seen: list[list[Progress]] = [[] for _ in range(100)]
    calls = [amqproxy.progress(proxy.count(n), seen[n].append) for n in range(1, 100)]
    assert await asyncio.gather(*calls) == list(range(1, 100))
    assert [told[-1].done for told in seen[1:]] == list(range(1, 100))


async def test_a_call_by_name_is_watched(mq: amqproxy.Client, proxy: Any, service: str) -> None:
    seen: list[Progress] = []
    untyped = mq.proxy(service)
    assert await amqproxy.progress(untyped.count(9), seen.append) == 9
    assert seen[-1] == Progress(9, 9)
    assert [update async for update in amqproxy.progress(untyped.count(9))][-1] == Progress(9, 9)


# Streams


async def test_of_a_stream_the_loop_gets_the_items_and_the_callback_the_updates(proxy: Any) -> None:
    seen: list[Progress] = []
    assert [item async for item in amqproxy.progress(proxy.rows(300), seen.append)] == list(range(300))
    assert seen[-1] == Progress(299, 300)


async def test_of_a_stream_by_name_too(mq: amqproxy.Client, proxy: Any, service: str) -> None:
    seen: list[Progress] = []
    items = amqproxy.progress(mq.proxy(service).rows(300), seen.append)
    assert [item async for item in items] == list(range(300))
    assert seen[-1] == Progress(299, 300)


async def test_of_a_generator_of_the_users_own(proxy: Any) -> None:
    async def doubled() -> AsyncIterator[int]:
        async for row in proxy.rows(3):
            yield 2 * row
        yield await proxy.count(5)

    seen: list[Progress] = []
    assert [item async for item in amqproxy.progress(doubled(), seen.append)] == [0, 2, 4, 5]
    assert seen[-1] == Progress(5, 5)


async def test_leaving_the_loop_over_a_stream_stops_it(proxy: Any, told: Told) -> None:
    async for _ in amqproxy.progress(proxy.rows(10**6), lambda update: None):
        break
    async with asyncio.timeout(2):
        await told.cancelled.wait()


async def test_the_end_of_a_with_block_stops_a_stream(proxy: Any, told: Told) -> None:
    async with amqproxy.progress(proxy.rows(10**6), print) as items:
        assert await anext(items) == 0
    async with asyncio.timeout(2):
        await told.cancelled.wait()


async def test_an_exception_in_the_callback_stops_a_stream_and_is_raised(proxy: Any, told: Told) -> None:
    def fail(update: Progress) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        async for _ in amqproxy.progress(proxy.rows(10**6), fail):
            pass
    async with asyncio.timeout(2):
        await told.cancelled.wait()


async def test_a_call_that_is_fed_a_stream_is_watched(proxy: Any) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(100):
            yield number

    seen: list[Progress] = []
    assert await amqproxy.progress(proxy.total(numbers()), seen.append) == 4950
    assert seen[-1] == Progress(4950)


async def test_of_a_stream_without_a_callback_nobody_would_get_the_items(proxy: Any) -> None:
    async with proxy.rows(3) as rows:
        with pytest.raises(TypeError, match="give a callback, as in progress"):
            amqproxy.progress(rows)


# What is no call


async def test_what_is_no_call_is_refused(proxy: Any, told: Told) -> None:
    task = asyncio.ensure_future(proxy.tell(1))
    stream = proxy.rows(3)
    assert await anext(stream) == 0
    begun = proxy.count(1)
    begun.send(None)
    for call in (task, begun):
        for watch in (amqproxy.progress, amqproxy.track):
            with pytest.raises(TypeError, match="takes a call that has not begun, and no task"):
                watch(call)
    with pytest.raises(TypeError, match="takes a call that has not begun"):
        amqproxy.progress(stream, print)
    with pytest.raises(TypeError, match="takes a call that has not begun"):
        amqproxy.track(stream)
    with pytest.raises(TypeError, match=r"call it: .*\.count\(…\)$"):
        amqproxy.progress(proxy.count)
    with pytest.raises(TypeError, match=r"takes a call, as in .*, and not 3$"):
        amqproxy.progress(3)  # type: ignore[call-overload]
    call = proxy.count(1)
    callbacks: list[Any] = [3, _async_callback]
    for callback in callbacks:
        with pytest.raises(TypeError, match="the callback is a plain function of one update, and not"):
            amqproxy.progress(call, callback)
    call.close()
    begun.close()
    await task
    await stream.aclose()


async def _async_callback(update: Progress) -> None: ...


# In the handler


def test_outside_of_a_handler_there_is_no_call_to_tell_of() -> None:
    with pytest.raises(LookupError, match=r"is for code that runs in a handler.*copy_context\(\)\.run"):
        amqproxy.current()


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("3",), "done of a progress is a number or None, not '3'"),
        ((1, [2]), r"total of a progress is a number or None, not \[2\]"),
        ((1, 2, 3), "the note of a progress is a str, not 3"),
        ((True,), "done of a progress is a number or None, not True"),
    ],
)
async def test_what_is_no_progress_is_an_error_whether_it_is_watched_or_not(
    proxy: Any, given: tuple[Any, ...], message: str, watched: bool
) -> None:
    with pytest.raises(TypeError, match=message):
        await (amqproxy.progress(proxy.tell(*given), print) if watched else proxy.tell(*given))


async def test_what_a_handler_tells_behind_its_end_goes_nowhere(
    mq: amqproxy.Client, proxy: Any, raw: Raw, service: str, told: Told
) -> None:
    raw.publish(service, b"{}", **asked(service, "linger", raw, 10_000))
    first, second, reply = [await raw.next_message() for _ in range(3)]
    assert (alive(first), alive(second), reply.body) == ({}, {"done": 1}, b"null")
    assert told.call is not None
    told.call.progress(2)
    await proxy.tell(1)
    assert raw.messages.empty()


async def test_a_thread_of_the_handlers_own_tells_in_its_context(mq: amqproxy.Client, service: str) -> None:
    class Threads:
        async def run(self) -> bool:
            context = contextvars.copy_context()
            await asyncio.get_running_loop().run_in_executor(None, context.run, self._tell)
            return await asyncio.to_thread(self._knows)

        def _tell(self) -> None:
            amqproxy.current().progress(1, 2, threading.current_thread().name)

        def _knows(self) -> bool:
            return amqproxy.current().method == "run"

    seen: list[Progress] = []
    async with mq.serve(Threads(), name=service, auto_delete=True):
        assert await amqproxy.progress(mq.proxy(Threads, name=service).run(), seen.append) is True
    assert seen[-1].note != threading.current_thread().name


# On the wire


def asked(service: str, method: str, raw: Raw, heartbeat: object) -> dict[str, Any]:
    return {
        "content_type": f"{service}.{method}".encode(),
        "correlation_id": b"7",
        "reply_to": raw.reply_to,
        "headers": {"x-heartbeat-ms": heartbeat},
    }


def alive(message: Message) -> Any:
    assert message.properties.content_type == b"amqproxy.Alive"
    assert message.properties.correlation_id == b"7"
    assert message.properties.reply_to  # the worker's own queue
    return msgspec.json.decode(message.body)


async def test_who_asks_for_signs_of_life_gets_one_at_once_and_one_per_interval(
    proxy: Any, raw: Raw, service: str, told: Told
) -> None:
    raw.publish(service, b'{"to": 1}', **asked(service, "steps", raw, 100))
    assert alive(await raw.next_message()) == {}
    assert alive(await raw.next_message()) == {"done": 1, "total": 1, "note": "step 1"}
    began = time.monotonic()
    assert [alive(await raw.next_message()) for _ in range(3)] == [{}, {}, {}]
    assert 0.25 < time.monotonic() - began < 3
    told.go_on.set()
    last = await raw.next_message()
    while last.properties.content_type == b"amqproxy.Alive":
        last = await raw.next_message()
    assert last.body == b'"done"'
    assert raw.messages.empty()


@pytest.mark.parametrize("heartbeat", [0, -5, "0", "often", True, 1.5, None])
async def test_who_asks_for_nonsense_gets_the_reply_alone(
    proxy: Any, raw: Raw, service: str, heartbeat: object
) -> None:
    raw.publish(service, b'{"to": 3}', **asked(service, "count", raw, heartbeat))
    assert (await raw.next_message()).body == b"3"
    await proxy.tell(1)
    assert raw.messages.empty()


@pytest.mark.parametrize("heartbeat", [2**62, "10000000000000000", 10**7])
async def test_who_asks_for_one_a_year_gets_the_first(
    proxy: Any, raw: Raw, service: str, told: Told, heartbeat: object
) -> None:
    raw.publish(service, b'{"to": 0}', **asked(service, "steps", raw, heartbeat))
    assert alive(await raw.next_message()) == {}
    assert (await raw.next_message()).body == b'"done"'


async def test_however_fast_a_handler_tells_little_is_sent(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    class Chatter:
        def chat(self, seconds: float) -> int:
            told, until = 0, time.monotonic() + seconds
            while time.monotonic() < until:
                told += 1
                amqproxy.current().progress(told)
            return told

    async with mq.serve(Chatter(), name=service, auto_delete=True):
        raw.publish(service, b'{"seconds": 0.5}', **asked(service, "chat", raw, 1))
        bodies = []
        while (message := await raw.next_message()).properties.content_type == b"amqproxy.Alive":
            bodies.append(alive(message))
    assert msgspec.json.decode(message.body) > 1000
    assert bodies[-1]["done"] == msgspec.json.decode(message.body)
    assert 3 <= len(bodies) <= 13  # one at the beginning, one in 50 ms, the last one


async def test_a_call_that_nobody_watches_says_nothing(proxy: Any, raw: Raw, service: str) -> None:
    properties = asked(service, "count", raw, 0) | {"headers": None}
    raw.publish(service, b'{"to": 3}', **properties)
    assert (await raw.next_message()).body == b"3"
    await proxy.tell(1)
    assert raw.messages.empty()


async def test_a_message_without_a_reply_queue_is_run_in_silence(
    proxy: Any, raw: Raw, service: str, told: Told
) -> None:
    raw.publish(service, b"{}", **(asked(service, "linger", raw, 50) | {"reply_to": None}))
    while told.call is None:
        await proxy.tell(1)
    assert told.call.heartbeat is None


async def test_the_last_progress_of_a_stream_comes_ahead_of_its_end(proxy: Any, raw: Raw, service: str) -> None:
    properties = asked(service, "rows", raw, 1000)
    properties["headers"]["x-stream-credit"] = 10
    raw.publish(service, b'{"count": 3}', **properties)
    messages = [await raw.next_message()]
    while not (messages[-1].properties.headers or {}).get("x-end"):
        messages.append(await raw.next_message())
    assert alive(messages[0]) == {}
    assert alive(messages[-2]) == {"done": 2, "total": 3}


async def test_a_progress_that_makes_no_sense_fails_the_call(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    """Of a worker of another make."""
    told = Told()
    async with mq.serve(told, name=service, auto_delete=True) as worker:
        watched = asyncio.ensure_future(_awaited(amqproxy.progress(mq.proxy(Told, name=service).steps(1), print)))
        await told.entered.wait()
        [call] = worker.running
        _say(raw, call, b"amqproxy.Alive", b'{"done": "much"}')
        with pytest.raises(amqproxy.BadReply, match="a progress that does not decode"):
            await watched
        async with asyncio.timeout(1):
            await told.cancelled.wait()


async def _awaited(call: Any) -> Any:
    return await call


# Between processes


@pytest.mark.parametrize("method", ["toil", "grind"])
async def test_progress_comes_from_another_process(
    mq: amqproxy.Client, amqp_url: str, service: str, method: str
) -> None:
    async with running("toiling.py", amqp_url, service) as worker:
        await worker.says(f"serving {service}")
        toiler: Any = mq.proxy(Toiler, name=service, timeout=PATIENCE)
        watched = amqproxy.progress(getattr(toiler, method)(5, 0.06))
        updates = [update async for update in watched]
        assert watched.result == "done"
        assert updates[-1] == Progress(5, 5, "step 5")
        assert len(updates) >= 3
        rows: list[Progress] = []
        assert [row async for row in amqproxy.progress(toiler.rows(100), rows.append)] == list(range(100))
        assert rows[-1] == Progress(99, 100)
        rows.clear()
        assert [row async for row in amqproxy.progress(toiler.plain_rows(100), rows.append)] == list(range(100))
        assert rows[-1] == Progress(99, 100)
        await worker.says("stopped the rows")
