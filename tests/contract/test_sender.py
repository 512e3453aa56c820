"""One-way messages: confirmed, or refused with a name, and never a word back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import amqproxy
from amqproxy.properties import Properties
from amqproxy.publisher import Publisher
from amqproxy.topology import Queue
from tests.contract.raw import Message, Raw
from tests.idl import kinds_pb2
from tests.processes import running


@amqproxy.message("com.example.Note")
@dataclass
class Note:
    text: str


class Diary:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.entries: asyncio.Queue[Any] = asyncio.Queue()

    async def add(self, x: int, y: int = 0) -> int:
        await self.entries.put((x, y))
        return x + y

    async def write(self, note: Note) -> None:
        await self.entries.put(note)

    async def keep(self, message: kinds_pb2.Plain) -> kinds_pb2.Plain:
        await self.entries.put(message)
        return message

    async def echo(self, text: str) -> str:
        await self.entries.put((text, amqproxy.current().properties.content_encoding))
        return text

    @amqproxy.method(timeout=0.001, idempotent=True)
    async def again(self, x: int) -> None:
        await self.entries.put((x, amqproxy.current().message_id))

    async def fail(self) -> None:
        raise LookupError("nobody will know")

    async def next(self) -> Any:
        async with asyncio.timeout(10):
            return await self.entries.get()


@asynccontextmanager
async def diary(mq: amqproxy.Client, service: str, **options: Any) -> AsyncIterator[tuple[Diary, Any]]:
    served = Diary()
    async with mq.serve(served, name=service, auto_delete=True, **options):
        yield served, mq.sender(Diary, name=service)


async def declare(mq: amqproxy.Client, name: str, **arguments: Any) -> None:
    """A queue that nobody consumes, which goes by itself."""
    link = await mq._live_connection().link()
    await link.declare_queue(Queue(name, arguments={"x-expires": 60_000, **arguments}))


async def waiting_in(mq: amqproxy.Client, name: str) -> int:
    counts = await (await mq._live_connection().link()).queue_counts(name)
    assert counts is not None
    return counts[0]


def publisher(sender: Any) -> Publisher:
    """The line that this sender's `add` used last."""
    line = sender.add.line
    assert isinstance(line, Publisher)
    return line


def nothing_is_left(sender: Any) -> bool:
    calls = publisher(sender).calls
    assert calls.next_expiry() is None
    return not calls._pending and not calls._buckets and not calls._ticks


async def test_a_message_is_taken_by_a_worker_and_nothing_comes_back(mq: amqproxy.Client, service: str) -> None:
    async with diary(mq, service) as (served, sender):
        assert await sender.add(1, 2) is None
        assert await served.next() == (1, 2)
        assert await sender.add(3) is None
        assert await served.next() == (3, 0)
        assert nothing_is_left(sender)


async def test_it_is_called_in_all_the_ways_of_a_proxy(mq: amqproxy.Client, service: str) -> None:
    async with diary(mq, service) as (served, sender):
        assert await sender(Note("a")) is None
        await sender.write(Note("b"))
        await sender.write("c")
        await mq.sender(service).write(text="d")
        await amqproxy.Sender(mq, service)(Note("e"))
        assert {(await served.next()).text for _ in range(5)} == set("abcde")

    async def shout(text: str) -> str:
        await served.entries.put(text)
        return text.upper()

    async with mq.serve(shout, name=service + ".f", auto_delete=True):
        await mq.sender(shout, name=service + ".f")("hi")
        assert await served.next() == "hi"


async def test_thousands_at_once_arrive_each_once(mq: amqproxy.Client, service: str) -> None:
    async with diary(mq, service, concurrency=1000) as (served, sender):
        assert set(await asyncio.gather(*(sender.add(n) for n in range(5000)))) == {None}
        assert sorted([await served.next() for _ in range(5000)]) == [(n, 0) for n in range(5000)]
        assert nothing_is_left(sender)


async def test_messages_keep_their_order(mq: amqproxy.Client, service: str) -> None:
    async with diary(mq, service, concurrency=1) as (served, sender):
        await asyncio.gather(*(sender.add(n) for n in range(200)))
        assert [await served.next() for _ in range(200)] == [(n, 0) for n in range(200)]


async def test_on_the_wire_is_what_a_worker_needs_and_no_more(mq: amqproxy.Client, raw: Raw) -> None:
    sender = mq.sender("diary", routing_key=raw.reply_to.decode())
    await sender.add(1, 2)
    first = await raw.next_message()
    message_id = first.properties.message_id
    assert message_id is not None and len(message_id) == 26
    expected = Properties(content_type=b"diary.add", content_encoding=b"json", delivery_mode=2, message_id=message_id)
    assert first == Message(expected, b"[1,2]")
    with_all = amqproxy.options(sender, priority=9, expires=60, headers={"a": 1}, encoding="snappy-json")
    await with_all.add(x=1)
    second = (await raw.next_message()).properties
    assert second == Properties(
        content_type=b"diary.add",
        content_encoding=b"snappy-json",
        headers={"a": 1},
        delivery_mode=2,
        priority=9,
        expiration=b"60000",
        message_id=second.message_id,
    )
    assert second.message_id not in (None, message_id)


async def test_a_message_that_no_queue_takes_is_unroutable_and_the_others_are_not(
    mq: amqproxy.Client, service: str
) -> None:
    async with diary(mq, service) as (served, sender):
        nobody = mq.sender(Diary, name=service + ".nobody")
        sent = await asyncio.gather(
            *(each.add(n) for n in range(50) for each in (sender, nobody)), return_exceptions=True
        )
        assert sent[::2] == [None] * 50
        errors = sent[1::2]
        assert {type(error) for error in errors} == {amqproxy.Unroutable}
        assert isinstance(errors[0], amqproxy.Unroutable)
        assert errors[0].executed == "no"
        assert f"takes '{service}.nobody' on the default exchange (312 NO_ROUTE)" in str(errors[0])
        assert sorted([await served.next() for _ in range(50)]) == [(n, 0) for n in range(50)]
        assert nothing_is_left(sender)


async def test_a_queue_that_is_full_refuses_and_that_is_told(mq: amqproxy.Client, service: str) -> None:
    await declare(mq, service, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    sender = mq.sender(service)
    await sender.add(1)
    with pytest.raises(amqproxy.Overloaded, match=rf"add: .* refused the message: the queue '{service}' is full") as no:
        await sender.add(2)
    assert no.value.executed == "no"
    assert await waiting_in(mq, service) == 1
    assert nothing_is_left(sender)


async def test_many_refusals_and_confirmations_find_their_messages(mq: amqproxy.Client, service: str) -> None:
    await declare(mq, service, **{"x-max-length": 20, "x-overflow": "reject-publish"})
    await declare(mq, service + ".wide")
    full, wide = mq.sender(service), mq.sender(service + ".wide")
    sent = await asyncio.gather(*(each.add(n) for n in range(100) for each in (full, wide)), return_exceptions=True)
    assert sent[1::2] == [None] * 100
    refused = [each for each in sent[::2] if each is not None]
    assert len(refused) == 100 - await waiting_in(mq, service)
    assert {type(each) for each in refused} == {amqproxy.Overloaded}
    assert await waiting_in(mq, service + ".wide") == 100


async def test_what_is_wrong_is_told_before_anything_is_sent(mq: amqproxy.Client, amqp_url: str, service: str) -> None:
    sender: Any = mq.sender(Diary, name=service)
    with pytest.raises(amqproxy.ContractError, match=r"Expected `int`, got `str` - at `\$\.x`"):
        await sender.add("1")
    with pytest.raises(amqproxy.ContractError):
        await sender.add()
    with pytest.raises(amqproxy.ContractError, match="is called with one message"):
        await sender(1, 2)
    with pytest.raises(AttributeError, match="no method 'burn'"):
        sender.burn()
    with pytest.raises(AttributeError, match="a sender cannot be assigned to"):
        sender.add = None
    async with amqproxy.connect(amqp_url, max_body_bytes=1000) as narrow:
        with pytest.raises(amqproxy.MessageTooLarge, match="max_body_bytes is 1000"):
            await narrow.sender(Diary, name=service).echo("x" * 1000)
        large = {"h": "x" * 200_000}
        sound = narrow.sender(service)
        with pytest.raises(amqproxy.MessageTooLarge, match="headers are too large"):
            await amqproxy.options(sound, headers=large).add(1)
        with pytest.raises(amqproxy.Unroutable):  # the numbers of the channel are still right
            await sound.add(1)


async def test_options_are_those_of_senders(mq: amqproxy.Client, service: str) -> None:
    sender = mq.sender(Diary, name=service, timeout=5)
    assert f"<Sender of '{service}'" in repr(sender)
    assert "priority=9" in repr(amqproxy.options(sender, priority=9))
    for wrong in ({"colour": 1}, {"everyone": True}):
        with pytest.raises(TypeError, match="a sender has no option"):
            amqproxy.options(sender, **wrong)
    with pytest.raises(TypeError, match="everyone is True or False"):
        mq.sender(Diary, everyone=1)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="a message to everyone cannot have a delay"):
        mq.sender(Diary, everyone=True, delay=1)
    with pytest.raises(ValueError, match="a message to everyone cannot have a delay"):
        amqproxy.options(mq.sender(Diary, everyone=True), delay=1)
    with pytest.raises(TypeError, match=r"a proxy has no option 'delay', for a call is waited for; mq\.sender"):
        mq.proxy(Diary, delay=1)


async def test_messages_take_other_encodings_and_are_compressed(mq: amqproxy.Client, service: str) -> None:
    async with diary(mq, service) as (served, sender):
        message = kinds_pb2.Plain(number=7)
        await sender.keep(message)
        assert await served.next() == message
        await amqproxy.options(sender, encoding="zstd-json").echo("a" * 100)
        assert await served.next() == ("a" * 100, b"zstd-json")
        small = amqproxy.options(sender, compress_above=50, compression="gzip", max_in_flight=2)
        await small.echo("a")
        await small.echo("a" * 100)
        assert await served.next() == ("a", b"json")
        assert await served.next() == ("a" * 100, b"gzip-json")


async def test_an_exchange_and_a_key_of_ones_own(mq: amqproxy.Client, service: str) -> None:
    exchange = service + ".x"
    async with diary(mq, service, exchange=exchange, routing_key="k") as (served, sender):
        routed = amqproxy.options(sender, exchange=exchange, routing_key="k")
        await routed.add(1)
        assert await served.next() == (1, 0)
        with pytest.raises(amqproxy.Unroutable, match=f"takes 'l' on exchange '{exchange}'"):
            await amqproxy.options(routed, routing_key="l").add(1)
        with pytest.raises(amqproxy.Unroutable, match="no exchange 'nowhere'"):
            await amqproxy.options(routed, exchange="nowhere").add(1)
        await sender.add(2)  # these have channels of their own
        assert await served.next() == (2, 0)
        channel = await (await mq._live_connection().link())._channel()
        await channel.exchange_delete(exchange)
        with pytest.raises((amqproxy.ConnectionLost, amqproxy.Unroutable), match="no exchange"):
            await routed.add(1)
        await sender.add(3)
        assert await served.next() == (3, 0)


async def test_a_handler_that_fails_is_logged_and_answers_nobody(
    mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "amqproxy")
    async with diary(mq, service) as (served, sender):
        await sender.fail()
        await sender.add(1)
        await served.next()
        assert await mq.proxy(Diary, name=service).add(1, 2) == 3
        told = "LookupError: nobody will know (executed: yes); it is not run again"
        request = rf"a one-way request failed: {service}\.fail \(message-id [\w-]+\): "
        assert re.search(request + re.escape(told), caplog.text)
        assert mq.caller.strays == 0


@asynccontextmanager
async def pool_exchange(mq: amqproxy.Client, service: str) -> AsyncIterator[None]:
    """What the workers of a pool declare."""
    channel = await (await mq._live_connection().link())._channel()
    await channel.exchange_declare(f"amqproxy.{service}", exchange_type="fanout", durable=True)
    yield
    await channel.exchange_delete(f"amqproxy.{service}")


async def test_a_message_to_everyone_reaches_each_who_listens_and_nobody_is_no_error(
    mq: amqproxy.Client, raw: Raw, amqp_url: str, service: str
) -> None:
    everyone = mq.sender(Diary, name=service, everyone=True)
    assert await everyone.add(1, 2) is None  # there is no exchange
    async with pool_exchange(mq, service):
        assert await everyone.add(3, 4) is None  # there is no queue on it
        async with Raw.connected(amqp_url) as other:
            for each in (raw, other):
                await each.opened._channel.queue_bind(each.reply_to.decode(), f"amqproxy.{service}")
            await amqproxy.options(everyone, priority=3, max_in_flight=1).add(5, 6)
            messages = [await each.next_message() for each in (raw, other)]
            assert messages[0] == messages[1]
            assert messages[0].body == b'{"x":5,"y":6}'
            assert messages[0].properties == Properties(
                content_type=f"{service}.add".encode(),
                content_encoding=b"json",
                delivery_mode=1,
                priority=3,
                message_id=messages[0].properties.message_id,
            )
        assert raw.messages.empty()
    for _ in range(2):  # the exchange is gone, which the channel that was open is told by being closed
        try:
            assert await everyone.add(7) is None
        except amqproxy.ConnectionLost as lost:
            assert "no exchange" in str(lost)


async def test_a_worker_in_another_process_takes_messages(amqp_url: str, service: str) -> None:
    from tests.served import Patient

    async with running("served.py", amqp_url, service) as worker, amqproxy.connect(amqp_url) as mq:
        await worker.says(f"serving {service}")
        sender = mq.sender(Patient, name=service)
        await asyncio.gather(*(sender.never() for _ in range(3)))
        await worker.says("waiting", times=3)


async def test_a_message_to_everyone_reaches_each_worker_process_once(amqp_url: str, service: str) -> None:
    from tests.served import Patient

    async with (
        running("served.py", amqp_url, service) as first,
        running("served.py", amqp_url, service) as second,
        amqproxy.connect(amqp_url) as mq,
    ):
        for worker in (first, second):
            await worker.says(f"serving {service}")
        everyone = mq.sender(Patient, name=service, everyone=True)
        await asyncio.gather(everyone.never(), everyone.never())
        for worker in (first, second):
            await worker.says("waiting", times=2)
        await mq.sender(Patient, name=service).never()
        while (heard := [worker.heard.count("waiting") for worker in (first, second)]) == [2, 2]:
            for worker in (first, second):  # whichever of them took it
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await worker.says("waiting", times=3)
        assert sorted(heard) == [2, 3]
