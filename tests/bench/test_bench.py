"""The bench's own arithmetic, and that it notices wrong answers. No broker is needed."""

import asyncio
import os
import random

import pytest

from amqproxy.frames import encode_ack, encode_nack, encode_publish

from .broker_soak import Reading, growth
from .contenders import AMQPROXY, C_PAIR, CONTENDERS
from .contenders.batch_peer import check, check_texts
from .contenders.batch_peer import drive as drive_blocks
from .contenders.oneway_peer import drive as send
from .control import WrongAnswerError
from .load import drive, filler_for, numbered
from .measure import Sample
from .oneway import GOALS as ONE_WAY_GOALS
from .plan import SHORTEST, SMALL, Cell, Run, parse_size, size_name
from .raw import CHANNEL, DIGITS, FRAME_MAX, Confirms, Incoming, Outgoing, acks, frames
from .summary import RABBITMQ, goals, rows, strangers_share, waiting_share
from .traffic import contenders
from .usage import cpu_seconds, machine_cpu_seconds, rss_bytes


class Honest:
    """Answers right, in any order."""

    async def add(self, x: int, y: int) -> int:
        await asyncio.sleep(random.random() / 1000)
        return x + y

    async def echo(self, text: str) -> str:
        return text


class Liar(Honest):
    """Answers as if replies had been mixed up."""

    async def add(self, x: int, y: int) -> int:
        return x + y + (x == 7)

    async def echo(self, text: str) -> str:
        return numbered(0, text[12:])


def sample(
    contender: str,
    number: int,
    rate: float,
    *,
    window: int = 64,
    size: int = SMALL,
    strangers_cpu: float | None = None,
) -> Sample:
    return Sample(
        contender=contender,
        round=number,
        size=size,
        window=window,
        calls=1000,
        seconds=1000 / rate,
        caller_cpu=0.02,
        worker_cpu=0.03,
        broker_cpu=None,
        waiting_cpu=0.001,
        strangers_cpu=strangers_cpu,
    )


@pytest.mark.parametrize("size", [SMALL, 1024])
def test_right_answers_are_timed(size: int) -> None:
    assert asyncio.run(drive(Honest(), Run(size, window=5, count=20))) > 0


@pytest.mark.parametrize("size", [SMALL, 1024])
def test_a_wrong_answer_ends_the_run(size: int) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(drive(Liar(), Run(size, window=5, count=20)))
    assert caught.value.subgroup(WrongAnswerError) is not None


def test_texts_have_their_size_and_differ() -> None:
    assert len(numbered(1, filler_for(1024))) == 1024
    assert numbered(1, filler_for(1024)) != numbered(2, filler_for(1024))


def test_ratios_are_taken_within_a_round() -> None:
    # The machine is twice as slow in the second round, and for everybody: no ratio changes.
    samples = [
        sample("amqproxy", 0, 1200), sample("aio-pika", 0, 100),
        sample("amqproxy", 1, 600), sample("aio-pika", 1, 50),
    ]  # fmt: skip
    ours, theirs = rows(samples)
    assert ours.to_aio_pika == pytest.approx(12)
    assert (ours.rate, ours.slowest, ours.fastest) == pytest.approx((900, 600, 1200))
    assert theirs.to_aio_pika == pytest.approx(1)
    assert ours.to_c is None
    assert (ours.caller_us, ours.worker_us) == pytest.approx((20, 30))
    assert ours.broker_us is None


def test_a_round_that_one_side_missed_counts_for_no_ratio() -> None:
    samples = [sample("amqproxy", 0, 1000), sample("amqproxy", 1, 9000), sample("aio-pika", 0, 100)]
    assert rows(samples)[0].to_aio_pika == pytest.approx(10)


def test_rows_come_by_size_then_window() -> None:
    samples = [
        sample("pika", 0, 1, window=64),
        sample("pika", 0, 1, window=1, size=1024),
        sample("pika", 0, 1, window=1),
    ]
    assert [row.cell for row in rows(samples)] == [Cell(SMALL, 1), Cell(SMALL, 64), Cell(1024, 1)]


def test_goals_are_judged_where_both_sides_were_measured() -> None:
    samples = [sample("amqproxy", 0, 1300), sample("aio-pika", 0, 100)]
    ((goal, ratio),) = goals(rows(samples))
    assert (goal.window, goal.peer) == (64, "aio-pika")
    assert ratio == pytest.approx(13)


def test_each_bench_has_goals_of_its_own() -> None:
    samples = [sample(AMQPROXY, 0, 1400, window=500), sample(C_PAIR, 0, 2000, window=500)]
    ((goal, ratio),) = goals(rows(samples), ONE_WAY_GOALS)
    assert (goal.size, goal.window, goal.ratio) == (SMALL, 500, 0.7)
    assert ratio == pytest.approx(0.7)


@pytest.mark.parametrize("size", [SMALL, 1024])
def test_each_message_of_a_run_is_sent_once(size: int) -> None:
    class Sender:
        def __init__(self) -> None:
            self.sent: list[int] = []

        async def add(self, x: int, y: int) -> int:
            await asyncio.sleep(0)
            self.sent.append(x)
            return x + y

        async def echo(self, text: str) -> str:
            assert len(text) == size
            self.sent.append(int(text[:12]))
            return text

    sender = Sender()
    assert asyncio.run(send(sender, Run(size, window=5, count=20))) > 0
    assert sorted(sender.sent) == list(range(20))


def test_the_embedded_broker_is_measured_by_the_same_programs_on_rabbitmq() -> None:
    samples = [
        sample("amqproxy", 0, 1000), sample("amqproxy, embedded", 0, 1500),
        sample("amqproxy", 1, 4000), sample("amqproxy, embedded", 1, 6000),
    ]  # fmt: skip
    table = rows(samples)
    assert [row.to_rabbitmq for row in table] == [None, pytest.approx(1.5)]
    ((goal, ratio),) = goals(table)
    assert (goal.contender, goal.window, goal.peer) == ("amqproxy, embedded", 64, RABBITMQ)
    assert ratio == pytest.approx(1.5)


def test_each_contender_on_the_embedded_broker_has_one_on_rabbitmq_beside_it() -> None:
    for field in (CONTENDERS, tuple(contenders())):
        names = [contender.name for contender in field]
        embedded = [contender.name for contender in field if contender.embedded]
        assert embedded
        for name in embedded:
            assert names[names.index(name) - 1] == name.removesuffix(", embedded")


def test_waiting_peers_are_watched() -> None:
    assert waiting_share([sample("pika", 0, 1000)]) == pytest.approx(0.001)
    assert waiting_share([]) == 0


def test_strangers_are_watched_where_they_can_be_told() -> None:
    assert strangers_share([sample("pika", 0, 1000)]) is None
    shares = [sample("pika", number, 1000, strangers_cpu=number / 10) for number in range(3)]
    assert strangers_share(shares) == pytest.approx(0.1)


def test_a_process_has_used_some_cpu_and_memory() -> None:
    used, machine = cpu_seconds(os.getpid()), machine_cpu_seconds()
    assert used > 0
    assert machine is None or machine > used
    assert rss_bytes(os.getpid()) > 1 << 20


def test_sizes_have_names() -> None:
    assert [size_name(parse_size(word)) for word in ("small", "1k", "64k", "100")] == [
        "small",
        "1 KiB",
        "64 KiB",
        "100 B",
    ]


@pytest.mark.parametrize("word", ["3", "3k", "", "-20"])
def test_a_size_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="a number of bytes from 16 on"):
        parse_size(word)


def deliveries(first_tag: int, numbers: range, size: int = SHORTEST, key: bytes = b"key") -> bytes:
    """What a broker makes of a batch."""
    delivered = []
    for tag, number in enumerate(numbers, first_tag):
        arguments = b"\x03tag" + tag.to_bytes(8, "big") + b"\0" + b"\0" + bytes((len(key),)) + key
        payload = b"\x00\x3c\x00\x3c" + arguments
        method = b"\x01" + CHANNEL.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"
        body = b"%012d" % number + b"a" * (size - DIGITS)
        delivered.append(encode_publish(method, CHANNEL, b"\0\0", body, FRAME_MAX))
    return b"".join(delivered)


@pytest.mark.parametrize("step", [1, 7, 100, 100_000])
def test_deliveries_are_counted_however_they_are_cut(step: int) -> None:
    data = deliveries(1, range(9, -1, -1)) + deliveries(11, range(4, -1, -1), size=1024)
    incoming = Incoming()
    taken = [tag for at in range(0, len(data), step) for tag in incoming.feed(data[at : at + step])]
    assert taken == list(range(1, 16))
    assert incoming.runs == 2


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(deliveries(3, range(6, 5, -1)), id="a message is missing"),
        pytest.param(deliveries(4, range(7, 6, -1)), id="a tag is missing"),
        pytest.param(deliveries(3, range(7, 6, -1), key=b"kex"), id="from elsewhere"),
        pytest.param(deliveries(3, range(7, 6, -1)).replace(b"a\xce", b"b\xce"), id="another body"),
    ],
)
def test_a_wrong_delivery_ends_the_run_of_messages(wrong: bytes) -> None:
    incoming = Incoming()
    assert incoming.feed(deliveries(1, range(9, 7, -1))) == range(1, 3)
    with pytest.raises(WrongAnswerError, match="delivery 3 is not message 7"):
        incoming.feed(wrong)


def test_what_is_no_delivery_is_no_message() -> None:
    with pytest.raises(WrongAnswerError, match="no delivery"):
        Incoming().feed(encode_ack(CHANNEL, 1) * 3)


def test_a_batch_holds_a_message_for_each_number() -> None:
    batch = Outgoing("exchange", "key", b"\0\0", 1024).batch(range(2, -1, -1))
    bodies = [batch[start + 7 : end - 1] for kind, start, end in frames(batch) if kind == 3]
    assert [len(body) for body in bodies] == [1024] * 3
    assert [int(body[:DIGITS]) for body in bodies] == [2, 1, 0]


def test_confirms_are_counted_in_any_order_and_form() -> None:
    confirms = Confirms()
    data = (
        encode_ack(CHANNEL, 2) + encode_ack(CHANNEL, 4) + encode_ack(CHANNEL, 1) + encode_ack(CHANNEL, 5, multiple=True)
    )
    assert [confirms.feed(data[at : at + 21]) for at in range(0, len(data), 21)] == [1, 2, 3, 5]
    cut = encode_ack(CHANNEL, 6)
    assert [confirms.feed(cut[:5]), confirms.feed(cut[5:])] == [5, 6]


def test_a_message_that_is_refused_ends_the_run() -> None:
    with pytest.raises(WrongAnswerError, match="no confirmation"):
        Confirms().feed(encode_nack(CHANNEL, 1, requeue=False))


def test_every_delivery_gets_its_acknowledgement() -> None:
    assert acks(range(7, 9)) == encode_ack(CHANNEL, 7) + encode_ack(CHANNEL, 8)


def test_growth_is_a_line_through_all_readings() -> None:
    noisy = [Reading(number * 100_000, (30 << 20) + number * 1000 + (-1) ** number * 50) for number in range(10)]
    assert growth(noisy) == pytest.approx(10_000 / (1 << 20), rel=0.05)


def test_blocks_of_calls_have_the_size_of_the_window_and_come_one_after_the_other() -> None:
    seen: list[range] = []

    async def block(run: Run, numbers: range) -> None:
        await asyncio.sleep(0)
        seen.append(numbers)

    assert asyncio.run(drive_blocks(block, Run(SMALL, window=8, count=20))) > 0
    assert seen == [range(0, 8), range(8, 16), range(16, 20)]


def test_wrong_answers_to_a_block_are_noticed() -> None:
    check([2, 3, 4], range(3))
    check_texts([numbered(n, "abc") for n in range(3)], range(3), "abc")
    for found in ([2, 3], [2, 4, 3], [2, 3, 5]):
        with pytest.raises(WrongAnswerError, match="wrong sums"):
            check(found, range(3))
    with pytest.raises(WrongAnswerError, match="wrong texts"):
        check_texts([numbered(n, "abc") for n in (0, 2, 1)], range(3), "abc")
