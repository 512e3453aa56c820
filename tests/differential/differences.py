"""Where the embedded broker is meant to differ from the RabbitMQ beside it, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.differential.transcript import Transcript

REFERENCE = "RabbitMQ 3.10"
"""The judge for which these lists are complete; another version may differ in more, or in less."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A difference of wording that may show anywhere: both transcripts are compared without it."""

    reason: str
    pattern: re.Pattern[str]
    replacement: str

    def apply(self, line: str) -> str:
        return self.pattern.sub(self.replacement, line)


RULES = (
    Rule(
        "RabbitMQ says since 3.13 which kind of access was refused",
        re.compile(r"ACCESS_REFUSED - (configure|write|read) access to"),
        "ACCESS_REFUSED - access to",
    ),
    Rule(
        "RabbitMQ adds x-last-death-queue, -reason and -exchange to dead letters since 3.13",
        re.compile(r", x-last-death-(?:exchange|queue|reason): '[^']*'"),
        "",
    ),
)

VERSION_4 = "as RabbitMQ 4 does"
TUNING = "the refusal is told, where RabbitMQ only ends the TCP connection after three seconds"
LARGE = "a message above the limit is refused at its header, where RabbitMQ 3.10 waits for all of it"
QUORUM = "a requeued message returns to the head, as in RabbitMQ 4, where queues have a delivery limit of 20"
DEATHS = "the latest death comes first in x-death, as in RabbitMQ 4; 3.10 puts those in the same queue together"
CONTENT = "a method that only brokers send is refused at once, where RabbitMQ waits for its content"
LOCATORS = "there is one node: where a queue's leader is placed has no effect, and RabbitMQ 4 takes it for any queue"
DIFFERENCES: dict[str, str] = {
    "exchange_of_an_unknown_type_is_declared": VERSION_4,
    "exchange_of_an_empty_type_is_declared": VERSION_4,
    "exchange_of_an_existing_name_is_declared_with_an_unknown_type": VERSION_4,
    "exchange_of_a_reserved_name_and_an_unknown_type": VERSION_4,
    "default_exchange_with_an_unknown_type": VERSION_4,
    "argument_x-queue-master-locator_is_checked": LOCATORS,
    "argument_x-queue-leader-locator_is_checked": LOCATORS,
    "quorum_queue_delivers,_requeues_and_counts_deliveries": QUORUM,
    "quorum_queue_gives_requeued_messages_to_its_consumer": QUORUM,
    "quorum_queue_puts_requeued_messages_where": QUORUM,
    "dead_letter_for_two_reasons_in_one_queue": DEATHS,
    "basic.deliver_from_a_client": CONTENT,
    "stream_is_declared_and_refused": "there are no streams",
    "tuning_to_a_small_frame": TUNING,
    "tuning_to_a_frame_of_1_byte": TUNING,
    "tuning_to_a_large_frame": TUNING,
    "tuning_to_frames_without_a_limit": TUNING,
    "tuning_to_many_channels": TUNING,
    "tuning_to_channels_without_a_limit": TUNING,
    "other_versions_that_RabbitMQ_takes": "AMQP 0-8 and 0-9 are not spoken",
    "body_announced_beyond_the_largest_message": LARGE,
    "body_announced_just_beyond_the_largest_message": LARGE,
}
"""By scenario: why it differs."""


def comparable(transcript: Transcript) -> Transcript:
    """Return the transcript without the differences of wording."""
    return tuple(apply_rules(line) for line in transcript)


def apply_rules(line: str) -> str:
    for rule in RULES:
        line = rule.apply(line)
    return line
