"""The broker that --url or AMQPROXY_URL name, for commands that meet other processes there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .failure import UsageError, usage_of

if TYPE_CHECKING:
    from ..url import BrokerURL


def reachable(url: str | None) -> BrokerURL:
    """The broker to use; UsageError if it is no URL, or that of a broker which other processes cannot reach."""
    from ..client import broker_url

    with usage_of(ValueError):
        found = broker_url(url)
    if found.embedded:
        raise UsageError(
            "embedded: is a broker inside of one process, and no other can reach it: start one for all of them with "
            "`amqproxy broker`, which tells its URL"
        )
    return found
