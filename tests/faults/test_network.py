"""The network of the tests of faults does what it is told, or they would test nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from amqproxy.url import BrokerURL
from tests.faults.network import Relay


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[Relay, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A relay to something that sends back what it gets, and a connection through it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Relay.to(f"amqp://u:p@127.0.0.1:{port}/") as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", BrokerURL.parse(relay.url).port)
        try:
            yield relay, reader, writer
        finally:
            writer.close()


async def nothing_comes(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.read(1), 0.1)
    except TimeoutError:
        return True
    return False


async def test_it_passes_on_what_comes_and_counts_it() -> None:
    async with echo() as (relay, reader, writer):
        writer.write(b"abc")
        assert await reader.readexactly(3) == b"abc"
        assert (relay.up.passed, relay.down.passed, relay.connections) == (3, 3, 1)


async def test_it_resets_behind_so_many_bytes_and_takes_the_next_connection() -> None:
    async with echo() as (relay, reader, writer):
        relay.up.reset_after(4)
        writer.write(b"abcdef")
        with pytest.raises(ConnectionResetError):
            while await reader.read(100):
                pass
        assert relay.up.passed == 4
        reader, writer = await asyncio.open_connection("127.0.0.1", BrokerURL.parse(relay.url).port)
        writer.write(b"ghi")
        assert await reader.readexactly(3) == b"ghi"
        writer.close()


async def test_one_byte_is_turned() -> None:
    async with echo() as (relay, reader, writer):
        relay.down.corrupt_after(1)
        writer.write(b"\x00\x00\x00")
        assert await reader.readexactly(3) == b"\x00\xff\x00"


async def test_what_is_held_comes_later_and_what_is_swallowed_never() -> None:
    async with echo() as (relay, reader, writer):
        relay.down.hold()
        writer.write(b"abc")
        assert await nothing_comes(reader)
        relay.down.release()
        assert await reader.readexactly(3) == b"abc"
        relay.down.swallow()
        writer.write(b"def")
        assert await nothing_comes(reader)
        relay.cut()
        assert await reader.read(1) == b""


async def test_it_is_slow_and_hands_on_byte_by_byte() -> None:
    async with echo() as (relay, reader, writer):
        relay.up.latency = 0.1
        relay.down.piece = 1
        relay.down.bytes_per_second = 100
        began = time.monotonic()
        writer.write(b"0123456789")
        assert await reader.read(100) == b"0"
        assert await reader.readexactly(9) == b"123456789"
        assert 0.19 <= time.monotonic() - began < 2


async def test_a_connection_that_it_refuses_is_reset() -> None:
    async with echo() as (relay, reader, _):
        relay.refuses = True
        relay.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        reader, second = await asyncio.open_connection("127.0.0.1", BrokerURL.parse(relay.url).port)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        second.close()
