"""``python -m tests.bench.soak``: what a long life, or a crowd of calls, leaves behind.

One proxy of one connection makes a million calls, 500 in flight, against one worker process. Memory of both
processes, tasks and futures of the caller are printed every 100,000 calls. The first block is the warm-up:
what is there after it must do for all the others. Then 10,000 calls are in flight at once, and all must come
back right. With ``--embedded`` all this goes over an embedded broker, whose memory is watched too.
"""

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import amqproxy
from amqproxy.answer import Answer

from .broker import Broker, NoBrokerError, broker, embedded
from .contenders import AMQPROXY, CONTENDERS
from .contenders.amqproxy_peer import Calculator
from .load import Service, drive
from .peer import Peer, PeerFailedError
from .plan import SMALL, Run
from .usage import rss_bytes

MEBIBYTE = 1 << 20

NO_BROKER = 3

OBJECTS_BOUND = 50
"""Tasks and futures come and go with heartbeats and timers; calls that are left behind would be thousands."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What there is at one moment at which no call is in flight."""

    caller_rss: int
    worker_rss: int
    broker_rss: int
    """0 for a broker that is not ours."""
    tasks: int
    futures: int
    """Futures and answers alive anywhere in the caller, tasks included: a call that any structure kept shows here."""

    def __str__(self) -> str:
        """Read as the end of a line of the table."""
        sizes = " ".join(f"{size / MEBIBYTE:11.2f}" for size in self._sizes())
        return f"{sizes} {self.tasks:6} {self.futures:8}"

    def _sizes(self) -> tuple[int, int, int]:
        return self.caller_rss, self.worker_rss, self.broker_rss

    def growth(self, baseline: "Reading") -> int:
        """Bytes by which the worst of the processes has grown."""
        return max(now - before for now, before in zip(self._sizes(), baseline._sizes(), strict=True))

    def left_behind(self, baseline: "Reading") -> int:
        """Tasks and futures that were not there before."""
        return max(self.tasks - baseline.tasks, self.futures - baseline.futures)


async def soak(service: Service, read: Callable[[], Reading], args: argparse.Namespace) -> list[str]:
    """Make the calls block by block; return what went wrong."""
    headings = " ".join(f"{name + ' MiB':>11}" for name in ("caller", "worker", "broker"))
    print(f"{'calls':>10} {'calls/s':>8} {headings} {'tasks':>6} {'futures':>8}")
    baseline = None
    now = None
    for done in range(args.every, args.calls + 1, args.every):
        seconds = await drive(service, Run(SMALL, args.window, args.every))
        now = read()
        baseline = baseline or now
        print(f"{done:10,} {args.every / seconds:8,.0f} {now}", flush=True)
    if baseline is None or now is None:
        return []
    return _complaints(now, baseline, args.bound)


async def crowd(service: Service, calls: int) -> list[str]:
    """Have so many calls in flight at once; return what went wrong."""
    answers = await asyncio.gather(*(service.add(x, x) for x in range(calls)), return_exceptions=True)
    wrong = [answer for x, answer in enumerate(answers) if answer != 2 * x]
    print(f"{calls:,} calls in flight at once: {calls - len(wrong):,} came back right")
    return [f"{len(wrong)} of {calls} calls went wrong, the first with {wrong[0]!r}"] if wrong else []


def _complaints(now: Reading, baseline: Reading, bound: float) -> list[str]:
    complaints = []
    growth = now.growth(baseline) / MEBIBYTE
    print(f"grown by {growth:.2f} MiB since the first block; the bound is {bound:g} MiB")
    if growth > bound:
        complaints.append(f"memory grew by {growth:.2f} MiB")
    if now.left_behind(baseline) > OBJECTS_BOUND:
        complaints.append(f"{now.left_behind(baseline)} tasks or futures were left behind")
    return complaints


def _reading(worker_pid: int, broker_pid: int | None) -> Reading:
    return Reading(
        caller_rss=rss_bytes(os.getpid()),
        worker_rss=rss_bytes(worker_pid),
        broker_rss=rss_bytes(broker_pid) if broker_pid is not None else 0,
        tasks=len(asyncio.all_tasks()),
        futures=sum(isinstance(thing, (asyncio.Future, Answer)) for thing in gc.get_objects()),
    )


async def _everything(node: Broker, worker_pid: int, args: argparse.Namespace) -> list[str]:
    async with amqproxy.connect(node.url) as mq:
        service = mq.proxy(Calculator)
        complaints = await soak(service, lambda: _reading(worker_pid, node.pid if args.embedded else None), args)
        if args.inflight:
            complaints += await crowd(service, args.inflight)
        return complaints


def main() -> int:
    """Return 0 when nothing was left behind and every answer was right, 1 if not, 3 without a broker."""
    args = _arguments()
    try:
        with embedded() if args.embedded else broker(args.url, None) as node:
            complaints = _with_worker(node, args)
    except NoBrokerError as error:
        print(f"no broker: {error}")
        return NO_BROKER
    for complaint in complaints:
        print(f"FAILED: {complaint}")
    return 1 if complaints else 0


def _with_worker(node: Broker, args: argparse.Namespace) -> list[str]:
    contender = next(contender for contender in CONTENDERS if contender.name == AMQPROXY)
    worker = Peer("worker", contender.prepare(Path(), "").worker, node.url)
    try:
        worker.wait_ready()
        return asyncio.run(_everything(node, worker.pid, args))
    except PeerFailedError as error:
        return [str(error)]
    finally:
        worker.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--url", help="the broker; default AMQPROXY_URL, else a private RabbitMQ node")
    parser.add_argument("--embedded", action="store_true", help="over an embedded broker of its own")
    parser.add_argument("--calls", type=int, default=1_000_000, help="0 skips this part (default 1000000)")
    parser.add_argument("--every", type=int, default=100_000, help="calls between two readings (default 100000)")
    parser.add_argument("--window", type=int, default=500, help="calls in flight (default 500)")
    parser.add_argument("--bound", type=float, default=5.0, help="MiB of growth after the first block (default 5)")
    parser.add_argument("--inflight", type=int, default=10_000, help="0 skips this part (default 10000)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
