"""``python -m tests.bench.embedded [PORT]``: the embedded broker, in a process that does nothing else.

It is the other end of `peer`'s pipe, see `control`: "ready" comes with its URL, and the end of standard input ends it.
"""

import asyncio
import gc
import logging
import resource
import sys

from amqproxy.broker import Broker, Server

from . import control


def state(broker: Broker) -> dict[str, int]:
    """What a broker holds, once all garbage is gone."""
    gc.collect()
    queues = [queue for vhost in broker.vhosts.values() for queue in vhost.queues.values()]
    return {
        "objects": len(gc.get_objects()),
        "memory": broker.memory.used,
        "connections": len(broker.sessions),
        "queues": len(queues),
        "ready": sum(len(queue.ready) for queue in queues),
        "unacked": sum(queue.unacked for queue in queues),
    }


async def main(port: int) -> None:
    """Serve until standard input ends."""
    logging.basicConfig(level=logging.ERROR)  # a line for each of 10,000 silent connections would be too many
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    broker = Broker()
    async with Server(broker, port=port) as server:
        control.ready(server.url)
        async for _ in control.questions():
            control.tell(state(broker))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
