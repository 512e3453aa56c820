"""From samples to the figures that are shown: medians over rounds, ratios within rounds. No I/O, no clock."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from .contenders import AIO_PIKA, AMQPROXY, AMQPROXY_EMBEDDED, C_PAIR, EMBEDDED
from .measure import Sample
from .plan import SMALL, WINDOWS, Cell

MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class Row:
    """One contender in one cell."""

    contender: str
    cell: Cell
    rate: float
    """Median calls per second."""
    slowest: float
    fastest: float
    to_aio_pika: float | None
    """Median over the rounds of this rate divided by aio-pika's of the same round."""
    to_c: float | None
    to_rabbitmq: float | None
    """For a contender on the embedded broker: the ratio to the same programs on RabbitMQ."""
    caller_us: float
    """Median CPU microseconds per call."""
    worker_us: float
    broker_us: float | None


@dataclass(frozen=True, slots=True)
class Goal:
    """What amqproxy promises: with bodies of `size`, at `window`, at least `ratio` of `peer`'s rate."""

    window: int
    peer: str
    ratio: float
    size: int = SMALL
    contender: str = AMQPROXY


RABBITMQ = "RabbitMQ"
"""The peer of those that run on the embedded broker: the same programs on RabbitMQ."""

GOALS = (
    Goal(64, AIO_PIKA, 12.0),
    Goal(500, AIO_PIKA, 12.0),
    Goal(1, C_PAIR, 0.6),
    Goal(64, C_PAIR, 0.8),
    Goal(500, C_PAIR, 0.8),
    *(Goal(window, RABBITMQ, 1.0, size, AMQPROXY_EMBEDDED) for size in (SMALL, 1024) for window in WINDOWS),
)


def rows(samples: Iterable[Sample]) -> list[Row]:
    """Sum up all samples: a row per cell and contender, by cell, then by first appearance."""
    groups: dict[tuple[Cell, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((Cell(sample.size, sample.window), sample.contender), []).append(sample)
    return [_row(cell, group, groups) for (cell, _), group in sorted(groups.items(), key=lambda item: item[0][0])]


def goals(table: Iterable[Row], promised: Iterable[Goal] = GOALS) -> list[tuple[Goal, float]]:
    """Return what the goals came to, as far as both sides were measured."""
    ours = {(row.contender, row.cell): row for row in table}
    reached = []
    for goal in promised:
        row = ours.get((goal.contender, Cell(goal.size, goal.window)))
        if row is None:
            continue
        ratio = {AIO_PIKA: row.to_aio_pika, C_PAIR: row.to_c, RABBITMQ: row.to_rabbitmq}[goal.peer]
        if ratio is not None:
            reached.append((goal, ratio))
    return reached


def times(samples: Iterable[Sample], cell: Cell, peer: str) -> dict[str, float]:
    """Return the time that each contender takes for a call, in times of a peer's: medians over the rounds."""
    here = [sample for sample in samples if Cell(sample.size, sample.window) == cell]
    of_peer = {sample.round: rate(sample) for sample in here if sample.contender == peer}
    ratios: dict[str, list[float]] = {}
    for sample in here:
        if sample.round in of_peer:
            ratios.setdefault(sample.contender, []).append(of_peer[sample.round] / rate(sample))
    return {contender: median(found) for contender, found in ratios.items()}


def rate(sample: Sample) -> float:
    """Calls per second."""
    return sample.calls / sample.seconds


def waiting_share(samples: Iterable[Sample]) -> float:
    """Return the largest share of one core that all waiting peers together took during a measurement."""
    return max((sample.waiting_cpu / sample.seconds for sample in samples), default=0.0)


def strangers_share(samples: Iterable[Sample]) -> float | None:
    """Return the median share of one core that others took from the machine, None when that is not known."""
    shares = [sample.strangers_cpu / sample.seconds for sample in samples if sample.strangers_cpu is not None]
    return median(shares) if shares else None


def _row(cell: Cell, group: list[Sample], groups: dict[tuple[Cell, str], list[Sample]]) -> Row:
    rates = [rate(sample) for sample in group]
    name = group[0].contender
    twin = name.removesuffix(EMBEDDED) if name.endswith(EMBEDDED) else None
    return Row(
        contender=name,
        cell=cell,
        rate=median(rates),
        slowest=min(rates),
        fastest=max(rates),
        to_aio_pika=_ratio(group, groups.get((cell, AIO_PIKA), [])),
        to_c=_ratio(group, groups.get((cell, C_PAIR), [])),
        to_rabbitmq=None if twin is None else _ratio(group, groups.get((cell, twin), [])),
        caller_us=median(sample.caller_cpu / sample.calls for sample in group) * MICROSECONDS,
        worker_us=median(sample.worker_cpu / sample.calls for sample in group) * MICROSECONDS,
        broker_us=_broker_us(group),
    )


def _ratio(group: list[Sample], peers: list[Sample]) -> float | None:
    by_round = {peer.round: rate(peer) for peer in peers}
    ratios = [rate(sample) / by_round[sample.round] for sample in group if sample.round in by_round]
    return median(ratios) if ratios else None


def _broker_us(group: list[Sample]) -> float | None:
    spent = [sample.broker_cpu / sample.calls for sample in group if sample.broker_cpu is not None]
    return median(spent) * MICROSECONDS if spent else None
