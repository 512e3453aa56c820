"""S24: the embedded broker is for this machine, unless somebody says otherwise."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from amqproxy.testing import broker
from tests.processes import amqproxy, running

COMMAND = ("-m", "amqproxy", "broker", "--port", "0")


def listening(port: int) -> set[str]:
    """The addresses at which somebody listens on a port, as Linux has them."""
    found = set()
    for file in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(file).read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            host, _, number = address.partition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(host)
    return found


LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="asks Linux who listens")
async def test_it_listens_on_this_machine_only() -> None:
    async with broker() as url:
        port = int(url.rpartition(":")[2].rstrip("/"))
        assert listening(port) and listening(port) <= LOOPBACK
    async with running(*COMMAND, "--json") as process:
        await process.says("url")
        port = int(json.loads(process.heard.splitlines()[0])["url"].rpartition(":")[2].partition("/")[0])
        assert listening(port) and listening(port) <= LOOPBACK


async def test_other_machines_need_a_user_of_their_own() -> None:
    ended = await amqproxy("broker", "--port", "0", "--host", "0.0.0.0")
    assert ended.code == 2, ended.err
    assert "--user" in ended.err


async def test_a_client_from_elsewhere_finds_nobody() -> None:
    """By another address of this machine, where it has one."""
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    async with broker() as url:
        port = int(url.rpartition(":")[2].rstrip("/"))
        for host in others:
            if not str(host).startswith("127."):
                with pytest.raises(OSError):  # refused or unreachable
                    await asyncio.wait_for(asyncio.open_connection(str(host), port), 2)
