"""Workers that stop: what runs is finished, what was not started goes to others, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

import amqproxy
from amqproxy import server
from amqproxy.testing import BrokerThread, RabbitMQ
from tests.contract.test_dead_letters import drop, waiting
from tests.contract.test_deadlines import Gate, gate
from tests.faults.nodes import ctl, user
from tests.patience import until


async def test_stopping_finishes_what_runs(mq: amqproxy.Client, service: str) -> None:
    handler = Gate()
    worker = mq.serve(handler, name=service, auto_delete=True)
    await worker.start()
    call = asyncio.create_task(mq.proxy(Gate, name=service).wait(1))
    await handler.entered.acquire()
    stop = asyncio.create_task(worker.stop())
    await asyncio.sleep(0.05)
    assert not stop.done()
    handler.open.set()
    assert await call == 1
    await stop
    assert worker.answered == 1


async def test_a_stopping_worker_gives_back_what_it_had_not_started(mq: amqproxy.Client, service: str) -> None:
    first, second = Gate(), Gate()
    second.open.set()
    worker = mq.serve(first, name=service, concurrency=2)
    await worker.start()
    proxy = mq.proxy(Gate, name=service)
    calls = [asyncio.create_task(proxy.wait(n)) for n in range(6)]
    for _ in range(2):
        await first.entered.acquire()
    stop = asyncio.create_task(worker.stop())
    async with mq.serve(second, name=service) as other:
        first.open.set()
        assert await asyncio.gather(*calls) == list(range(6))
        await stop
        assert (worker.answered, other.answered) == (2, 4)
        await (await (await mq._live_connection().link())._channel()).queue_delete(service)


async def test_what_does_not_end_within_its_grace_is_given_back_and_run_elsewhere(
    mq: amqproxy.Client, service: str
) -> None:
    class Seen:
        async def redelivered(self) -> bool:
            if not amqproxy.current().redelivered:
                entered.set()
                await asyncio.Event().wait()
            return amqproxy.current().redelivered

    entered = asyncio.Event()
    worker = mq.serve(Seen(), name=service, grace=0.05)
    await worker.start()
    call = asyncio.create_task(mq.proxy(Seen, name=service).redelivered())
    await entered.wait()
    await worker.stop()
    assert not call.done()
    async with mq.serve(Seen(), name=service):
        assert await call is True
        await (await (await mq._live_connection().link())._channel()).queue_delete(service)


@pytest.mark.parametrize("together", [False, True])
async def test_a_refusal_of_what_another_worker_may_have_run_says_so(
    mq: amqproxy.Client, service: str, together: bool
) -> None:
    class Older:
        async def take(self, x: int) -> None:
            entered.release()
            await asyncio.Event().wait()

    class Newer:
        async def take(self, x: str) -> None: ...

    entered = asyncio.Semaphore(0)
    older = mq.serve(Older(), name=service, grace=0)
    await older.start()
    async with mq.batch(Older, name=service) as batch:
        taken = [batch.take(n) if together else mq.proxy(Older, name=service).take(n) for n in range(2)]
        calls = [asyncio.ensure_future(call) for call in taken]
        for _ in calls:
            await entered.acquire()
        await older.stop()
        async with mq.serve(Newer(), name=service):
            for call in calls:
                with pytest.raises(amqproxy.RemoteError) as caught:
                    await call
                assert (caught.value.code, caught.value.executed) == ("invalid_argument", "maybe")
            with pytest.raises(amqproxy.RemoteError) as refused:
                await mq.proxy(Older, name=service).take(3)
            assert refused.value.executed == "no"
        await (await (await mq._live_connection().link())._channel()).queue_delete(service)


async def test_a_second_stop_without_grace_ends_the_waiting_of_the_first(mq: amqproxy.Client, service: str) -> None:
    handler = Gate()
    worker = mq.serve(handler, name=service, auto_delete=True, grace=60)
    await worker.start()
    call = asyncio.create_task(mq.proxy(Gate, name=service, timeout=1).wait(1))
    await handler.entered.acquire()
    began = time.monotonic()
    patient = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    await worker.stop(0)
    await patient
    assert time.monotonic() - began < 5
    with pytest.raises(amqproxy.CallTimeout):
        await call


async def test_a_handler_that_will_not_be_cancelled_holds_up_nobody_for_long(mq: amqproxy.Client, service: str) -> None:
    class Stubborn:
        async def wait(self) -> None:
            entered.set()
            while not done.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await done.wait()

    entered, done = asyncio.Event(), asyncio.Event()
    worker = mq.serve(Stubborn(), name=service, auto_delete=True, grace=60)
    await worker.start()
    call = asyncio.create_task(mq.proxy(Stubborn, name=service).wait())
    await entered.wait()
    began = time.monotonic()
    patient = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    await worker.stop(0)
    await patient
    assert time.monotonic() - began < 10
    call.cancel()
    done.set()


async def test_a_worker_that_cannot_be_left_does_not_keep_the_connection_open(amqp_url: str, service: str) -> None:
    class Sticky:
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *exc: object) -> None:
            raise OSError("the database is gone")

        async def use(self) -> None: ...

    client = await amqproxy.connect(amqp_url)
    await client.serve(Sticky(), name=service, auto_delete=True).start()
    with pytest.raises(OSError, match="the database is gone"):
        await client.close()
    with pytest.raises(amqproxy.Closed):
        client.proxy(service)


async def test_a_worker_that_is_stopped_while_it_starts_does_not_serve(mq: amqproxy.Client, service: str) -> None:
    worker = mq.serve(Gate(), name=service, auto_delete=True)
    start = asyncio.create_task(worker.start())
    await asyncio.sleep(0)
    await worker.stop()
    with pytest.raises(amqproxy.Closed, match="stopped while it started"):
        await start
    with pytest.raises(amqproxy.Unroutable):
        await mq.proxy(service).ping()


@pytest.mark.parametrize("times", [1, 2])
async def test_a_start_that_is_cancelled_as_it_is_done_leaves_no_consumer(
    mq: amqproxy.Client, service: str, times: int
) -> None:
    """As by a time limit that is over in that moment; the second time, while it closes what it had opened."""
    worker = mq.serve(Gate(), name=service, auto_delete=True)
    start = asyncio.create_task(worker.start())
    await asyncio.sleep(0)
    assert worker._opening is not None
    worker._opening.add_done_callback(lambda opening: start.cancel())
    session = await worker._opening
    if times == 2:
        await asyncio.sleep(0)
        assert worker._undoing is not None and not worker._undoing.done()
        start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await worker.stop()
    assert worker.ended and not session.alive
    with pytest.raises(amqproxy.Unroutable):
        await mq.proxy(service).ping()


async def test_workers_that_ended_or_never_began_are_forgotten(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Gate(), name=service, auto_delete=True):
        for _ in range(3):
            with pytest.raises(amqproxy.TopologyConflict):
                await mq.serve(Gate(), name=service, durable=False).start()
        async with mq.serve(Gate(), name=service, auto_delete=True):
            pass
        mq.serve(Gate(), name=service)
        assert len(mq._workers) == 2


async def test_a_handler_that_cancels_itself_while_the_worker_drains_is_answered(
    mq: amqproxy.Client, service: str
) -> None:
    class Quits:
        async def quit(self) -> None:
            entered.set()
            await leave.wait()
            raise asyncio.CancelledError

    entered, leave = asyncio.Event(), asyncio.Event()
    worker = mq.serve(Quits(), name=service, auto_delete=True)
    await worker.start()
    call = asyncio.create_task(mq.proxy(Quits, name=service).quit())
    await entered.wait()
    stop = asyncio.create_task(worker.stop())
    await asyncio.sleep(0.05)
    leave.set()
    with pytest.raises(amqproxy.RemoteError) as caught:
        await call
    assert caught.value.code == "cancelled"
    await stop


async def test_a_worker_whose_object_cannot_be_entered_is_over(mq: amqproxy.Client, service: str) -> None:
    class Broken:
        async def __aenter__(self) -> None:
            raise OSError("no database")

        async def use(self) -> None: ...

    worker = mq.serve(Broken(), name=service, auto_delete=True)
    with pytest.raises(OSError, match="no database"):
        await worker.start()
    assert worker.ended
    with pytest.raises(amqproxy.Closed):
        await worker.start()


async def test_two_starts_at_once_serve_once(mq: amqproxy.Client, service: str) -> None:
    worker = mq.serve(Gate(), name=service, auto_delete=True)
    first, second = await asyncio.gather(worker.start(), worker.start(), return_exceptions=True)
    assert first is None and isinstance(second, amqproxy.Closed)
    assert await mq.proxy(service).ping() == "pong"
    await worker.stop()


async def test_a_connection_that_is_closed_while_it_opens_is_closed(amqp_url: str) -> None:
    client = amqproxy.connect(amqp_url)
    opening = asyncio.create_task(client.open())
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(amqproxy.Closed, match="closed while it was opened"):
        await opening
    assert client._connection is None


async def test_calls_are_run_whatever_the_loops_task_factory(mq: amqproxy.Client, service: str) -> None:
    eager = getattr(asyncio, "eager_task_factory", None)
    if eager is None:
        pytest.skip("eager tasks came with Python 3.12")
    asyncio.get_running_loop().set_task_factory(eager)
    handler = Gate()
    handler.open.set()
    async with mq.serve(handler, name=service, auto_delete=True) as worker:
        proxy = mq.proxy(Gate, name=service)
        assert await asyncio.gather(*(proxy.wait(n) for n in range(50))) == list(range(50))
        assert not worker.running


async def test_a_worker_serves_once(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Gate(), name=service, auto_delete=True) as worker:
        with pytest.raises(amqproxy.Closed, match="started already"):
            await worker.start()
        assert repr(worker).startswith(f"<Worker {worker.name} of '{service}' at amqp://guest@")
    with pytest.raises(amqproxy.Closed, match="started already"):
        await worker.start()
    await worker.stop()


async def test_a_queue_that_cannot_be_had_leaves_the_served_object_again(mq: amqproxy.Client, service: str) -> None:
    steps: list[str] = []

    class Pool:
        async def __aenter__(self) -> None:
            steps.append("enter")

        async def __aexit__(self, *exc: object) -> None:
            steps.append("exit")

        async def use(self) -> None: ...

    async with gate(mq, service):
        with pytest.raises(amqproxy.TopologyConflict):
            await mq.serve(Pool(), name=service, durable=False, auto_delete=True).start()
    assert steps == ["enter", "exit"]


async def test_a_message_is_acknowledged_behind_its_answer(mq: amqproxy.Client, service: str) -> None:
    """After thousands of calls in every order of ending, no delivery is left unacknowledged."""

    class Jitter:
        async def work(self, n: int) -> int:
            for _ in range(n % 7):
                await asyncio.sleep(0)
            return n

    worker = mq.serve(Jitter(), name=service, concurrency=50)
    await worker.start()
    proxy = mq.proxy(Jitter, name=service)
    assert await asyncio.gather(*(proxy.work(n) for n in range(3000))) == list(range(3000))
    await worker.stop()
    link = await mq._live_connection().link()
    assert await link.queue_counts(service) == (0, 0)
    await (await link._channel()).queue_delete(service)


async def test_a_worker_that_finds_no_connection_says_which(
    mortal: BrokerThread | RabbitMQ, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "START_SECONDS", 0.3)
    async with amqproxy.connect(mortal.url) as mq:
        link = mq._live_connection().current_link
        assert link is not None
        await asyncio.to_thread(mortal.kill)
        await asyncio.wait((link.closed,))
        says = rf"^{service} is not served: .* within 0\.3 s; the connection to {link.url.address} is reconnecting"
        with pytest.raises(amqproxy.BrokerUnavailable, match=says):
            await mq.serve(Gate(), name=service).start()
    await asyncio.to_thread(mortal.start)


async def test_a_worker_that_may_not_have_its_own_queue_again_says_so_and_serves_on(
    rabbitmq_node: RabbitMQ, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        user(rabbitmq_node, service, "pw", (".*", ".*", ".*")) as url,
        amqproxy.connect(url) as mq,
        mq.serve(Gate(), name=service, auto_delete=True) as worker,
    ):
        proxy = mq.proxy(Gate, name=service)
        assert await proxy.ping() == "pong"
        assert worker.session is not None and worker.session.desk._opened is not None
        await ctl(rabbitmq_node, "set_permissions", service, "^(?!amq)", ".*", ".*")
        await worker.session.desk._opened._channel.close()
        says = f"{worker.name} of {service} takes no broadcasts, cancellations and streams any more"
        await until(lambda: says in caplog.text, lambda: caplog.text, within=9)
        assert "grant what is refused, and restart it" in caplog.text
        assert await proxy.ping() == "pong"


async def test_a_worker_that_stops_leaves_nothing_to_run_again_in_a_quorum_queue(
    mq: amqproxy.Client, service: str
) -> None:
    """RabbitMQ forgets acknowledgements on their way to a quorum queue if their channel is closed too soon."""

    class Slow:
        def __init__(self) -> None:
            self.ends: list[asyncio.Future[None]] = []

        async def wait(self, n: int) -> None:
            self.ends.append(asyncio.get_running_loop().create_future())
            await self.ends[-1]

    size = 400
    for _ in range(3):
        slow = Slow()
        worker = mq.serve(slow, name=service, quorum=True, concurrency=size)
        await worker.start()
        sender = mq.sender(service)
        await asyncio.gather(*(sender.wait(n) for n in range(size)))
        await until(lambda slow=slow: len(slow.ends) == size)  # type: ignore[misc]
        stopping = asyncio.create_task(worker.stop())
        for end in reversed(slow.ends):  # so that each is acknowledged alone
            end.set_result(None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await stopping
        assert await waiting(mq, service) == 0
    await drop(mq, service, f"{service}.dead")
