"""`amqproxy demo`, and how it counts."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path

import pika
import pytest

from amqproxy.cli.demo_load import Figures, Latencies, keep_calling
from amqproxy.cli.demo_service import AddRequest, AddResponse
from amqproxy.errors import Unroutable
from amqproxy.testing import RabbitMQ
from tests.cli.conftest import Invoke
from tests.processes import amqproxy, running


def queue_exists(url: str, queue: str) -> bool:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        connection.channel().queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return False
    finally:
        connection.close()
    return True


async def test_no_call_is_lost_and_nothing_is_left(amqp_url: str) -> None:
    ended = await amqproxy("demo", "--seconds", "1", "--json", AMQPROXY_URL=amqp_url)
    figures = json.loads(ended.out)
    assert (ended.code, figures["problems"]) == (0, [])
    assert figures["ok"] is True
    assert figures["grid_calls"] == 36
    assert (figures["lost"], figures["wrong"]) == (0, 0)
    assert figures["redelivered"] > 0
    assert figures["calls"] == sum(worker["calls"] for worker in figures["workers"].values())
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    states = {name: worker["state"] for name, worker in figures["workers"].items()}
    assert states == {"ada": "serving", "blaise": "killed", "charles": "serving", "grace": "joined"}
    assert figures["workers"]["grace"]["calls"] > 0
    assert not await asyncio.to_thread(queue_exists, amqp_url, figures["queue"])


@pytest.mark.parametrize("url", ["", "embedded:"])
async def test_nothing_but_python_is_needed(tmp_path: Path, url: str) -> None:
    """With a PATH on which there is no RabbitMQ, nor anything else."""
    ended = await amqproxy("demo", "--seconds", "0.5", AMQPROXY_URL=url, PATH=str(tmp_path))
    assert ended.code == 0, ended.err
    assert ended.out.startswith("started a broker in memory\nstarting three worker processes\n")
    assert "Every sum was right, and no call was lost." in ended.out
    assert ended.err == ""


async def test_private_rabbitmq_may_be_asked_for(rabbitmq_node: RabbitMQ) -> None:
    ended = await amqproxy("demo", "--rabbitmq", "--seconds", "0.5")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("starting a private RabbitMQ node\n")
    assert "no call was lost" in ended.out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--rabbitmq", "--url", "amqp://localhost/"), "--url names a broker, and --rabbitmq starts one"),
        (("--url", "x"), "a broker URL starts with amqp://"),
    ],
)
def test_usage_errors_are_sentences(invoke: Invoke, arguments: tuple[str, ...], why: str) -> None:
    ended = invoke("demo", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert why in ended.err


async def test_ctrl_c_ends_it_and_leaves_nothing(embedded_url: str) -> None:
    async with running("-m", "amqproxy", "demo", "--seconds", "60", AMQPROXY_URL=embedded_url) as demo:
        await demo.says("64 calls in flight")
        demo.send(signal.SIGINT)
        assert await demo.ends() == 130
        said = await demo.falls_silent()
    sums = re.findall(r"^(\d) \+ (\d) = (\d+)  \((ada|blaise|charles)\)$", said, re.MULTILINE)
    assert [(x, y) for x, y, *_ in sums] == [(str(x), str(y)) for x in range(6) for y in range(6)]
    assert all(int(x) + int(y) == int(total) for x, y, total, _ in sums)
    assert "Traceback" not in said
    queue = re.search(r"serve the queue (\S+)", said)
    assert queue
    assert not await asyncio.to_thread(queue_exists, embedded_url, queue[1])


def test_broker_that_is_not_there_is_exit_code_3(invoke: Invoke) -> None:
    ended = invoke("demo", "--json", "--url", "amqp://127.0.0.1:1/")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("error: no broker listens at 127.0.0.1:1")


async def test_wrong_and_lost_calls_are_counted_and_named() -> None:
    async def add(request: AddRequest) -> AddResponse:
        if request.x == 1:
            raise Unroutable("nobody there")
        return AddResponse(request.x, request.y, 5, "host.1.1", redelivered=request.x == 2)

    figures = Figures()
    answers = [await figures.call(add, x, 2) for x in range(4)]
    assert [answer is None for answer in answers] == [False, True, False, False]
    assert figures.calls == 3
    assert figures.lost == {"Unroutable: nobody there": 1}
    assert set(figures.wrong) == {"0 + 2 came back as 0 + 2 = 5", "2 + 2 came back as 2 + 2 = 5"}
    assert figures.redelivered == 1
    assert not figures.good


async def test_load_goes_on_until_the_events_have_happened() -> None:
    running_now, most, enough = 0, 0, asyncio.Event()

    async def add(request: AddRequest) -> AddResponse:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await asyncio.sleep(0)
        running_now -= 1
        if request.x == 100:
            enough.set()
        return AddResponse(request.x, request.y, request.x + request.y, "host.1.1", redelivered=False)

    figures = Figures()
    await keep_calling(add, 7, figures, enough.wait())
    assert figures.calls >= 100
    assert figures.good
    assert (most, running_now) == (7, 0)
    assert figures.seconds > 0


async def test_load_ends_with_events_that_fail() -> None:
    async def add(request: AddRequest) -> AddResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def fail() -> None:
        raise RuntimeError("no worker came")

    with pytest.raises(RuntimeError, match="no worker came"):
        await keep_calling(add, 3, Figures(), fail())


def test_percentiles_are_within_a_class_of_the_truth() -> None:
    latencies = Latencies()
    assert latencies.percentile(50) == 0
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    assert latencies.percentile(50) == pytest.approx(0.5, rel=0.004)
    assert latencies.percentile(99) == pytest.approx(0.99, rel=0.004)
    assert latencies.percentile(100) == pytest.approx(1, rel=0.004)
    assert latencies.highest == 1
