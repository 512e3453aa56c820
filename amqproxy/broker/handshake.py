"""What the two sides of a connection tell each other before it is open: properties, credentials, limits.

AMQP 0-9-1, section 2.2.4; capabilities: https://www.rabbitmq.com/docs/consumer-cancel#capabilities.
"""

from __future__ import annotations

import platform

from ..fields import Malformed
from .errors import ProtocolError, not_allowed
from .tables import Table

MECHANISMS = "AMQPLAIN PLAIN"
CAPABILITIES = (
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
)
VERSION = "4.1.0"
"""The RabbitMQ whose behaviour this is: clients decide by it what they may use."""


def server_properties() -> dict[str, object]:
    """What the broker says of itself. The product is RabbitMQ since clients ask for it by that name."""
    return {
        "capabilities": dict.fromkeys(CAPABILITIES, True),
        "cluster_name": "amqproxy@localhost",
        "copyright": "MIT licence",
        "information": "The embedded broker of amqproxy, for tests and demonstrations; it behaves like RabbitMQ",
        "platform": f"Python {platform.python_version()}",
        "product": "RabbitMQ",
        "version": VERSION,
    }


def check_tuned(name: str, least: int, most: int, value: int) -> None:
    """Refuse what a client makes of a limit that it was offered; 0 stands for none at all."""
    if 0 < value < least:
        raise not_allowed(f"negotiated {name} = {value} is lower than the minimum allowed value ({least})")
    if most and not 0 < value <= most:
        shown = value or "0 (no limit)"
        raise not_allowed(f"negotiated {name} = {shown} is higher than the maximum allowed value ({most})")


def credentials(mechanism: str, response: bytes) -> tuple[str, str]:
    """Name and password, as a client wrote them; empty ones if an AMQPLAIN response is no table."""
    if mechanism == "PLAIN":
        parts = response.decode(errors="surrogateescape").split("\0")
        if len(parts) != 3 or parts[0]:
            raise ProtocolError(502, "response of mechanism PLAIN is not a name and a password")
        return parts[1], parts[2]
    try:
        table = Table.parse(response)
    except (Malformed, IndexError):
        return "", ""
    return table.text("LOGIN") or "", table.text("PASSWORD") or ""
