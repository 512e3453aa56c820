"""``python -m tests.bench.broker_soak [PART ...]``: what messages and clients cost the embedded broker.

Each part has a broker process of its own, and reads that process's memory from outside:

- ``flat``     a million messages go through, and its memory stays where it was
- ``waiting``  100,000 messages wait in a queue, are consumed, and wait again
- ``churn``    thousands of connections come, use everything once, get an answer, and vanish
- ``idle``     10,000 connections say nothing, while others work
- ``slow``     a consumer stops reading while 200 MB are published to its queue
- ``start``    how long it takes until a broker is there
"""

import argparse
import asyncio
import os
import resource
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression, median
from urllib.parse import urlsplit

from pamqp import commands

from amqproxy.broker import Broker, Server
from amqproxy.wire import RequestForm

from .broker import embedded_peer
from .contenders import Contender
from .contenders.traffic_peer import publish
from .peer import ROOT, Peer, PeerFailedError
from .plan import SHORTEST, SMALL, Run
from .raw import Client, Confirms, Incoming, Outgoing, acks
from .traffic import KINDS
from .usage import rss_bytes

MEBIBYTE = 1 << 20
WINDOW = 500
RUN_TIMEOUT = 120.0

GROWTH_BOUND = 5.0
"""MiB per million messages. A consumer that the system keeps waiting once lets the queue grow, and a few MiB with it,
of which some stay with the process: over ten million messages it is a fraction of this."""
OBJECTS_BOUND = 200
"""Python objects that come and go with caches and timers; what each message left would be a million."""
WAITING_BOUND = 1024
"""Bytes that a waiting message may cost besides its body."""
COPY_BOUND = 1.25
"""Memory over bytes of the messages that a slow consumer leaves behind: below two, no second copy is kept."""
START_BOUND = 20.0
"""Milliseconds."""
CONNECT_TIMEOUT = 10.0
HANDSHAKE_SLACK = 10.0
"""Seconds beyond the handshake limit until silent connections must be gone."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The broker's memory behind so many messages."""

    messages: int
    rss: int


def growth(readings: list[Reading]) -> float:
    """MiB per million messages, by a straight line through all readings."""
    slope = linear_regression([one.messages for one in readings], [one.rss for one in readings]).slope
    return slope * 1_000_000 / MEBIBYTE


def request_properties() -> bytes:
    """The properties of a request as amqproxy sends it: type, ids, reply queue, expiration, a header."""
    form = RequestForm(
        content_type="application/vnd.amqproxy.request+json",
        encoding="utf-8",
        reply_to=b"amqproxy.reply.0123456789abcdef0123456789abcdef",
        timeout=600.0,
        id_length=26,
    )
    return form.properties(b"0123456789abcdef0000000001", b"0123456789abcdef0000000001")


# The parts. Each prints what it finds, and returns what is wrong with it.


def flat(args: argparse.Namespace) -> list[str]:
    """Let messages through, publisher to consumer, block by block."""
    with embedded_peer() as (broker, url), _traffic(KINDS[0], url) as (publisher, consumer):
        print(f"{'messages':>10} {'messages/s':>11} {'broker MiB':>11}")
        publisher.run(Run(SMALL, WINDOW, args.every), RUN_TIMEOUT, consumer)
        objects, readings = broker.state()["objects"], []
        for done in range(args.every, args.messages + 1, args.every):
            seconds = publisher.run(Run(SMALL, WINDOW, args.every), RUN_TIMEOUT, consumer)
            readings.append(Reading(done, rss_bytes(broker.pid)))
            print(f"{done:10,} {args.every / seconds:11,.0f} {_mebibytes(readings[-1].rss)}", flush=True)
        left = broker.state()["objects"] - objects
    if len(readings) < 2:
        return []
    slope = growth(readings)
    print(f"{slope:+.3f} MiB per million messages, {left:+,} objects")
    return [
        *_over(slope, GROWTH_BOUND, "MiB of growth per million messages"),
        *_over(left, OBJECTS_BOUND, "objects left behind"),
    ]


def waiting(args: argparse.Namespace) -> list[str]:
    """Fill a queue and empty it, several times."""
    complaints = []
    for what, properties in (("amqproxy's properties", request_properties()), ("no properties", b"\0\0")):
        with embedded_peer() as (broker, url):
            publisher, consumer = Client(url), Client(url)
            publisher.call(commands.Confirm.Select())
            publisher.call(commands.Queue.Declare(queue="waiting"))
            confirms, incoming, before = Confirms(), Incoming(), rss_bytes(broker.pid)
            outgoing = Outgoing("", "waiting", properties, SHORTEST)
            print(f"{args.waiting:,} messages with {what} ({len(properties)} bytes); broker {_mebibytes(before)} MiB")
            for turn in range(3):
                publish(publisher, confirms, outgoing, Run(SMALL, WINDOW, args.waiting))
                full = rss_bytes(broker.pid)
                each = (full - before) / args.waiting - SHORTEST
                _drain(consumer, incoming, "waiting", args.waiting, str(turn))
                empty = rss_bytes(broker.pid)
                print(
                    f"    {_mebibytes(full)} MiB, {each:.0f} bytes each besides the body; {_mebibytes(empty)} consumed"
                )
                complaints += _over(each, WAITING_BOUND, f"bytes a message with {what}")
            if (memory := broker.state()["memory"]) != 0:
                complaints.append(f"an empty broker counts {memory} bytes")
    return complaints


def churn(args: argparse.Namespace) -> list[str]:
    """Have connections come and go, while one that stays writes to each."""
    with embedded_peer() as (broker, url):
        answerer = Client(url)
        _come_and_go(url, answerer, args.churn // 4)
        objects, before = broker.state()["objects"], rss_bytes(broker.pid)
        start = time.perf_counter()
        _come_and_go(url, answerer, args.churn)
        rate = args.churn / (time.perf_counter() - start)
        left = broker.state()["objects"] - objects
        shown = f"broker {_mebibytes(before)} to {_mebibytes(rss_bytes(broker.pid))} MiB, {left:+,} objects"
    print(f"{args.churn:,} connections, {rate:,.0f}/s: {shown}")
    return _over(left, OBJECTS_BOUND, "objects left behind")


def idle(args: argparse.Namespace) -> list[str]:
    """Open connections that say nothing, and see whether others notice."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with embedded_peer() as (broker, url), _traffic(KINDS[0], url) as (publisher, consumer):

        def rate() -> float:
            return median(20_000 / publisher.run(Run(SMALL, WINDOW, 20_000), RUN_TIMEOUT, consumer) for _ in range(5))

        rate()
        rates, sizes = [rate()], [rss_bytes(broker.pid)]
        begun = time.monotonic()
        sockets = _silent(url, args.idle)
        opened = time.monotonic()
        sizes.append(rss_bytes(broker.pid))
        rates.append(rate())
        refused = len(_closed(sockets))
        gone = _wait_for_all_closed(sockets, Broker().limits.handshake_seconds + HANDSHAKE_SLACK)
        rates.append(rate())
        left = broker.state()["connections"] - 3  # the publisher's two, and the consumer
        sizes.append(rss_bytes(broker.pid))
        for one in sockets:
            one.close()
    print(
        f"{args.idle:,} silent connections, opened in {opened - begun:.1f} s: "
        f"{(sizes[1] - sizes[0]) / args.idle:,.0f} bytes each; {refused} were over the limit; "
        f"all were closed {gone - opened:.1f} s after the last had come"
    )
    for what, values in (("broker MiB", map(_mebibytes, sizes)), ("others' messages/s", map("{:,.0f}".format, rates))):
        print("{}: {} before, {} with them, {} after".format(what, *values))
    return [f"{left} connections are still there"] if left else []


def slow(args: argparse.Namespace) -> list[str]:
    """Publish to a queue whose consumer reads nothing."""
    complaints = []
    for size in (1024, 65536):
        for prefetch, kind in ((0, "no ack"), (65535, "acknowledging")):
            with embedded_peer() as (broker, url):
                publisher, consumer = Client(url), Client(url)
                publisher.call(commands.Confirm.Select())
                publisher.call(commands.Queue.Declare(queue="slow"))
                consumer.consume("slow", prefetch=prefetch)
                count, confirms, before = args.slow_bytes // size, Confirms(), rss_bytes(broker.pid)
                publish(publisher, confirms, Outgoing("", "slow", b"\0\0", size), Run(size, WINDOW, count))
                after, state = rss_bytes(broker.pid), broker.state()
                share = (after - before) / (count * size)
                consumer.close()
                publisher.call(commands.Queue.Delete(queue="slow"))
                gone = rss_bytes(broker.pid)
            print(
                f"{count * size / 1e6:.0f} MB in bodies of {size} for a consumer that does not read ({kind}): "
                f"broker {_mebibytes(before)} to {_mebibytes(after)} MiB, {share:.2f} times their bytes; "
                f"{state['unacked']:,} unacknowledged; {_mebibytes(gone)} MiB when deleted",
                flush=True,
            )
            bound = COPY_BOUND if size >= 65536 else COPY_BOUND + WAITING_BOUND / size
            complaints += _over(share, bound, f"times the bytes of messages of {size}")
    return complaints


def start(args: argparse.Namespace) -> list[str]:
    """Start brokers, in a loop that runs and in new processes."""
    times = asyncio.run(_starts(args.starts))
    middle, slowest = median(times) * 1000, max(times) * 1000
    print(f"in a running loop: {middle:.1f} ms, the slowest of {args.starts} {slowest:.1f} ms")
    with tempfile.TemporaryDirectory(prefix="bench-") as cache, _compiled_to(cache):
        nothing, package, process = (_process_seconds(what) for what in (_run_nothing, _import_broker, _start_process))
    print(
        f"in a process of its own: {process * 1000:.0f} ms until it listens, as Python takes {nothing * 1000:.0f} ms "
        f"to start and to end, and another {(package - nothing) * 1000:.0f} ms to import the broker"
    )
    return _over(slowest, START_BOUND, "ms to start")


PARTS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    part.__name__: part for part in (flat, waiting, churn, idle, slow, start)
}


# What the parts are made of.


@contextmanager
def _traffic(kind: Contender, url: str) -> Iterator[tuple[Peer, Peer]]:
    commands = kind.prepare(Path(), "soak")
    consumer = Peer("consumer", commands.worker, url)
    try:
        consumer.wait_ready()
        publisher = Peer("publisher", commands.caller, url)
        try:
            publisher.wait_ready()
            yield publisher, consumer
        finally:
            publisher.stop()
    finally:
        consumer.stop()


def _drain(client: Client, incoming: Incoming, queue: str, count: int, tag: str) -> None:
    """Consume and acknowledge all that waits."""
    client.call(commands.Basic.Qos(prefetch_count=WINDOW))
    client.call(commands.Basic.Consume(queue=queue, consumer_tag=tag))
    taken = 0
    while taken < count:
        tags = incoming.feed(client.receive())
        taken += len(tags)
        client.send(acks(tags))
    client.call(commands.Basic.Cancel(consumer_tag=tag))


def _come_and_go(url: str, answerer: Client, count: int) -> None:
    for number in range(count):
        name, visitor = f"churn.{number}", Client(url)
        visitor.call(commands.Confirm.Select())
        visitor.call(commands.Queue.Declare(queue=name, exclusive=True))
        visitor.call(commands.Queue.Bind(queue=name, exchange="amq.topic", routing_key=f"{name}.#"))
        visitor.send(Outgoing("amq.topic", f"{name}.x", request_properties(), SHORTEST).batch(range(1)))
        Confirms().feed(visitor.receive())
        visitor.call(commands.Basic.Get(queue=name, no_ack=True))
        answerer.send(Outgoing("", name, request_properties(), SHORTEST).batch(range(1)))
        while not isinstance(visitor.call(commands.Basic.Get(queue=name, no_ack=True)), commands.Basic.GetOk):
            pass  # the answer is on its way
        visitor.close()


def _silent(url: str, count: int) -> list[socket.socket]:
    parts = urlsplit(url)
    return [socket.create_connection((parts.hostname, parts.port), CONNECT_TIMEOUT) for _ in range(count)]


def _closed(sockets: list[socket.socket]) -> list[int]:
    poll = select.poll()
    for one in sockets:
        poll.register(one, select.POLLIN)
    return [number for number, _ in poll.poll(0)]


def _wait_for_all_closed(sockets: list[socket.socket], timeout: float) -> float:
    """Return when the last one was closed, at the latest after `timeout`."""
    deadline = time.monotonic() + timeout
    while len(_closed(sockets)) < len(sockets) and time.monotonic() < deadline:
        time.sleep(0.1)
    return time.monotonic()


async def _starts(count: int) -> list[float]:
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        async with Server(Broker()):
            times.append(time.perf_counter() - begun)
    return times


@contextmanager
def _compiled_to(cache: str) -> Iterator[None]:
    """Let all processes keep their byte code there: compiling is not what is measured."""
    before = dict(os.environ)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = cache
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _run_nothing() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", ""], check=True)
    return time.perf_counter() - begun


def _import_broker() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import amqproxy.broker"], check=True, cwd=ROOT)
    return time.perf_counter() - begun


def _start_process() -> float:
    begun = time.perf_counter()
    with embedded_peer():
        return time.perf_counter() - begun


def _process_seconds(what: Callable[[], float]) -> float:
    what()  # which compiles
    return median(what() for _ in range(9))


def _mebibytes(size: int) -> str:
    return f"{size / MEBIBYTE:.2f}"


def _over(value: float, bound: float, what: str) -> list[str]:
    return [f"{value:.4g} {what}; the bound is {bound:g}"] if value > bound else []


def main() -> int:
    """Return 0 when all parts kept their bounds, 1 if not."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.broker_soak", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default all: {' '.join(PARTS)}")
    parser.add_argument("--messages", type=int, default=1_000_000, help="for flat (default 1000000)")
    parser.add_argument("--every", type=int, default=50_000, help="messages between two readings (default 50000)")
    parser.add_argument("--waiting", type=int, default=100_000, help="messages that wait (default 100000)")
    parser.add_argument("--churn", type=int, default=2_000, help="connections that come and go (default 2000)")
    parser.add_argument("--idle", type=int, default=10_000, help="silent connections (default 10000)")
    parser.add_argument("--slow-bytes", type=int, default=200_000_000, help="for slow (default 200000000)")
    parser.add_argument("--starts", type=int, default=50, help="starts in one loop (default 50)")
    args = parser.parse_args()
    if unknown := set(args.parts) - PARTS.keys():
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    complaints = []
    for name in args.parts or PARTS:
        print(f"-- {name}", flush=True)
        try:
            complaints += [f"{name}: {complaint}" for complaint in PARTS[name](args)]
        except PeerFailedError as error:
            complaints.append(f"{name}: {error}")
    for complaint in complaints:
        print(f"FAILED: {complaint}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
