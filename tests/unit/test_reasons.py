"""What aiormq's errors become: whose fault it was, in which words, and with which cure."""

from __future__ import annotations

import asyncio

import pytest
from aiormq import exceptions

from amqproxy import AccessRefused, AMQProxyError, BrokerUnavailable, ConnectionLost, TopologyConflict
from amqproxy.reasons import cause, connect_error, translate
from amqproxy.topology import NotFound
from amqproxy.url import BrokerURL

URL = BrokerURL.parse("amqp://ann:secret@rabbit.example:5672/shop")
EXTERNAL = BrokerURL.parse("amqps://rabbit.example/shop?auth=external")
UNACKED = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms."


@pytest.mark.parametrize(
    ("error", "said", "kind", "text"),
    [
        (exceptions.ProbableAuthenticationError("no"), None, AccessRefused, "the user 'ann': check user name and"),
        (exceptions.AuthenticationError("no"), None, AccessRefused, "does not offer the way to log in"),
        (OSError(), "530 NOT_ALLOWED - vhost shop not found", AccessRefused, "the virtual host 'shop' to 'ann'"),
        (OSError(), "530 NOT_ALLOWED - connection limit (5) is reached", BrokerUnavailable, "takes no connection now"),
        (TimeoutError(), None, BrokerUnavailable, "did not answer as an AMQP broker within 3 s"),
        (ConnectionRefusedError(), None, BrokerUnavailable, "no broker listens at rabbit.example:5672: start RabbitMQ"),
        (OSError("no route to host"), None, BrokerUnavailable, "cannot connect to rabbit.example:5672: no route"),
    ],
)
def test_a_failed_attempt_to_connect_tells_what_to_look_at(
    error: Exception, said: str | None, kind: type[AMQProxyError], text: str
) -> None:
    met = connect_error(error, said, URL, 3.0)
    assert type(met) is kind
    assert text in str(met)
    assert "secret" not in str(met)


def test_a_certificate_whose_name_is_no_user_is_told_as_such() -> None:
    met = connect_error(exceptions.ProbableAuthenticationError("no"), None, EXTERNAL, 3.0)
    assert type(met) is AccessRefused
    assert "refused the certificate: the name in it is no user there" in str(met)


@pytest.mark.parametrize(
    ("error", "kind", "end"),
    [
        (exceptions.ChannelAccessRefused("write access to x refused"), AccessRefused, "`rabbitmqctl set_permissions`"),
        (exceptions.ChannelAccessRefused("queue 'x' in exclusive use"), AccessRefused, "queue 'x' in exclusive use"),
        (exceptions.ChannelPreconditionFailed("inequivalent arg 'x'"), TopologyConflict, "or delete what is there"),
        (exceptions.ChannelPreconditionFailed(UNACKED), TopologyConflict, "consumer_timeout, and is delivered"),
        (exceptions.ChannelPreconditionFailed("unknown tag 3"), TopologyConflict, "refused: unknown tag 3"),
        (exceptions.ChannelNotFoundEntity("no queue 'x'"), NotFound, "does not have it: no queue 'x'"),
        (exceptions.ConnectionClosed(320, "CONNECTION_FORCED"), ConnectionLost, "broke: CONNECTION_FORCED"),
        (None, ConnectionLost, "the connection to rabbit.example:5672 broke"),
    ],
)
def test_an_error_of_an_open_connection_says_what_is_in_the_way(
    error: Exception | None, kind: type[AMQProxyError], end: str
) -> None:
    met = translate(error, URL)
    assert type(met) is kind
    assert end in str(met)


def test_the_brokers_own_words_are_better_than_the_librarys() -> None:
    assert "broke: 541 INTERNAL_ERROR" in str(translate(OSError("reset"), URL, "541 INTERNAL_ERROR"))


def test_what_is_ours_already_stays_what_it_is() -> None:
    ours = BrokerUnavailable("all channels are in use")
    assert translate(ours, URL) is ours


async def test_the_cause_of_a_closing_is_taken_so_that_nobody_reports_it_as_lost() -> None:
    loop = asyncio.get_running_loop()
    closing, cancelled = loop.create_future(), loop.create_future()
    closing.set_exception(OSError("reset"))
    cancelled.cancel()
    assert isinstance(cause(closing), OSError)
    assert cause(cancelled) is None
