"""S14, S15 and F55, F56: TLS that is not what it should be is an error at once, and a certificate may be the login."""

from __future__ import annotations

import asyncio
import datetime
import logging
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

import amqproxy
from amqproxy.connection import Connection
from amqproxy.options import ConnectOptions
from amqproxy.testing import RabbitMQ, RabbitMQNotInstalled, free_port, rabbitmq
from amqproxy.url import BrokerURL
from tests.conftest import missing
from tests.faults.network import Relay
from tests.patience import until

AT_ONCE = 3.0
"""Seconds within which an error must be told that no waiting mends; the connect timeout is ten."""


REFUSED = (amqproxy.AccessRefused, amqproxy.BrokerUnavailable)
"""What a certificate is that the broker does not take: with TLS 1.3 the alert that says why may be lost with the
connection."""


class Clock:
    async def tick(self) -> str:
        return "tock"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Path:
    """Where a certificate for localhost and its authority's are, as files."""
    folder = tmp_path_factory.mktemp("tls")
    write(folder, authority, authority.issue_cert("localhost"), "server")
    return folder


def write(folder: Path, authority: trustme.CA, certificate: trustme.LeafCert, name: str) -> None:
    folder.chmod(0o755)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))


def client(authority: trustme.CA | None) -> ssl.SSLContext:
    """What a careful client trusts: the authority, if it is given, and those of the system."""
    context = ssl.create_default_context()
    if authority is not None:
        authority.configure_trust(context)
    return context


@asynccontextmanager
async def server(context: ssl.SSLContext | None) -> AsyncIterator[tuple[int, Relay]]:
    """A server that speaks TLS, or not, and no AMQP: its port, and the way there, which counts whoever comes."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.close()

    listening = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context)
    url = f"amqp://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    async with listening, Relay.to(url) as relay:  # the server itself hears of nobody with whom TLS fails
        yield BrokerURL.parse(relay.url).port, relay


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def of_tls_1_0(authority: trustme.CA) -> ssl.SSLContext:
    context = serving(authority.issue_cert("localhost"))
    with pytest.warns(DeprecationWarning):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def expired(authority: trustme.CA) -> ssl.SSLContext:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    return serving(authority.issue_cert("localhost", not_after=past))


BAD_SERVERS = {
    "expired": (expired, "certificate has expired"),
    "of another host": (lambda ca: serving(ca.issue_cert("another.example")), "not valid for 'localhost'"),
    "of another authority": (lambda ca: serving(trustme.CA().issue_cert("localhost")), "unable to get|self.signed"),
    "of TLS 1.0": (of_tls_1_0, "version 1.2 or later"),
    "in plain text": (lambda ca: None, "TLS"),
}


@pytest.mark.parametrize("bad", BAD_SERVERS)
async def test_a_server_that_cannot_be_trusted_is_refused_at_once(
    authority: trustme.CA, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, reason = BAD_SERVERS[bad]
    async with server(make(authority)) as (port, relay):
        began = time.monotonic()
        with pytest.raises(amqproxy.BrokerUnavailable, match=reason) as caught:
            await amqproxy.connect(f"amqps://ann:hush@localhost:{port}/", ssl_context=client(authority))
        assert time.monotonic() - began < AT_ONCE
        assert f"localhost:{port}" in str(caught.value)
        assert "hush" not in str(caught.value) + caplog.text
        await asyncio.sleep(0.3)
        assert relay.connections == 1, "it was tried again, or without TLS"


@pytest.mark.parametrize("bad", ["expired", "of another host", "of another authority"])
@pytest.mark.parametrize("hosts", ["localhost:{bad}", "localhost:{bad},localhost:{nobody}"])
async def test_a_certificate_that_is_refused_is_not_waited_for(authority: trustme.CA, bad: str, hosts: str) -> None:
    make, reason = BAD_SERVERS[bad]
    async with server(make(authority)) as (port, _):
        hosts = hosts.format(bad=port, nobody=free_port())
        with pytest.raises(amqproxy.BrokerUnavailable, match=reason):
            async with asyncio.timeout(AT_ONCE):
                await amqproxy.connect(f"amqps://ann:hush@{hosts}/", ssl_context=client(authority), wait=True)


async def test_a_broker_that_was_trusted_before_is_waited_for(
    authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """Its certificate ran out while nobody connected: the one after it is awaited."""
    async with server(expired(authority)) as (port, _):
        url = BrokerURL.parse(f"amqps://ann:hush@localhost:{port}/")
        connection = Connection(url, ConnectOptions(ssl_context=client(authority)))
        again = asyncio.create_task(connection._connect_at_last(refusals=1))
        await until(lambda: "attempt 2" in caplog.text, within=10)
        assert not again.done()
        again.cancel()


async def test_tls_1_2_is_the_least_that_is_spoken(authority: trustme.CA, folder: Path) -> None:
    """Of the context that amqproxy makes itself."""
    async with server(of_tls_1_0(authority)) as (port, _):
        with pytest.raises(amqproxy.BrokerUnavailable):
            await amqproxy.connect(f"amqps://ann:hush@localhost:{port}/?cafile={folder / 'ca.pem'}")


async def test_a_self_signed_certificate_is_refused(authority: trustme.CA) -> None:
    alone = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with alone.private_key_pem.tempfile() as key, alone.cert_pem.tempfile() as certificate:
        context.load_cert_chain(certificate, key)
    async with server(context) as (port, _):
        with pytest.raises(amqproxy.BrokerUnavailable, match=r"self.signed certificate"):
            await amqproxy.connect(f"amqps://ann:hush@localhost:{port}/", ssl_context=client(authority))


async def test_no_password_goes_to_a_port_without_tls(authority: trustme.CA) -> None:
    """There is no way down from amqps:// to plain text, for a link that is made again neither."""
    heard: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1000))
        writer.write(b"AMQP\0\0\x09\x01")
        writer.close()

    listening = await asyncio.start_server(take, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(amqproxy.BrokerUnavailable, match="does this port speak TLS"):
            await amqproxy.connect(f"amqps://ann:hush@localhost:{port}/", ssl_context=client(authority))
    assert len(heard) == 1 and heard[0].startswith(b"\x16\x03") and b"hush" not in heard[0]


@pytest.mark.parametrize("option", ["no_verify_ssl=1", "verify=0", "ssl_verify=no", "NO_VERIFY_SSL=1"])
async def test_a_url_cannot_turn_verification_off(option: str) -> None:
    with pytest.raises(ValueError, match="unknown option"):
        amqproxy.connect(f"amqps://ann:hush@localhost/?{option}")


async def test_who_turns_verification_off_is_warned(
    authority: trustme.CA, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    async with server(serving(trustme.CA().issue_cert("elsewhere"))) as (port, _):
        with pytest.raises(amqproxy.BrokerUnavailable):  # it is no broker
            await amqproxy.connect(f"amqps://ann:hush@localhost:{port}/", ssl_context=careless)
    warnings = [record for record in caplog.records if record.name == "amqproxy.connection"]
    assert "its ssl_context does not verify" in warnings[0].getMessage()
    assert warnings[0].levelno == logging.WARNING


@pytest.mark.parametrize("url", ["amqp://ann:hush@localhost:1/", "embedded:"])
async def test_who_has_a_context_does_not_connect_without_tls(authority: trustme.CA, url: str) -> None:
    with pytest.raises(ValueError, match=r"ssl_context is for amqps:// URLs, .* write amqps://"):
        amqproxy.connect(url, ssl_context=client(authority))


@pytest.mark.parametrize("name", ["cafile", "capath", "cadata", "certfile", "keyfile"])
async def test_who_names_certificates_does_not_connect_without_tls(folder: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}= in the broker URL is for TLS, .* write amqps://"):
        amqproxy.connect(f"amqp://ann:hush@localhost:1/?{name}={folder / 'ca.pem'}")


@pytest.mark.parametrize("name", ["cafile", "capath", "cadata", "certfile", "keyfile"])
async def test_who_has_a_context_names_no_certificates_beside_it(
    authority: trustme.CA, folder: Path, name: str
) -> None:
    """They would mean nothing: whoever trusts `cafile` alone would trust all that the context does."""
    with pytest.raises(ValueError, match=rf"{name}= in the broker URL would mean nothing, .* leave ssl_context out"):
        amqproxy.connect(f"amqps://localhost:1/?{name}={folder / 'ca.pem'}", ssl_context=client(authority))


# What a URL names


@pytest.fixture(scope="module")
def files(folder: Path) -> Path:
    """The same folder, with what is no certificate and a key with a password."""
    key = load_pem_private_key((folder / "server.key").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hush"))
    (folder / "locked.key").write_bytes(locked)
    (folder / "both.pem").write_bytes(locked + (folder / "server.pem").read_bytes())
    (folder / "junk.pem").write_text("no certificate")
    trustme.CA().private_key_pem.write_to_path(str(folder / "other.key"))
    return folder


BAD_FILES = {
    "cafile=F/none.pem": "cafile=F/none.pem in the broker URL cannot be read: No such file",
    "cafile=F": "cafile=F in the broker URL cannot be read: Is a directory",
    "cafile=F/junk.pem": "cafile=F/junk.pem in the broker URL holds no certificates in PEM",
    "capath=F/none": "capath=F/none in the broker URL is no directory",
    "cadata=": "cadata= in the broker URL is empty; give certificates in PEM, or leave it out",
    "cadata=%20%0A": "cadata= in the broker URL is empty; give certificates in PEM, or leave it out",
    "cafile=": "cafile= in the broker URL cannot be read: No such file",
    "capath=": "capath= in the broker URL is no directory",
    "cadata=xx": "cadata in the broker URL holds no certificates in PEM",
    "cadata=%C3%A9": "cadata in the broker URL holds no certificates in PEM",
    "certfile=F/none.pem": "certfile=F/none.pem in the broker URL cannot be read: No such file",
    "certfile=F/server.pem": "certfile=F/server.pem in the broker URL: no certificate with its key in PEM",
    "certfile=F/junk.pem&keyfile=F/server.key": "certfile=F/junk.pem and keyfile=F/server.key in the broker URL: no",
    "certfile=F/server.pem&keyfile=F/none.key": "keyfile=F/none.key in the broker URL cannot be read: No such file",
    "certfile=F/server.pem&keyfile=F/junk.pem": "certfile=F/server.pem and keyfile=F/junk.pem in the broker URL: no",
    "certfile=F/server.pem&keyfile=F/other.key": "keyfile=F/other.key in the broker URL: no certificate with its key",
    "certfile=F/server.pem&keyfile=F/locked.key": "the key in keyfile=F/locked.key of the broker URL is encrypted",
    "certfile=F/both.pem": "the key in certfile=F/both.pem of the broker URL is encrypted",
    "keyfile=F/server.key": "certfile= is missing",
}


@pytest.mark.parametrize("query", BAD_FILES)
async def test_a_file_that_is_not_what_it_should_be_is_named_at_once(files: Path, query: str) -> None:
    """And nobody is asked for a password, for which a thread would wait for ever."""
    expected = re.escape(BAD_FILES[query].replace("F", str(files), BAD_FILES[query].count("=F")))
    with pytest.raises(ValueError, match=expected):
        amqproxy.connect(f"amqps://ann:hush@localhost:1/?{query.replace('=F', f'={files}')}", wait=True)


async def test_certificates_are_read_for_each_connection(authority: trustme.CA, tmp_path: Path) -> None:
    """So that they can be renewed; while one is not there, it is told which."""
    ca = tmp_path / "ca.pem"
    async with server(serving(authority.issue_cert("localhost"))) as (port, _):
        trustme.CA().cert_pem.write_to_path(str(ca))
        mq = amqproxy.connect(f"amqps://ann:hush@localhost:{port}/?cafile={ca}")
        with pytest.raises(amqproxy.BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await mq
        ca.unlink()
        with pytest.raises(amqproxy.BrokerUnavailable, match=f"cafile={ca} in the broker URL cannot be read"):
            await mq
        authority.cert_pem.write_to_path(str(ca))
        with pytest.raises(amqproxy.BrokerUnavailable) as caught:  # it is no broker
            await mq
        assert "CERTIFICATE" not in str(caught.value)


# Clients with certificates, on a RabbitMQ of our own


@contextmanager
def node_with_tls(folder: Path, config: dict[str, str | int | bool]) -> Iterator[tuple[RabbitMQ, int]]:
    port = free_port()
    settings: dict[str, str | int | bool] = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        "ssl_options.cacertfile": str(folder / "ca.pem"),
        "ssl_options.certfile": str(folder / "server.pem"),
        "ssl_options.keyfile": str(folder / "server.key"),
        "ssl_options.versions.1": "tlsv1.2",
        "ssl_options.versions.2": "tlsv1.3",
        **config,
    }
    try:
        with rabbitmq(config=settings, plugins=("rabbitmq_auth_mechanism_ssl",)) as node:
            yield node, port
    except RabbitMQNotInstalled as error:
        missing(str(error))


@pytest.fixture(scope="module")
def external(folder: Path) -> Iterator[tuple[RabbitMQ, int]]:
    """A RabbitMQ that takes clients by the name in their certificates, and no others."""
    demands: dict[str, str | int | bool] = {
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": False,
        "ssl_options.crl_check": "best_effort",
        "ssl_cert_login_from": "common_name",
        "auth_mechanisms.1": "EXTERNAL",
    }
    with node_with_tls(folder, demands) as (node, port):
        node.ctl("add_user", "worker", "unused-8c1f")
        node.ctl("set_permissions", "worker", ".*", ".*", ".*")
        yield node, port


@pytest.fixture
def certified(folder: Path, authority: trustme.CA) -> str:
    """The end of the URL of somebody whose certificate says that he is the worker."""
    write(folder, authority, authority.issue_cert("worker.example", common_name="worker"), "worker")
    return f"?cafile={folder}/ca.pem&certfile={folder}/worker.pem&keyfile={folder}/worker.key&auth=external"


async def test_a_certificate_is_a_login(external: tuple[RabbitMQ, int], certified: str) -> None:
    node, port = external
    async with (
        amqproxy.connect(f"amqps://localhost:{port}/{certified}") as mq,
        mq.serve(Clock(), name="clock", auto_delete=True),
    ):
        assert await mq.proxy(Clock, name="clock").tick() == "tock"
        assert "worker" in node.ctl("list_connections", "user", "ssl")


@pytest.mark.parametrize("name", ["nobody", "guest2"])
async def test_a_certificate_of_somebody_unknown_is_none(
    external: tuple[RabbitMQ, int], folder: Path, authority: trustme.CA, name: str
) -> None:
    _, port = external
    write(folder, authority, authority.issue_cert("x.example", common_name=name), name)
    query = f"?cafile={folder}/ca.pem&certfile={folder}/{name}.pem&keyfile={folder}/{name}.key&auth=external"
    began = time.monotonic()
    with pytest.raises(amqproxy.AccessRefused, match=rf"localhost:{port} refused the certificate"):
        await amqproxy.connect(f"amqps://localhost:{port}/{query}")
    assert time.monotonic() - began < AT_ONCE


async def test_without_a_certificate_nobody_gets_in(external: tuple[RabbitMQ, int], folder: Path) -> None:
    _, port = external
    for url in (
        f"amqps://localhost:{port}/?cafile={folder}/ca.pem&auth=external",
        f"amqps://worker:unused-8c1f@localhost:{port}/?cafile={folder}/ca.pem",
    ):
        began = time.monotonic()
        with pytest.raises(amqproxy.AccessRefused, match="certificate"):
            await amqproxy.connect(url)
        assert time.monotonic() - began < AT_ONCE


async def test_a_certificate_of_another_authority_is_none(external: tuple[RabbitMQ, int], folder: Path) -> None:
    _, port = external
    certificate = trustme.CA().issue_cert("x.example", common_name="worker")
    certificate.private_key_pem.write_to_path(str(folder / "forged.key"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "forged.pem"))
    query = f"?cafile={folder}/ca.pem&certfile={folder}/forged.pem&keyfile={folder}/forged.key&auth=external"
    with pytest.raises(REFUSED, match="our certificate"):
        await amqproxy.connect(f"amqps://localhost:{port}/{query}")


def revoke(node: RabbitMQ, folder: Path, authority: trustme.CA, certificate: trustme.LeafCert) -> None:
    """Let the broker know that the authority has taken a certificate back."""
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    serial = x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes()).serial_number
    now = datetime.datetime.now(datetime.UTC)
    revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
    listed = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject).add_revoked_certificate(revoked)
    listed = listed.last_update(now - datetime.timedelta(hours=1)).next_update(now + datetime.timedelta(days=1))
    file = folder / "crl.pem"
    file.write_bytes(listed.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    assert node.ctl("eval", f'ssl_crl_cache:insert({{file, "{file}"}}).').strip() == "ok"


async def test_a_certificate_that_was_revoked_is_none(
    external: tuple[RabbitMQ, int], folder: Path, authority: trustme.CA
) -> None:
    node, port = external
    certificate = authority.issue_cert("x.example", common_name="worker")
    write(folder, authority, certificate, "revoked")
    query = f"?cafile={folder}/ca.pem&certfile={folder}/revoked.pem&keyfile={folder}/revoked.key&auth=external"
    async with amqproxy.connect(f"amqps://localhost:{port}/{query}"):
        revoke(node, folder, authority, certificate)
    with pytest.raises(REFUSED, match="our certificate"):
        await amqproxy.connect(f"amqps://localhost:{port}/{query}")


async def test_a_password_is_no_login_where_certificates_are(external: tuple[RabbitMQ, int], certified: str) -> None:
    _, port = external
    query = certified.replace("&auth=external", "")
    with pytest.raises(amqproxy.AccessRefused, match="does not offer the way to log in"):
        await amqproxy.connect(f"amqps://worker:unused-8c1f@localhost:{port}/{query}")


async def test_external_is_refused_where_passwords_are(folder: Path, rabbitmq_url: str) -> None:
    with pytest.raises(amqproxy.AccessRefused, match="does not offer the way to log in"):
        await amqproxy.connect(rabbitmq_url + "?auth=external")


async def test_tls_can_be_spoken_to_no_plain_port_and_the_other_way_round(
    rabbitmq_url: str, external: tuple[RabbitMQ, int], authority: trustme.CA
) -> None:
    plain = rabbitmq_url.rpartition(":")[2].rstrip("/")
    began = time.monotonic()
    with pytest.raises(amqproxy.BrokerUnavailable, match="does this port speak TLS"):
        await amqproxy.connect(f"amqps://guest:guest@localhost:{plain}/", ssl_context=client(authority))
    with pytest.raises(amqproxy.BrokerUnavailable, match=f"localhost:{external[1]}"):
        await amqproxy.connect(f"amqp://guest:guest@localhost:{external[1]}/")
    assert time.monotonic() - began < AT_ONCE
