"""The bench's own arithmetic, and that it notices wrong answers. No broker is needed."""

import asyncio
import os
import random

import pytest

from .control import WrongAnswerError
from .load import drive, filler_for, numbered
from .measure import Sample
from .plan import SMALL, Cell, Run, parse_size, size_name
from .summary import goals, rows, strangers_share, waiting_share
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
