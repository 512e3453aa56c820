"""What the caller for the shell does beyond what all callers do."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal

import amqproxy
from tests.interop.peers.shell import PEERS
from tests.interop.program import started


async def test_it_ends_at_once_when_it_is_interrupted(amqp_url: str) -> None:
    (peer,) = PEERS
    peer.require()
    assert peer.caller is not None
    service = f"test.shell.{secrets.token_hex(6)}"
    async with amqproxy.connect(amqp_url) as mq:
        # A queue that nobody answers at.
        channel = await (await mq._live_connection().link())._channel()
        await channel.queue_declare(service, exclusive=True)
        async with started(*peer.caller, amqp_url, service) as process:
            for _ in range(100):
                await asyncio.sleep(0.1)
                if (await channel.queue_declare(service, passive=True)).message_count:
                    break
            await asyncio.sleep(0.3)  # until it waits for the answer
            os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
            out, err = await asyncio.wait_for(process.communicate(), 3)
            assert process.returncode
            assert b"did not answer" not in out + err
