"""What no broker would do, done by a peer that was told to."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from pamqp import commands
from pamqp.base import Frame

import amqproxy
from amqproxy.connection import REFUSALS_BORNE
from tests.faults.diary import Diary
from tests.faults.script import Message, Scripted
from tests.faults.table import Row
from tests.patience import SLACK, until


@pytest.mark.fault("F01", "reset as soon as the message is there, before it is confirmed")
async def test_a_message_that_was_not_confirmed_when_the_link_broke_may_be_there(row: Row) -> None:
    row.broker = "a scripted peer"
    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.on_message = peer.reset
        with row.sees(amqproxy.ConnectionLost, executed="maybe", within=1.0):
            await mq.sender("diary").note(1)


@pytest.mark.fault("F01", "reset before the first confirmation of an idempotent message")
async def test_an_idempotent_message_is_sent_until_it_is_confirmed(row: Row) -> None:
    row.broker = "a scripted peer"
    ids: list[str | None] = []

    def confirm_the_second(message: Message) -> None:
        ids.append(message.properties.message_id)
        if len(ids) == 1:
            peer.reset()
        else:
            peer.send(message.channel, commands.Basic.Ack(message.number))

    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.on_message = confirm_the_second
        with row.sees("confirmed", within=5.0):
            await mq.sender("diary", idempotent=True).note(1)
        assert ids[0] == ids[1] is not None


@pytest.mark.fault("F59", "basic.nack for the first message, basic.ack for the next")
async def test_a_message_that_the_broker_refuses_is_overloaded(row: Row) -> None:
    row.broker = "a scripted peer"
    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.on_message = lambda message: peer.send(
            message.channel,
            commands.Basic.Nack(message.number) if message.number == 1 else commands.Basic.Ack(message.number),
        )
        with row.sees(amqproxy.Overloaded, executed="no", within=1.0):
            await mq.sender("diary").note(1)
        with row.sees("confirmed", within=1.0):
            await mq.sender("diary").note(2)


@pytest.mark.fault("F60", "basic.nack for all that comes on a channel after its first message, basic.ack on others")
@pytest.mark.parametrize("confirmed_calls", [False, True])
async def test_a_channel_on_which_all_is_refused_is_left_for_another(
    row: Row, confirmed_calls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As RabbitMQ 3.10 does when a message came before its quorum queue had a leader; the first one is still out."""
    row.broker = "a scripted peer"
    first: list[Message] = []

    def take(message: Message) -> None:
        if not first:
            first.append(message)
        elif message.channel == first[0].channel:
            peer.send(message.channel, commands.Basic.Nack(message.number))
        else:
            accept(message)

    def accept(message: Message) -> None:
        peer.send(message.channel, commands.Basic.Ack(message.number))
        if message.properties.reply_to:
            answer = commands.Basic.Properties(
                correlation_id=message.properties.correlation_id, content_encoding="json"
            )
            peer.deliver(message.properties.reply_to, answer, b"1")

    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.on_message = take
        view = mq.proxy("diary", confirm=True) if confirmed_calls else mq.sender("diary")
        note = amqproxy.options(view, timeout=20.0).note
        patient = asyncio.create_task(note(0))
        await until(lambda: first)
        refused = 0
        with row.sees("confirmed on another channel", within=3.0), caplog.at_level(logging.WARNING):
            while refused < 200:
                with contextlib.suppress(amqproxy.Overloaded):
                    await note(1)
                    break
                refused += 1
                await asyncio.sleep(0.05)
        assert refused > 10, "the channel was left too soon"
        assert refused < 200, "the channel was not left"
        assert " has refused for a while what is sent to the default exchange, as it does when a" in caplog.text
        assert peer.closed == [] and not patient.done()
        accept(first[0])
        assert await patient == (1 if confirmed_calls else None)
        await until(lambda: peer.closed == [first[0].channel])
        await note(2)
        assert peer.connections == 1


@pytest.mark.fault("F50", "connection reset, the next two logins refused")
async def test_who_was_let_in_and_is_refused_for_a_moment_comes_back(
    row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    row.broker = "a scripted peer"
    caplog.set_level(logging.WARNING, "amqproxy")
    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.on_message = lambda message: peer.send(message.channel, commands.Basic.Ack(message.number))
        peer.refuses = 2
        peer.reset()
        await until(lambda: mq.state.name == "reconnecting")
        with row.sees("confirmed, by the third login", within=5.0):
            await mq.sender("diary").note(1)
        assert (mq.state.name, peer.logins) == ("open", 4)
        assert caplog.text.count("refused the user 'guest'") == 2


@pytest.mark.fault("F50", "connection reset, every login refused from then on")
async def test_who_was_let_in_and_is_refused_again_and_again_gives_up(row: Row) -> None:
    row.broker = "a scripted peer"
    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.refuses = 1000
        peer.reset()
        await until(lambda: mq.state.name == "reconnecting")
        with row.sees(amqproxy.AccessRefused, within=15.0, match="refused the user 'guest'"):
            await mq.sender("diary").note(1)
        assert (mq.state.name, peer.logins) == ("closed", 2 + REFUSALS_BORNE)


@pytest.mark.fault("F49", "the first login refused")
@pytest.mark.parametrize("wait", [False, True])
async def test_who_was_never_let_in_is_told_at_once(row: Row, wait: bool) -> None:
    row.broker = "a scripted peer"
    async with Scripted.peer() as peer:
        peer.refuses = 1
        with row.sees(amqproxy.AccessRefused, within=1.0):
            await amqproxy.connect(peer.url, wait=wait)
        assert peer.logins == 1


def request(method: str, number: int) -> commands.Basic.Properties:
    return commands.Basic.Properties(content_type=method, correlation_id=str(number), reply_to="amq.gen-caller")


@pytest.mark.parametrize("calls", [1, 20])
async def test_a_reply_goes_out_ahead_of_the_acknowledgement(calls: int) -> None:
    """Who dies in between has a call run again; the other way round nobody would be answered."""
    async with (
        Scripted.peer() as peer,
        amqproxy.connect(peer.url) as mq,
        mq.serve(Diary(), name="diary"),
    ):
        replied: set[int] = set()
        settled: set[int] = set()

        def note(method: commands.Basic.Ack | commands.Basic.Nack) -> None:
            assert isinstance(method, commands.Basic.Ack)
            tag = method.delivery_tag
            now = set(range(1, tag + 1)) if method.multiple else {tag}
            assert now <= replied, "it was acknowledged ahead of its reply"
            settled.update(now)

        peer.on_message = lambda message: replied.add(int(message.properties.correlation_id or 0))
        peer.on_settled = note
        for number in range(1, calls + 1):
            peer.deliver("diary", request("diary.note", number), b"[1]", number)
        await until(lambda: len(settled) == calls)


@pytest.mark.fault("F46", "a request that comes when the worker has begun to stop")
async def test_what_comes_while_a_worker_stops_is_given_back_and_not_run(row: Row) -> None:
    row.broker = "a scripted peer"
    handler = Diary()
    said: list[commands.Basic.Ack | commands.Basic.Nack] = []
    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        worker = mq.serve(handler, name="diary")
        await worker.start()
        peer.on_settled = said.append
        peer.on_cancel = lambda: peer.deliver("diary", request("diary.note", 1), b"[1]")
        with row.sees("given back, without having run", within=2.0):
            await worker.stop()
            await until(lambda: said)
        assert isinstance(said[0], commands.Basic.Nack) and said[0].requeue
        assert not handler.ran
        row.count()


@pytest.mark.parametrize("silent", [commands.Queue.Declare, commands.Basic.Consume, commands.Channel.Open])
async def test_a_broker_that_does_not_answer_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, silent: type[Frame]
) -> None:
    """It does not take heartbeats to find out."""
    caplog.set_level(logging.WARNING, "amqproxy")
    monkeypatch.setattr("amqproxy.link.COLD_SECONDS", 0.3)
    async with Scripted.peer() as peer, amqproxy.connect(peer.url, heartbeat=0) as mq:
        peer.leaves_open = (silent,)
        starting = asyncio.create_task(mq.serve(Diary(), name="diary").start())
        await until(lambda: "did not answer within 0.3 s; trying again" in caplog.text)
        assert not starting.done()
        peer.leaves_open = ()
        await asyncio.wait_for(starting, 10 * SLACK)
        assert "diary" in peer.consumers
