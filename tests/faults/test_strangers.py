"""What strangers send, clocks that are wrong, and TLS that cannot be trusted: what callers see of them."""

from __future__ import annotations

import asyncio
import time
import zlib
from pathlib import Path

import pytest
import trustme

import amqproxy
from amqproxy.testing import RabbitMQ
from tests.contract.raw import Raw
from tests.faults.ahead import Watch
from tests.faults.table import Row
from tests.patience import until
from tests.processes import running
from tests.security.served import refused, vault
from tests.security.test_floods import DEEP
from tests.security.test_tls import BAD_SERVERS, REFUSED, authority, client, external, folder, revoke, server, write

__all__ = ["authority", "external", "folder"]

MEBIBYTE = 1024 * 1024
HOUR = 3600


@pytest.mark.fault("F38", "200 MiB in 200 kB of gzip, ten times")
async def test_a_bomb_is_refused(mq: amqproxy.Client, raw: Raw, service: str, row: Row) -> None:
    compressor = zlib.compressobj(9, wbits=31)
    bomb = b"".join(compressor.compress(bytes(MEBIBYTE)) for _ in range(200)) + compressor.flush()
    async with vault(mq, service):
        for _ in range(10):
            with row.sees("resource_exhausted (no)", within=2.0):
                about = {"content_type": f"{service}.add".encode(), "content_encoding": b"gzip-json"}
                error = await refused(raw, service, bomb, **about)
                assert (error["code"], error["executed"]) == ("resource_exhausted", "no")


@pytest.mark.fault("F39", "200,000 arrays and objects in each other, numbers of 100,000 digits")
async def test_nests_and_huge_numbers_are_refused(mq: amqproxy.Client, raw: Raw, service: str, row: Row) -> None:
    async with vault(mq, service):
        for body in DEEP.values():
            with row.sees("invalid_argument (no)", within=2.0):
                error = await refused(raw, service, body, content_type=f"{service}.add".encode())
                assert (error["code"], error["executed"]) == ("invalid_argument", "no")


@pytest.mark.fault("F40", "replies by a stranger, with guessed ids, during a call")
async def test_a_strangers_reply_is_passed_over(mq: amqproxy.Client, raw: Raw, service: str, row: Row) -> None:
    call = asyncio.create_task(mq.proxy("x", routing_key=raw.reply_to.decode()).add(1, 2))
    asked = (await raw.next_message()).properties
    assert asked.reply_to and asked.correlation_id
    reply_to, strays = asked.reply_to.decode(), mq.caller.strays
    with row.sees("the answer of the worker", within=2.0):
        for id in (b"1", b"A" * 26, asked.correlation_id[:16], b"\xff"):
            raw.publish(reply_to, b"666", correlation_id=id)
        raw.publish(reply_to, b"3", correlation_id=asked.correlation_id)
        assert await call == 3
    await until(lambda: mq.caller.strays >= strays + 3)
    row.count()


@pytest.mark.fault("F41", "the worker's clock an hour ahead, and an hour behind")
@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
async def test_deadlines_do_not_go_by_the_clock(
    mq: amqproxy.Client, amqp_url: str, service: str, row: Row, ahead: int
) -> None:
    async with running("faults/ahead.py", amqp_url, service, str(ahead)) as worker:
        await worker.says("serving")
        proxy = mq.proxy(Watch, name=service)
        with row.sees("the answer", within=2.0):
            assert await proxy.now() == pytest.approx(time.time() + ahead, abs=60)
            left = await amqproxy.options(proxy, timeout=20).left()
            assert left is not None and 15 < left <= 20
        with row.sees(amqproxy.CallTimeout, executed="maybe", within=1.5):
            await amqproxy.options(proxy, timeout=0.5).wait()
        row.count()


@pytest.mark.fault("F55", "each certificate that must not be trusted, TLS 1.0, and a port without TLS")
@pytest.mark.parametrize("bad", BAD_SERVERS)
async def test_tls_that_cannot_be_trusted_is_no_connection(
    authority: trustme.CA,  # as the following, a fixture
    row: Row,
    bad: str,
) -> None:
    row.broker = "a TLS server"
    make, reason = BAD_SERVERS[bad]
    async with server(make(authority)) as (port, relay):
        with row.sees(amqproxy.BrokerUnavailable, match=reason, within=3.0):
            await amqproxy.connect(
                f"amqps://ann:hush@localhost:{port}/", ssl_context=client(authority), connect_timeout=10
            )
        assert relay.connections == 1, "it was tried again, or without TLS"


@pytest.mark.fault("F56", "no certificate, one of somebody unknown, one that was revoked, where nothing else counts")
async def test_without_the_right_certificate_nobody_gets_in(
    external: tuple[RabbitMQ, int],
    folder: Path,
    authority: trustme.CA,
    row: Row,
) -> None:
    node, port = external
    url = f"amqps://localhost:{port}/?cafile={folder}/ca.pem&auth=external"
    write(folder, authority, authority.issue_cert("x.example", common_name="unknown"), "unknown")
    for given in ("", f"&certfile={folder}/unknown.pem&keyfile={folder}/unknown.key"):
        with row.sees(amqproxy.AccessRefused, match="certificate", within=3.0):
            await amqproxy.connect(url + given)
    known = authority.issue_cert("y.example", common_name="worker")
    write(folder, authority, known, "known")
    url += f"&certfile={folder}/known.pem&keyfile={folder}/known.key"
    async with amqproxy.connect(url):
        await asyncio.to_thread(revoke, node, folder, authority, known)
    with row.sees(amqproxy.AMQProxyError, match="our certificate", within=3.0) as caught:
        await amqproxy.connect(url)
    assert caught.type in REFUSED
