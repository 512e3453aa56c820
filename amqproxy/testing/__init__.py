"""Brokers for tests: the embedded one, in milliseconds, and a private RabbitMQ node, in seconds.

    async with broker() as url: ...                         # in the event loop of the test
    async with loopback(Calculator()) as calculator: ...    # a proxy, joined to a worker over a broker
    with broker_thread() as broker: ...                     # for tests without an event loop, and for foreign clients
    with rabbitmq() as node: ...                            # the judge of the others

Importing this starts nothing. For pytest there are the fixtures `amqp_broker` and `amqp_url`, see pytest_plugin.py.
"""

from ..embedded import BrokerThread
from .embedded import broker, broker_thread, loopback
from .rabbitmq import (
    START_TIMEOUT,
    RabbitMQ,
    RabbitMQNotInstalled,
    broker_product,
    find_rabbitmq,
    free_port,
    rabbitmq,
)

__all__ = [
    "START_TIMEOUT",
    "BrokerThread",
    "RabbitMQ",
    "RabbitMQNotInstalled",
    "broker",
    "broker_product",
    "broker_thread",
    "find_rabbitmq",
    "free_port",
    "loopback",
    "rabbitmq",
]
