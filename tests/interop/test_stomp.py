"""STOMP clients call our workers, and answer our proxies, through RabbitMQ's STOMP plugin."""

from __future__ import annotations

import asyncio
import json
import queue
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest
from calculator_pb2 import AddRequest, AddResponse, DivideRequest, DivideResponse
from stomp.connect import StompConnection12

import amqproxy
from amqproxy.testing import RabbitMQ, RabbitMQNotInstalled, rabbitmq
from tests.conftest import missing
from tests.contract.raw import Raw
from tests.interop.bad_requests import minds_the_ids, refuses
from tests.interop.peer import EXAMPLES
from tests.interop.program import ended, outcome, serving, started

Note = Callable[[str, object], None]


def program(name: str) -> tuple[str, ...]:
    """The command of an example, which imports the generated classes in examples/."""
    return ("env", f"PYTHONPATH={EXAMPLES}", sys.executable, str(EXAMPLES / "stomp" / name))


CALLER, WORKER, MASTER = program("caller.py"), program("worker.py"), program("master.py")
PEER = "STOMP, stomp.py"
ENCODINGS = ("json", "snappy-json", "protobuf", "snappy-protobuf")
FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
PATIENCE = 20.0
LONGER_THAN_AMQP_ALLOWS = "x" * 300


class Calculator:
    async def add(self, x: int, y: int) -> int:
        return x + y

    async def divide(self, x: int, y: int) -> float:
        return x / y

    async def add_message(self, request: AddRequest) -> AddResponse:
        return AddResponse(x=request.x, y=request.y, sum=request.x + request.y)

    async def divide_message(self, request: DivideRequest) -> DivideResponse:
        return DivideResponse(quotient=request.x / request.y)


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitMQ]:
    """A RabbitMQ with the plugin."""
    try:
        with rabbitmq(plugins=["rabbitmq_stomp"]) as node:
            yield node
    except RabbitMQNotInstalled as error:
        missing(str(error))


@pytest.fixture
def stomp_url(node: RabbitMQ) -> str:
    return f"stomp://guest:guest@{node.host}:{node.ports['stomp']}/"


@pytest.fixture
def service() -> str:
    return f"test.calculator.{secrets.token_hex(6)}"


async def add(calc: Any, encoding: str, x: int, y: int) -> int:
    if encoding.endswith("json"):
        return int(await calc.add(x, y))
    return int((await calc.add_message(AddRequest(x=x, y=y))).sum)


async def divide(calc: Any, encoding: str, x: int, y: int) -> float:
    if encoding.endswith("json"):
        return float(await calc.divide(x, y))
    return float((await calc.divide_message(DivideRequest(x=x, y=y))).quotient)


class Stomp:
    """A STOMP client by hand, for what a well-made one does not do."""

    def __init__(self, url: str) -> None:
        self.frames: queue.Queue[Any] = queue.Queue()
        parts = urlsplit(url)
        self._connection = StompConnection12([(parts.hostname, parts.port)], vhost="/", auto_decode=False)
        self._connection.set_listener("test", self)
        self._connection.connect("guest", "guest", wait=True)

    def __enter__(self) -> Stomp:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.disconnect(receipt="bye")

    def on_message(self, frame: Any) -> None:
        self.frames.put(frame)

    on_receipt = on_error = on_message

    async def send(self, destination: str, headers: dict[str, str], body: bytes = b"[1, 2]") -> Any:
        """Send, and return the next frame that comes."""
        self._connection.send(destination, body, headers=headers)
        return await asyncio.to_thread(self.frames.get, timeout=PATIENCE)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_it_calls_our_worker(
    node: RabbitMQ, stomp_url: str, service: str, encoding: str, record_property: Note
) -> None:
    record_property("interop", (PEER, "caller", encoding, "rabbitmq"))
    async with amqproxy.connect(node.url) as mq, mq.serve(Calculator(), name=service, auto_delete=True):
        said = await outcome(*CALLER, stomp_url, service, encoding)
    assert said == ["1 + 2 = 3", "1 / 0: division by zero"]


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_it_serves_our_proxy(
    node: RabbitMQ, stomp_url: str, service: str, encoding: str, record_property: Note
) -> None:
    record_property("interop", (PEER, "worker", encoding, "rabbitmq"))
    async with amqproxy.connect(node.url) as mq, serving(*WORKER, stomp_url, service):
        calc = mq.proxy(Calculator, name=service, encoding=encoding)
        assert await add(calc, encoding, 1, 2) == 3
        assert await divide(calc, encoding, 3, 2) == 1.5
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            await divide(calc, encoding, 1, 0)
        sums = await asyncio.gather(*(add(calc, encoding, n, n) for n in range(50)))
        assert sums == [2 * n for n in range(50)]
        with pytest.raises(amqproxy.RemoteError, match="subtract") as caught:
            await mq.proxy(service).subtract(1, 2)
        assert (caught.value.code, caught.value.executed) == ("unimplemented", "no")
        assert await add(calc, encoding, -3, 1) == -2


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_it_calls_its_like(node: RabbitMQ, stomp_url: str, service: str, encoding: str) -> None:
    async with serving(*WORKER, stomp_url, service):
        assert await outcome(*CALLER, stomp_url, service, encoding) == ["1 + 2 = 3", "1 / 0: division by zero"]


async def test_names_may_have_what_destinations_may_not(node: RabbitMQ, stomp_url: str, service: str) -> None:
    odd = f"{service}/a b:c"
    async with amqproxy.connect(node.url) as mq:
        async with mq.serve(Calculator(), name=odd, auto_delete=True):
            assert (await outcome(*CALLER, stomp_url, odd))[0] == "1 + 2 = 3"
        async with serving(*WORKER, stomp_url, odd):
            assert await mq.proxy(odd).add(1, 2) == 3


@pytest.mark.parametrize(
    ("headers", "body", "code", "message"),
    [
        ({}, b"[1, 2]", "invalid_argument", "content-type"),  # stomp.py sends none by itself
        ({"content-type": "SERVICE.add"}, b"[1, 2", "invalid_argument", ""),
        ({"content-type": "SERVICE.add"}, b"", "invalid_argument", ""),
        ({"content-type": "SERVICE.subtract"}, b"[1, 2]", "unimplemented", "subtract"),
        ({"content-type": "SERVICE.add", "content-encoding": "xml"}, b"<x/>", "unimplemented", "xml"),
        ({"content-type": "SERVICE.add", "content-encoding": "snappy-json"}, b"[1, 2]", "invalid_argument", ""),
    ],
)
@pytest.mark.parametrize("whose", ["ours", "theirs"])
async def test_a_bad_request_is_answered_with_what_is_wrong(
    node: RabbitMQ,
    stomp_url: str,
    service: str,
    headers: dict[str, str],
    body: bytes,
    code: str,
    message: str,
    whose: str,
) -> None:
    headers = {name: value.replace("SERVICE", service) for name, value in headers.items()}
    bad = {"correlation-id": "a:b\\c", "reply-to": "/temp-queue/x"} | headers
    good = {"amqp-message-id": "id", "reply-to": "/temp-queue/x", "content-type": f"{service}.add"}
    async with amqproxy.connect(node.url) as mq:
        ours = mq.serve(Calculator(), name=service, auto_delete=True)
        async with ours if whose == "ours" else serving(*WORKER, stomp_url, service):
            with Stomp(stomp_url) as client:
                reply = await client.send(f"/amq/queue/{service}", bad, body)
                assert (reply.cmd, reply.headers["content-type"]) == ("MESSAGE", FAILURE)
                assert reply.headers["content-encoding"] == "json"
                assert reply.headers["correlation-id"] == "a:b\\c"
                failure = json.loads(reply.body)
                assert (failure["error"]["code"], failure["error"]["executed"]) == (code, "no")
                assert message in failure["message"]
                # The worker survives, and an id in place of a correlation id is echoed just as well.
                reply = await client.send(f"/amq/queue/{service}", good)
                assert (reply.body, reply.headers["correlation-id"]) == (b"3", "id")


async def test_its_worker_refuses_what_others_refuse(node: RabbitMQ, stomp_url: str, service: str) -> None:
    async with Raw.connected(node.url) as raw, serving(*WORKER, stomp_url, service):
        await refuses(raw, service, ENCODINGS)
        await minds_the_ids(raw, service)


async def test_its_worker_ends_when_its_queue_is_deleted(node: RabbitMQ, stomp_url: str, service: str) -> None:
    async with started(*WORKER, stomp_url, service) as process:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"ready\n"
        with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
            connection.channel().queue_delete(service)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert (process.returncode, out) == (1, b"")
        assert err


async def test_a_stomp_caller_is_not_told_that_there_is_no_worker(node: RabbitMQ, stomp_url: str, service: str) -> None:
    """A receipt says that RabbitMQ has the message, not that anybody gets it; only the time limit tells."""
    caller = asyncio.create_task(ended(*CALLER, stomp_url, service))
    with Stomp(stomp_url) as client:
        for destination in (f"/amq/queue/{service}", f"/exchange/amq.direct/{service}", f"/topic/{service}"):
            assert (await client.send(destination, {"receipt": "sent"})).cmd == "RECEIPT"
    async with amqproxy.connect(node.url) as mq:
        with pytest.raises(amqproxy.Unroutable):
            await mq.proxy(service).add(1, 2)
    code, out, err = await caller
    assert (code, out) == (1, "")
    assert f"does a worker serve '{service}'?" in err


async def test_a_send_to_queue_makes_a_queue_that_keeps_the_request(
    node: RabbitMQ, stomp_url: str, service: str
) -> None:
    with Stomp(stomp_url) as client:
        request = {"content-type": f"{service}.add", "reply-to": "/temp-queue/x", "receipt": "sent"}
        assert (await client.send(f"/queue/{service}", request)).cmd == "RECEIPT"
        # It is the queue that a pool declares, and so the pool takes the request whenever it comes.
        async with amqproxy.connect(node.url) as mq, mq.serve(Calculator(), name=service):
            assert (await asyncio.to_thread(client.frames.get, timeout=PATIENCE)).body == b"3"


async def test_a_pool_with_another_queue_is_out_of_reach_by_queue_only(
    node: RabbitMQ, stomp_url: str, service: str
) -> None:
    async with (
        amqproxy.connect(node.url) as mq,
        mq.serve(Calculator(), name=service, arguments={"x-max-priority": 5}),
    ):
        with Stomp(stomp_url) as client:
            refused = await client.send(f"/queue/{service}", {})
            assert refused.cmd == "ERROR"
            assert b"inequivalent arg 'x-max-priority'" in refused.body
        assert await outcome(*CALLER, stomp_url, service) == ["1 + 2 = 3", "1 / 0: division by zero"]
        code, out, err = await ended(*WORKER, stomp_url, service)
        assert (code, out) == (1, "")
        assert "inequivalent arg 'x-max-priority'" in err


async def test_what_a_killed_worker_had_goes_to_ours(node: RabbitMQ, stomp_url: str, service: str) -> None:
    class Witness(Calculator):
        async def add(self, x: int, y: int) -> int:
            redelivered.append(amqproxy.current().redelivered)
            return x + y

    redelivered: list[bool] = []
    async with amqproxy.connect(node.url) as mq:
        calc = mq.proxy(Witness, name=service)
        async with serving(*WORKER, stomp_url, service) as process:
            assert await calc.add(1, 2) == 3
            process.send_signal(signal.SIGSTOP)  # it takes what it is sent, and does nothing with it
            calls = [asyncio.create_task(calc.add(n, n)) for n in range(30)]
            async with mq.serve(Witness(), name=service) as worker:
                await asyncio.wait(calls, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
                process.kill()
                await process.wait()
                assert await asyncio.gather(*calls) == [2 * n for n in range(30)]
                # The call before those may come again: it was answered, and its acknowledgement perhaps not sent.
                assert worker.answered in (30, 31)
        assert any(redelivered)


async def test_a_worker_that_is_told_to_end_loses_nothing(node: RabbitMQ, stomp_url: str, service: str) -> None:
    async with amqproxy.connect(node.url) as mq:
        calc = mq.proxy(Calculator, name=service)
        async with serving(*WORKER, stomp_url, service):
            calls = [asyncio.create_task(calc.add(n, n)) for n in range(500)]
            await asyncio.wait(calls, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        async with mq.serve(Calculator(), name=service) as worker:
            assert await asyncio.gather(*calls) == [2 * n for n in range(500)]
            assert worker.answered <= 500


async def test_requests_made_up_to_break_it_leave_it_serving(node: RabbitMQ, stomp_url: str, service: str) -> None:
    """Each of these replies would end its connection, and the request would come again, to the next worker."""
    request = {"content_type": f"{service}.add"}
    async with amqproxy.connect(node.url) as mq, serving(*WORKER, stomp_url, service):
        with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
            channel = connection.channel()
            for reply_to in ("/exchange/nowhere/x", "/queue/" + service, "/", "", "x/y"):
                channel.basic_publish("", service, b"[1, 2]", pika.BasicProperties(reply_to=reply_to, **request))
            channel.basic_publish("", service, b"[1, 2]", pika.BasicProperties(correlation_id="a\0b", **request))
        # A header of this name hides the property.
        spoilt = mq.proxy(service, timeout=0.5, headers={"correlation-id": LONGER_THAN_AMQP_ALLOWS})
        with pytest.raises(amqproxy.CallTimeout):
            await spoilt.add(1, 2)
        assert await mq.proxy(service).add(1, 2) == 3


async def test_our_pool_does_what_a_master_hands_out_on_a_topic(node: RabbitMQ, stomp_url: str, service: str) -> None:
    topic = f"work.{service}"
    async with (
        amqproxy.connect(node.url) as mq,
        mq.serve(Calculator(), name=service, auto_delete=True, exchange="amq.topic", routing_key="work.#") as one,
        mq.serve(Calculator(), name=service, auto_delete=True, exchange="amq.topic", routing_key="work.#") as other,
    ):
        said = await outcome(*MASTER, stomp_url, service, topic, "100")
        assert said == ["100 sums came, 9900 in all; 0 failed, 0 are missing"]
        assert one.answered + other.answered == 100
        assert one.answered and other.answered
        said = await outcome(*MASTER, stomp_url, "somebody.else", topic, "3")
        assert said == ["0 sums came, 0 in all; 3 failed, 0 are missing"]


async def test_a_master_tells_what_is_missing(node: RabbitMQ, stomp_url: str, service: str) -> None:
    code, out, _ = await ended(*MASTER, stomp_url, service, f"work.{service}", "3", "0.2")
    assert (code, out) == (1, "0 sums came, 0 in all; 0 failed, 3 are missing\n")


async def test_its_workers_do_what_our_proxy_hands_out_on_a_topic(node: RabbitMQ, stomp_url: str, service: str) -> None:
    topic = f"work.{service}"
    worker = (*WORKER, stomp_url, service, topic)
    async with amqproxy.connect(node.url) as mq, serving(*worker), serving(*worker):
        master = mq.proxy(Calculator, name=service, exchange="amq.topic", routing_key=topic)
        sums = await asyncio.gather(*(master.add(n, n) for n in range(100)))
        assert sums == [2 * n for n in range(100)]
        said = await outcome(*MASTER, stomp_url, service, topic, "100")
        assert said == ["100 sums came, 9900 in all; 0 failed, 0 are missing"]
        with pytest.raises(amqproxy.Unroutable, match=r"amq\.topic"):
            await amqproxy.options(master, routing_key="work.for.nobody").add(1, 2)


async def test_workers_of_both_kinds_share_the_work_of_a_topic(node: RabbitMQ, stomp_url: str, service: str) -> None:
    topic = f"work.{service}"
    async with (
        amqproxy.connect(node.url) as mq,
        serving(*WORKER, stomp_url, service, topic),
        mq.serve(Calculator(), name=service, exchange="amq.topic", routing_key=topic, concurrency=1) as ours,
    ):
        said = await outcome(*MASTER, stomp_url, service, topic, "300")
        assert said == ["300 sums came, 89700 in all; 0 failed, 0 are missing"]
        assert 0 < ours.answered < 300
