"""The methods of a channel that come once: declaring, binding, consuming, transactions.

Each operation takes the channel and the method, and returns the frame that answers it, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pamqp import base, commands

from . import arguments as checks
from .channel import Channel
from .consumers import Consumer
from .direct import PSEUDO_QUEUE, DirectReply
from .errors import (
    channel_error,
    command_invalid,
    locked,
    not_allowed,
    not_found,
    not_implemented,
    precondition_failed,
    refused,
)
from .exchange import TYPES
from .methods import encode
from .tables import Table
from .transaction import Transaction
from .vhost import generated_name

Operation = Callable[[Channel, Any], "bytes | None"]
_OPERATIONS: dict[type[base.Frame], Operation] = {}


def perform(channel: Channel, method: base.Frame) -> None:
    """Do what a method asks for, and answer it; ProtocolError if it may not be."""
    operation = _OPERATIONS.get(type(method))
    if operation is None:
        raise command_invalid("unimplemented method")
    answer = operation(channel, method)
    if answer is not None and not getattr(method, "nowait", False):
        channel.session.send(answer)
    if channel.vhost.dead:
        channel.vhost.bury()


def _operation(command: type[base.Frame]) -> Callable[[Operation], Operation]:
    def register(operation: Operation) -> Operation:
        _OPERATIONS[command] = operation
        return operation

    return register


def _clean(name: str) -> str:
    """A name without line ends, which RabbitMQ leaves out of the names of queues and exchanges."""
    return name.replace("\r", "").replace("\n", "")


def _check(channel: Channel, kind: str, resource: str, name: str) -> None:
    channel.session.user.check(kind, channel.vhost.name, resource, name)


def _no_default(name: str) -> str:
    if not name:
        raise refused("operation not permitted on the default exchange")
    return name


def _queue_name(channel: Channel, name: str) -> str:
    """The name of a queue, the one that was declared last for an empty one."""
    if name:
        return name
    if not channel.last_queue:
        raise not_found("no previously declared queue")
    return channel.last_queue


# Exchanges.


@_operation(commands.Exchange.Declare)
def _declare_exchange(channel: Channel, method: commands.Exchange.Declare) -> bytes:
    vhost, name = channel.vhost, _clean(method.exchange)
    if method.passive:
        vhost.exchange(_no_default(name))
    else:
        if method.exchange_type not in TYPES:
            which = "unknown" if method.exchange_type else "invalid"
            raise precondition_failed(f"{which} exchange type '{method.exchange_type}'")
        _check(channel, "configure", "exchange", _no_default(name))
        arguments: Any = method.arguments
        alternate = arguments.text("alternate-exchange")
        if alternate is not None and name not in vhost.exchanges:
            _check(channel, "read", "exchange", name)
            _check(channel, "write", "exchange", alternate)
        vhost.declare_exchange(
            name,
            method.exchange_type,
            durable=method.durable,
            auto_delete=method.auto_delete,
            internal=method.internal,
            arguments=arguments,
        )
    return encode(channel.number, commands.Exchange.DeclareOk)


@_operation(commands.Exchange.Delete)
def _delete_exchange(channel: Channel, method: commands.Exchange.Delete) -> bytes:
    vhost, name = channel.vhost, _no_default(_clean(method.exchange))
    if name.startswith("amq."):
        raise refused(f"deletion of system {vhost.exchange_text(name)} not allowed")
    _check(channel, "configure", "exchange", name)
    vhost.delete_exchange(name, if_unused=method.if_unused)
    return encode(channel.number, commands.Exchange.DeleteOk)


def _change_binding(
    channel: Channel, change: Callable[..., None], source: str, kind: str, name: str, key: str, arguments: Any
) -> None:
    source, name = _clean(source), _clean(name)
    _check(channel, "write", kind, name)
    if kind == "exchange":
        _no_default(name)
    _no_default(source)
    _check(channel, "read", "exchange", source)
    exchange = channel.vhost.exchanges.get(source)
    if exchange is not None and exchange.type == "topic":
        channel.session.user.check_topic("read", channel.vhost.name, source, key)
    change(source, kind, name, key, arguments, channel.session)


@_operation(commands.Exchange.Bind)
def _bind_exchange(channel: Channel, method: commands.Exchange.Bind) -> bytes:
    key, arguments = method.routing_key, method.arguments
    _change_binding(channel, channel.vhost.bind, method.source, "exchange", method.destination, key, arguments)
    return encode(channel.number, commands.Exchange.BindOk)


@_operation(commands.Exchange.Unbind)
def _unbind_exchange(channel: Channel, method: commands.Exchange.Unbind) -> bytes:
    key, arguments = method.routing_key, method.arguments
    _change_binding(channel, channel.vhost.unbind, method.source, "exchange", method.destination, key, arguments)
    return encode(channel.number, commands.Exchange.UnbindOk)


# Queues.


@_operation(commands.Queue.Declare)
def _declare_queue(channel: Channel, method: commands.Queue.Declare) -> bytes:
    vhost, name = channel.vhost, _clean(method.queue)
    if name.startswith(PSEUDO_QUEUE):
        return _declare_reply(channel, name)
    if method.passive:
        queue = vhost.queue(name, channel.session)
        queue.touch()
    else:
        arguments: Any = method.arguments
        queue = vhost.declare_queue(
            name,
            durable=method.durable,
            auto_delete=method.auto_delete,
            exclusive_to=channel.session if method.exclusive else None,
            arguments=arguments,
            permit=partial(_permit_queue, channel, arguments),
        )
    channel.last_queue = queue.name
    return encode(
        channel.number,
        commands.Queue.DeclareOk,
        queue=queue.name,
        message_count=len(queue.ready),
        consumer_count=len(queue.consumers),
    )


def _permit_queue(channel: Channel, arguments: Table, name: str) -> None:
    _check(channel, "configure", "queue", name)
    letters = arguments.text("x-dead-letter-exchange")
    if letters is not None and name not in channel.vhost.queues:
        _check(channel, "read", "queue", name)
        _check(channel, "write", "exchange", letters)


def _declare_reply(channel: Channel, name: str) -> bytes:
    """Direct reply-to has no queue, but says whether somebody still waits for replies."""
    if name not in channel.session.broker.replies and name != PSEUDO_QUEUE:
        raise not_found(f"no {channel.vhost.queue_text(name)}")
    channel.last_queue = name
    return encode(channel.number, commands.Queue.DeclareOk, queue=name, message_count=0, consumer_count=1)


@_operation(commands.Queue.Bind)
def _bind_queue(channel: Channel, method: commands.Queue.Bind) -> bytes:
    name = _queue_name(channel, method.queue)
    key = method.routing_key if method.queue or method.routing_key else name
    _change_binding(channel, channel.vhost.bind, method.exchange, "queue", name, key, method.arguments)
    return encode(channel.number, commands.Queue.BindOk)


@_operation(commands.Queue.Unbind)
def _unbind_queue(channel: Channel, method: commands.Queue.Unbind) -> bytes:
    name = _queue_name(channel, method.queue)
    key = method.routing_key if method.queue or method.routing_key else name
    _change_binding(channel, channel.vhost.unbind, method.exchange, "queue", name, key, method.arguments)
    return encode(channel.number, commands.Queue.UnbindOk)


@_operation(commands.Queue.Purge)
def _purge_queue(channel: Channel, method: commands.Queue.Purge) -> bytes:
    name = _queue_name(channel, method.queue)
    _check(channel, "read", "queue", name)
    count = channel.vhost.queue(name, channel.session).purge()
    return encode(channel.number, commands.Queue.PurgeOk, message_count=count)


@_operation(commands.Queue.Delete)
def _delete_queue(channel: Channel, method: commands.Queue.Delete) -> None:
    vhost, name = channel.vhost, _clean(_queue_name(channel, method.queue))
    _check(channel, "configure", "queue", name)
    queue = None
    if name in vhost.queues:
        queue = vhost.queue(name, channel.session)
        for flag, wanted in (("if-unused", method.if_unused), ("if-empty", method.if_empty)):
            if wanted and queue.quorum:
                raise not_implemented(
                    f"cannot delete {vhost.queue_text(name)}. queue.delete operations with {flag} flag set are not "
                    "supported by quorum queues"
                )
        if method.if_empty and len(queue.ready):
            raise precondition_failed(f"{vhost.queue_text(name)} not empty")
        if method.if_unused and len(queue.consumers):
            raise precondition_failed(f"{vhost.queue_text(name)} in use")
    if not method.nowait:
        count = len(queue.ready) if queue is not None else 0
        channel.session.send(encode(channel.number, commands.Queue.DeleteOk, message_count=count))
    if queue is not None:  # behind the answer: consumers are told on the way
        vhost.delete_queue(queue)


# Consuming.


@_operation(commands.Basic.Qos)
def _qos(channel: Channel, method: commands.Basic.Qos) -> None:
    if method.prefetch_size:
        raise not_implemented(f"prefetch_size!=0 ({method.prefetch_size})")
    channel.session.send(encode(channel.number, commands.Basic.QosOk))
    if method.global_:
        if not channel.prefetch_shared:
            channel.consumed_unacked = len(channel.unacked)  # basic.get counts too, once
        channel.prefetch_shared = method.prefetch_count
    else:
        channel.prefetch = method.prefetch_count
        channel.prefetch_shared = 0  # as in RabbitMQ
    channel.resume()


@_operation(commands.Basic.Consume)
def _consume(channel: Channel, method: commands.Basic.Consume) -> None:
    name, tag = _queue_name(channel, method.queue), method.consumer_tag
    if tag in channel.consumers:
        raise not_allowed(f"attempt to reuse consumer tag '{tag}'")
    tag = tag or generated_name("amq.ctag")
    answer = encode(channel.number, commands.Basic.ConsumeOk, consumer_tag=tag)
    if name == PSEUDO_QUEUE:
        _consume_replies(channel, tag, method)
    else:
        _check(channel, "read", "queue", name)
        vhost = channel.vhost
        queue = vhost.queue(name, channel.session)
        arguments: Any = method.arguments
        if queue.quorum and channel.prefetch_shared:
            raise not_implemented(f"{vhost.queue_text(name)} does not support global qos")
        checks.check_consumer(vhost.queue_text(name), arguments)
        alone = method.exclusive and (len(queue.consumers) or queue.settings.single_active_consumer)
        if alone or (queue.consumers.all and queue.consumers.all[0].exclusive):
            raise refused(f"{vhost.queue_text(name)} in exclusive use")
        consumer = Consumer(
            channel,
            queue,
            tag,
            no_ack=method.no_ack,
            exclusive=method.exclusive,
            prefetch=channel.prefetch,
            arguments=arguments,
        )
        channel.add_consumer(consumer)
        queue.add_consumer(consumer)
    if not method.nowait:
        channel.session.send(answer)
    if tag in channel.consumers:
        channel.consumers[tag].queue.pump()


def _consume_replies(channel: Channel, tag: str, method: commands.Basic.Consume) -> None:
    if not method.no_ack:
        raise precondition_failed("reply consumer cannot acknowledge")
    if channel.reply is not None:
        raise precondition_failed("reply consumer already set")
    channel.reply = DirectReply(channel, tag)
    channel.session.broker.replies[channel.reply.name] = channel.reply
    channel.vhost.counter.topology += 1


@_operation(commands.Basic.Cancel)
def _cancel(channel: Channel, method: commands.Basic.Cancel) -> bytes:
    tag = method.consumer_tag or ""
    consumer = channel.drop_consumer(tag)
    if consumer is not None:
        consumer.queue.remove_consumer(consumer)
    elif channel.reply is not None and channel.reply.tag == tag:
        channel.forget_reply()
    return encode(channel.number, commands.Basic.CancelOk, consumer_tag=tag)


@_operation(commands.Basic.Get)
def _get(channel: Channel, method: commands.Basic.Get) -> bytes | None:
    name = _queue_name(channel, method.queue)
    _check(channel, "read", "queue", name)
    queue = channel.vhost.queue(name, channel.session)
    if queue.quorum and queue.settings.single_active_consumer:
        raise locked(
            f"cannot obtain access to locked {channel.vhost.queue_text(name)}. basic.get operations are not supported "
            "by quorum queues with single active consumer",
        )
    queue.touch()
    entry = queue.fetch()
    if entry is None:
        return encode(channel.number, commands.Basic.GetEmpty)
    channel.got(entry, queue, no_ack=method.no_ack)
    return None


# Settling, where it is not on the path of each message.


@_operation(commands.Basic.Nack)
def _nack(channel: Channel, method: commands.Basic.Nack) -> None:
    channel.reject(method.delivery_tag, method.multiple, method.requeue)


@_operation(commands.Basic.Reject)
def _reject(channel: Channel, method: commands.Basic.Reject) -> None:
    channel.reject(method.delivery_tag or 0, False, method.requeue)


@_operation(commands.Basic.RecoverAsync)
def _recover_async(channel: Channel, method: commands.Basic.RecoverAsync) -> None:
    if not method.requeue:
        raise not_implemented("requeue=false")
    channel.settle(list(channel.take(0, True).values()), channel.requeue)


@_operation(commands.Basic.Recover)
def _recover(channel: Channel, method: commands.Basic.Recover) -> None:
    if not method.requeue:
        raise not_implemented("requeue=false")
    channel.session.send(encode(channel.number, commands.Basic.RecoverOk))
    channel.settle(list(channel.take(0, True).values()), channel.requeue)


# Modes of a channel.


@_operation(commands.Confirm.Select)
def _select_confirms(channel: Channel, method: commands.Confirm.Select) -> bytes:
    if channel.transaction is not None:
        raise precondition_failed("cannot switch from tx to confirm mode")
    channel.confirming = True
    return encode(channel.number, commands.Confirm.SelectOk)


@_operation(commands.Tx.Select)
def _select_tx(channel: Channel, method: commands.Tx.Select) -> bytes:
    if channel.confirming:
        raise precondition_failed("cannot switch from confirm to tx mode")
    channel.transaction = channel.transaction or Transaction()
    return encode(channel.number, commands.Tx.SelectOk)


def _transaction(channel: Channel) -> Transaction:
    if channel.transaction is None:
        raise precondition_failed("channel is not transactional")
    return channel.transaction


@_operation(commands.Tx.Commit)
def _commit(channel: Channel, method: commands.Tx.Commit) -> bytes:
    """Return what has no route, publish the rest, settle, and answer."""
    published, settled = _transaction(channel).take()
    messages = [(message, route, tuple(one for one in to if not one.deleted)) for message, route, to in published]
    for message, route, targets in messages:
        if not targets and route.mandatory:
            channel.give_back(message)
    complete = True
    for message, route, targets in messages:
        channel.vhost.memory.free(message.share)
        complete = channel.enqueue(message, route, targets) and complete
    for held, how in settled:
        channel.settle(list(held.values()), how)
    if not complete:
        raise precondition_failed("partial tx completion")
    return encode(channel.number, commands.Tx.CommitOk)


@_operation(commands.Tx.Rollback)
def _rollback(channel: Channel, method: commands.Tx.Rollback) -> bytes:
    _transaction(channel)
    channel.restore(channel.roll_back())
    return encode(channel.number, commands.Tx.RollbackOk)


@_operation(commands.Channel.Flow)
def _flow(channel: Channel, method: commands.Channel.Flow) -> bytes:
    if not method.active:
        raise not_implemented("active=false")
    return encode(channel.number, commands.Channel.FlowOk, active=True)


@_operation(commands.Channel.Open)
def _open(channel: Channel, method: commands.Channel.Open) -> None:
    raise channel_error("second 'channel.open' seen")
