"""One measurement of one contender in one cell, and how many calls fill its time."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from .peer import Peer, PeerFailedError
from .plan import Cell, Run
from .usage import cpu_seconds, machine_cpu_seconds

CALIBRATION_SECONDS = 0.2
"""A trial this long says well enough how many calls a second there will be."""

WARM_UP_SHARE = 8
"""One call of warm-up for so many that are measured."""

FULL_WINDOWS = 3
"""A measurement is at least so many windows long, or the start of a slow contender would be measured."""

SETTLE_SECONDS = 0.02
"""The worker's last acknowledgements come after the caller's last reply, and count."""

STALL_TIMEOUT = 60.0
"""Seconds after which a contender whose run has not ended has failed."""


@dataclass(slots=True)
class Pair:
    """A contender that is running."""

    name: str
    caller: Peer
    worker: Peer
    broker_pid: int | None = None
    """The process of the broker between them, None when it is not known."""
    counts: dict[Cell, int] = field(default_factory=dict)
    """Calls per measurement, found by `calibrate`."""

    def stop(self) -> None:
        """End both processes."""
        self.caller.stop()
        self.worker.stop()


@dataclass(frozen=True, slots=True)
class Sample:
    """What one measurement found. CPU times are seconds over the whole measurement."""

    contender: str
    round: int
    size: int
    window: int
    calls: int
    seconds: float
    caller_cpu: float
    worker_cpu: float
    broker_cpu: float | None
    waiting_cpu: float
    """What all peers that had nothing to do used meanwhile: it should be nothing."""
    strangers_cpu: float | None
    """What everybody else on this machine used meanwhile; None when the broker cannot be told from them."""


def calibrate(pair: Pair, cell: Cell, seconds: float) -> None:
    """Set how many calls of this contender take about `seconds` in this cell. Raises PeerFailedError."""
    count = max(cell.window, 16)
    while True:
        took = _run(pair, cell, count)
        if took >= min(CALIBRATION_SECONDS, seconds):
            break
        count *= 2
    pair.counts[cell] = max(round(count / took * seconds), FULL_WINDOWS * cell.window, 1)


def measure(pair: Pair, cell: Cell, number: int, others: Iterable[Pair]) -> Sample:
    """Warm up, then measure once, in round `number`. Raises PeerFailedError."""
    count = pair.counts[cell]
    _run(pair, cell, max(count // WARM_UP_SHARE, cell.window))
    time.sleep(SETTLE_SECONDS)
    waiting = [peer.pid for other in others if other is not pair for peer in (other.caller, other.worker)]
    before = _Clocks(pair, waiting)
    seconds = _run(pair, cell, count)
    time.sleep(SETTLE_SECONDS)
    after = _Clocks(pair, waiting)
    return Sample(
        contender=pair.name,
        round=number,
        size=cell.size,
        window=cell.window,
        calls=count,
        seconds=seconds,
        caller_cpu=after.caller - before.caller,
        worker_cpu=after.worker - before.worker,
        broker_cpu=None if after.broker is None or before.broker is None else after.broker - before.broker,
        waiting_cpu=after.waiting - before.waiting,
        strangers_cpu=_strangers(before, after),
    )


class _Clocks:
    """The CPU clocks of everybody, read at one moment."""

    __slots__ = ("broker", "caller", "machine", "waiting", "worker")

    def __init__(self, pair: Pair, waiting: list[int]) -> None:
        try:
            self.caller = cpu_seconds(pair.caller.pid)
            self.worker = cpu_seconds(pair.worker.pid)
            self.broker = None if pair.broker_pid is None else cpu_seconds(pair.broker_pid)
            self.waiting = sum(map(cpu_seconds, waiting))
            self.machine = machine_cpu_seconds()
        except ProcessLookupError as error:
            raise PeerFailedError(str(error)) from None

    def known(self) -> float | None:
        """What all processes of the bench used, the broker's included; None when its process is not known."""
        return None if self.broker is None else self.caller + self.worker + self.broker + self.waiting


def _strangers(before: _Clocks, after: _Clocks) -> float | None:
    start, end = before.known(), after.known()
    if start is None or end is None or before.machine is None or after.machine is None:
        return None
    return max(0.0, (after.machine - before.machine) - (end - start))


def _run(pair: Pair, cell: Cell, count: int) -> float:
    return pair.caller.run(Run(cell.size, cell.window, count), STALL_TIMEOUT, pair.worker)
