"""What of the order of a channel's events is a matter of luck, and is put right before transcripts are compared.

In RabbitMQ each queue is a process of its own. What comes from one queue comes in order; what comes from several, or
from a queue and from the channel itself, is ordered by nothing that a client could rely on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.differential.link import Channel

DELIVERY = re.compile(r"basic\.deliver consumer_tag='(?P<consumer>.*?)' delivery_tag=(?P<tag>\d+)")
CONFIRMS = ("basic.ack ", "basic.nack ")


def take_in_order(channel: Channel, *, ending: bool = False) -> list[str]:
    """Take the channel's events, in the order in which they are to be compared.

    Whether a connection that is `ending` is still given what its other channels had to give back is luck, too.
    """
    events, channel.events = channel.events, []
    if ending:
        events = [event for event in events if not DELIVERY.match(event)]
    return confirms_last(deliveries_by_queue(commit_last(events), channel))


def commit_last(events: list[str]) -> list[str]:
    """Put the end of a transaction behind the deliveries that it brought about."""
    return sorted(events, key=lambda event: event == "tx.commit-ok") if "tx.commit-ok" in events else events


def deliveries_by_queue(events: list[str], channel: Channel) -> list[str]:
    """Put deliveries from several queues in the order of the queues' names, as if they had come so."""
    places = [place for place, event in enumerate(events) if DELIVERY.match(event)]
    came = [events[place] for place in places]
    queues = {event: queue_of(event, channel.consumers) for event in came}
    if len(set(queues.values())) < 2:
        return events
    wanted = sorted(came, key=lambda event: queues[event])
    new_tags = dict(zip(map(tag_of, wanted), map(tag_of, came), strict=True))
    events = list(events)
    for place, event in zip(places, wanted, strict=True):
        tag = tag_of(event)
        events[place] = event.replace(f"delivery_tag={tag} ", f"delivery_tag={new_tags[tag]} ", 1)
    channel.unsettled.sort(key=lambda tag: new_tags.get(tag, tag))
    return events


def tag_of(event: str) -> int:
    match = DELIVERY.match(event)
    assert match is not None
    return int(match["tag"])


def queue_of(event: str, consumers: Mapping[str, str]) -> str:
    match = DELIVERY.match(event)
    assert match is not None
    return consumers.get(match["consumer"], "")


def confirms_last(events: list[str]) -> list[str]:
    """Put the confirms at the end, in order, unless there is one alone: a return stays ahead of its confirm."""
    confirms = [event for event in events if event.startswith(CONFIRMS)]
    others = [event for event in events if not event.startswith(CONFIRMS)]
    if len(confirms) < 2 and not any(map(DELIVERY.match, others)):
        return events
    return others + sorted(confirms, key=lambda event: int(event.split()[1]))
