"""What the errors of aiormq and the broker mean, in our words and with the cure: the one place that translates them."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import aiormq

from .errors import AccessRefused, AMQProxyError, BrokerUnavailable, ConnectionLost, TopologyConflict
from .tls import tls_error
from .topology import NotFound
from .url import BrokerURL

START_ONE = ": start RabbitMQ there, or `amqproxy broker` for a try, or give another URL (AMQPROXY_URL)"
"""The cure for a broker that is not there, at the end of a text: of no use to who has one that is down."""


def cause(closing: asyncio.Future[Any]) -> BaseException | None:
    """Why aiormq closed a channel or connection; taken, or asyncio reports it as never retrieved."""
    return None if closing.cancelled() else closing.exception()


def connect_error(error: Exception, said: str | None, url: BrokerURL, timeout: float) -> AMQProxyError:
    """What a failed attempt to connect means, with the cure in the text; `said` is the broker's own reason."""
    text = said or _text(error)
    if (failed := tls_error(error, url)) is not None:
        return failed
    match error:
        case aiormq.exceptions.ProbableAuthenticationError() if url.external:
            return AccessRefused(f"{url.address} refused the certificate: the name in it is no user there ({text})")
        case aiormq.exceptions.ProbableAuthenticationError():
            return AccessRefused(f"{url.address} refused the user {url.user!r}: check user name and password ({text})")
        case aiormq.exceptions.AuthenticationError():
            return AccessRefused(
                f"{url.address} does not offer the way to log in that the URL asks for ({text}); auth=external needs a "
                "certificate (?certfile=, keyfile=), and a password needs PLAIN"
            )
        case _ if said is not None and re.search(r"limit \(\d+\) is reached|is down$", said):
            return BrokerUnavailable(f"{url.address} takes no connection now: {said}")
        case _ if said is not None and said.startswith(("530", "403")):
            return AccessRefused(
                f"{url.address} refused the virtual host {url.virtual_host!r} to {url.user!r} ({text})"
            )
        case TimeoutError():
            return BrokerUnavailable(
                f"{url.address} did not answer as an AMQP broker within {timeout:g} s; is RabbitMQ behind this port?"
            )
        case ConnectionRefusedError():
            return BrokerUnavailable(f"no broker listens at {url.address}{START_ONE}")
    return BrokerUnavailable(f"cannot connect to {url.address}: {text}")


def translate(error: BaseException | None, url: BrokerURL, said: str | None = None) -> AMQProxyError:
    """aiormq's errors on an open connection, in our words; the broker's own text names the resource."""
    text = _text(error)
    match error:
        case AMQProxyError():
            return error
        case aiormq.exceptions.ChannelAccessRefused() | aiormq.exceptions.ProbableAuthenticationError():
            cure = "; `rabbitmqctl set_permissions` grants it" if "access to" in text else ""
            return AccessRefused(f"{url.address} refused the user {url.user!r}: {text}{cure}")
        case aiormq.exceptions.ChannelPreconditionFailed() | aiormq.exceptions.ChannelLockedResource():
            return TopologyConflict(f"{url.address} refused: {text}{_precondition_cure(text)}")
        case aiormq.exceptions.ChannelNotFoundEntity():
            return NotFound(f"{url.address} does not have it: {text}")
    text = said or text
    return ConnectionLost(f"the connection to {url.address} broke" + (f": {text}" if text else ""))


def _precondition_cure(text: str) -> str:
    if "inequivalent arg" in text:
        return "; use the same options, or delete what is there"
    if text.startswith("PRECONDITION_FAILED - delivery acknowledgement"):
        return "; a call ran for longer than the broker's consumer_timeout, and is delivered to a worker again"
    return ""


def _text(error: BaseException | None) -> str:
    """The last argument of an aiormq error is the broker's text."""
    return str(error.args[-1] if isinstance(error, aiormq.exceptions.AMQPError) and error.args else error or "")
