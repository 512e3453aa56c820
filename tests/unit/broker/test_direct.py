"""Direct reply-to: answers go straight to the channel that asked, and to nobody else."""

from __future__ import annotations

from pamqp import commands

from amqproxy.broker import Broker
from amqproxy.broker.message import Message
from tests.unit.broker.wire import Client, Content, Talk, broker, message

Basic, Channel, Queue = commands.Basic, commands.Channel, commands.Queue
PSEUDO = "amq.rabbitmq.reply-to"


def pair(of: Broker | None = None) -> tuple[Talk, Talk]:
    """A channel that asks, and one that answers."""
    of = of or broker()
    asking, answering = Client(of).channel(), Client(of).channel()
    answering.declare("q")
    return asking, answering


def ask(asking: Talk, answering: Talk) -> str:
    """Ask something; return where the answer is to go."""
    asking.publish("q", b"ask", reply_to=PSEUDO)
    request = answering.get("q")
    assert request is not None
    assert request.properties.reply_to is not None
    return request.properties.reply_to


def wait(asking: Talk, tag: str = "c") -> None:
    assert asking.consume(PSEUDO, tag, no_ack=True) == tag


def test_an_answer_goes_to_the_channel_that_asked() -> None:
    asking, answering = pair()
    wait(asking)
    reply_to = ask(asking, answering)
    assert reply_to.startswith(f"{PSEUDO}.")
    answering.publish(reply_to, b"answer", correlation_id="1")
    (answer,) = asking.deliveries()
    assert isinstance(answer.method, Basic.Deliver)
    assert (answer.body, answer.method.consumer_tag, answer.method.routing_key) == (b"answer", "c", reply_to)
    assert (answer.method.exchange, answer.redelivered, answer.properties.correlation_id) == ("", False, "1")
    assert asking.client.broker.memory.used == 0


def test_answers_do_not_use_up_the_numbers_of_deliveries() -> None:
    asking, answering = pair()
    wait(asking)
    reply_to = ask(asking, answering)
    for _ in range(2):
        answering.publish(reply_to)
    assert [answer.tag for answer in asking.deliveries()] == [1, 1]
    asking.consume("q", no_ack=False)
    asking.publish("q", b"x")
    (delivered,) = asking.deliveries()
    assert delivered.tag == 1
    asking.ack(1)
    assert asking.client.broker.memory.used == 0


def test_each_channel_has_its_own_name_that_nobody_can_guess() -> None:
    asking, answering = pair()
    other = asking.client.channel(2)
    wait(asking)
    wait(other)
    names = {ask(asking, answering), ask(other, answering), ask(asking, answering)}
    assert len(names) == 2
    assert all(len(name) >= len(PSEUDO) + 22 for name in names)
    name = names.pop()
    answering.publish(name[:-1] + ("A" if name[-1] != "A" else "B"), b"hack")
    assert not asking.take()
    assert not other.take()


def test_answers_must_not_be_acknowledged_and_are_waited_for_once() -> None:
    asking, _ = pair()
    assert asking.fail(Basic.Consume(queue=PSEUDO)) == (
        406,
        "PRECONDITION_FAILED - reply consumer cannot acknowledge",
    )
    wait(asking)
    assert asking.fail(Basic.Consume(queue=PSEUDO, no_ack=True)) == (
        406,
        "PRECONDITION_FAILED - reply consumer already set",
    )
    wait(asking)


def test_who_does_not_wait_for_answers_cannot_ask_for_them() -> None:
    asking, _ = pair()
    assert asking.fail(*message("q", reply_to=PSEUDO)) == (
        406,
        "PRECONDITION_FAILED - fast reply consumer does not exist",
    )


def test_an_answer_that_nobody_waits_for_any_more_is_lost_without_a_word() -> None:
    for end in ("cancel", "channel", "connection"):
        asking, answering = pair()
        wait(asking)
        reply_to = ask(asking, answering)
        answering.publish(reply_to, b"kept in the cache of routes")
        asking.take()
        if end == "cancel":
            asking.ask(Basic.Cancel(consumer_tag="c"), Basic.CancelOk)
        elif end == "channel":
            asking.ask(Channel.Close(200, "", 0, 0), Channel.CloseOk)
        else:
            asking.client.hang_up()
        answering.publish(reply_to, b"late")
        assert not answering.take()
        if end != "connection":
            assert not asking.client.take()
        assert answering.client.broker.replies == {}
        assert answering.client.broker.memory.used == 0


def test_an_answer_is_no_route_for_a_mandatory_message() -> None:
    asking, answering = pair()
    wait(asking)
    reply_to = ask(asking, answering)
    answering.publish(reply_to, b"answer", mandatory=True)
    found = answering.take()
    assert all(isinstance(one, Content) and isinstance(one.method, Basic.Return) for one in found)
    assert asking.bodies() == [b"answer"]


def test_whether_somebody_waits_for_an_answer_can_be_asked() -> None:
    asking, answering = pair()
    wait(asking)
    reply_to = ask(asking, answering)
    declared = answering.declare(reply_to, passive=True)
    assert (declared.queue, declared.message_count, declared.consumer_count) == (reply_to, 0, 1)
    answering.declare(PSEUDO)
    asking.client.hang_up()
    assert answering.fail(Queue.Declare(queue=reply_to, passive=True)) == (
        404,
        f"NOT_FOUND - no queue '{reply_to}' in vhost '/'",
    )


def test_another_reply_to_is_left_alone() -> None:
    asking, answering = pair()
    asking.publish("q", reply_to="amq.rabbitmq.reply-to.mine")
    got = answering.get("q")
    assert got is not None
    assert got.properties.reply_to == "amq.rabbitmq.reply-to.mine"
    asking.publish("q", message_id=PSEUDO)
    assert answering.get("q") is not None


def test_answers_wait_while_the_socket_is_full_and_are_forgotten_with_the_channel() -> None:
    asking, answering = pair()
    wait(asking)
    reply_to = ask(asking, answering)
    asking.client.session.pause()
    for _ in range(3):
        answering.publish(reply_to, b"answer")
    memory = asking.client.broker.memory
    assert memory.used > 0
    asking.client.hang_up()
    assert memory.used == 0


def test_answers_that_waited_come_in_order_when_there_is_room() -> None:
    asking, answering = pair()
    wait(asking)
    reply_to = ask(asking, answering)
    asking.client.session.pause()
    for content in (b"1", b"2"):
        answering.publish(reply_to, content)
    asking.client.session.resume()
    answering.publish(reply_to, b"3")
    assert asking.bodies() == [b"1", b"2", b"3"]
    assert asking.client.broker.memory.used == 0


def test_who_waits_for_answers_may_have_a_shared_prefetch_that_does_not_count_them() -> None:
    asking, answering = pair()
    wait(asking)
    asking.qos(1, shared=True)
    reply_to = ask(asking, answering)
    for content in (b"1", b"2"):
        answering.publish(reply_to, content)
    assert asking.bodies() == [b"1", b"2"]


def test_an_answer_to_one_that_waits_no_more_goes_nowhere() -> None:
    asking, _ = pair()
    wait(asking)
    (reply,) = asking.client.broker.replies.values()
    asking.ask(Basic.Cancel(consumer_tag="c"), Basic.CancelOk)
    reply.publish(Message(b"\0\0", b"", b""))
    reply.close()
    assert not asking.take()


def test_an_answer_may_be_confirmed_and_larger_than_a_frame() -> None:
    asking, answering = pair()
    wait(asking)
    reply_to = ask(asking, answering)
    answering.ask(commands.Confirm.Select(), commands.Confirm.SelectOk)
    answering.publish(reply_to, b"x" * 300_000)
    assert asking.bodies() == [b"x" * 300_000]
    (ack,) = answering.take()
    assert isinstance(ack, Basic.Ack)
