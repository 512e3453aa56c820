"""``python -m tests.bench.cancels``: what 10,000 calls leave behind that are cancelled at random moments.

Calls, streams, fed streams and Blobs, of handlers in the event loop and in threads, go to a worker process and are
given up within 30 ms: by `task.cancel()`, by `asyncio.timeout`, by their own timeout, or by leaving the loop. Once the
time is over for which workers remember what was cancelled, neither end may have a call, a task, a timer, an open
generator or a channel more than before, and the broker no queue and no message.
"""

import argparse
import asyncio
import sys
import time
from typing import Any

import amqproxy
from amqproxy.testing import RabbitMQNotInstalled, rabbitmq

from .broker import embedded_peer
from .cancel_crowd import Crowd, Tireless, difference
from .peer import Peer, PeerFailedError

NO_BROKER = 3
SECONDS = 15.0
"""How long both ends may take to be as they were."""


async def serve() -> None:
    """Be the worker, until standard input ends."""
    from . import control

    async with amqproxy.connect() as mq:
        tireless = Tireless()
        tireless.worker = mq.serve(tireless, concurrency=200)
        async with tireless.worker:
            control.ready("")
            async for _ in control.questions():
                pass


async def cancel(url: str, args: argparse.Namespace) -> list[str]:
    """Make the calls; return what was left behind."""
    async with amqproxy.connect(url) as mq:
        proxy: Any = mq.proxy(Tireless)
        crowd = Crowd(mq, proxy, args.seed)
        await crowd.run(200, args.at_once)  # until all is open that will be
        await asyncio.sleep(2.5)
        before, before_there = crowd.left(), await proxy.left()
        crowd.came.clear()
        began = time.monotonic()
        await crowd.run(args.calls, args.at_once)
        seconds = time.monotonic() - began
        came = ", ".join(f"{count:,} {what}" for what, count in crowd.came.most_common())
        print(f"{args.calls:,} calls in {seconds:.1f} s: {came}", flush=True)
        return await _left(crowd, proxy, before, before_there)


async def _left(crowd: Crowd, proxy: Any, before: dict[str, int], before_there: dict[str, int]) -> list[str]:
    """Wait until both ends are as before, but not for ever."""
    end = time.monotonic() + SECONDS
    while True:
        here, there = difference(before, crowd.left()), difference(before_there, await proxy.left())
        if not here and not there:
            print(f"left in the caller: {crowd.left()}; in the worker: {await proxy.left()}")
            return []
        if time.monotonic() > end:
            return [
                f"{where} has more than before: {more}" for where, more in (("caller", here), ("worker", there)) if more
            ]
        await asyncio.sleep(0.1)


def main() -> int:
    """Return 0 when nothing was left behind, 1 if something was, 3 without a broker."""
    args = _arguments()
    if args.serve:
        asyncio.run(serve())
        return 0
    complaints = [] if args.only == "rabbitmq" else _on_embedded(args)
    try:
        complaints += [] if args.only == "embedded" else _on_rabbitmq(args)
    except RabbitMQNotInstalled as error:
        print(f"no broker: {error}")
        return NO_BROKER
    for complaint in complaints:
        print(f"FAILED: {complaint}")
    return 1 if complaints else 0


def _on_embedded(args: argparse.Namespace) -> list[str]:
    print("on the embedded broker")
    with embedded_peer() as (peer, url):
        return _calls(url, args, lambda: {name: peer.state()[name] for name in ("queues", "ready", "unacked")})


def _on_rabbitmq(args: argparse.Namespace) -> list[str]:
    with rabbitmq() as node:
        print(f"on RabbitMQ {node.version}")

        def state() -> dict[str, int]:
            queues = [line.split() for line in node.ctl("list_queues", "messages", "consumers").splitlines() if line]
            exchanges = node.ctl("list_exchanges", "name").splitlines()
            return {
                "queues": len(queues),
                "messages": sum(int(messages) for messages, _ in queues),
                "consumers": sum(int(consumers) for _, consumers in queues),
                "exchanges": len(exchanges),
                "channels": len(node.ctl("list_channels", "pid").splitlines()),
            }

        return _calls(node.url, args, state)


def _calls(url: str, args: argparse.Namespace, state: Any) -> list[str]:
    worker = Peer("worker", [sys.executable, "-m", f"{__package__}.cancels", "--serve"], url)
    try:
        worker.wait_ready()
        before = state()
        complaints = asyncio.run(cancel(url, args))
        end, more = time.monotonic() + SECONDS, difference(before, after := state())
        while more and time.monotonic() < end:  # RabbitMQ counts what is in its queues every few seconds
            time.sleep(0.5)
            more = difference(before, after := state())
        print(f"left in the broker: {after}")
        return complaints + ([f"the broker has more than before: {more}"] if more else [])
    except PeerFailedError as error:
        return [str(error)]
    finally:
        worker.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cancels", description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=50, help="calls in flight (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="who gives up when")
    parser.add_argument("--only", choices=["embedded", "rabbitmq"], help="one broker; default both")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
