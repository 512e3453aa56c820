"""TLS through the fast lane: a real certificate is enough, and nothing less."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

import amqproxy
from amqproxy.testing import RabbitMQNotInstalled, broker_thread, free_port, rabbitmq
from tests.conftest import EMBEDDED, RABBITMQ, missing
from tests.contract.test_deadlines import Gate


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module", params=[EMBEDDED, RABBITMQ])
def tls_port(
    request: pytest.FixtureRequest, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """A broker with a certificate for localhost, and not for 127.0.0.1."""
    certificate = authority.issue_cert("localhost")
    if request.param == RABBITMQ:
        yield from rabbitmq_over_tls(authority, certificate, tmp_path_factory)
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    with broker_thread(tls=context) as broker:
        yield broker.port


def rabbitmq_over_tls(
    authority: trustme.CA, certificate: trustme.LeafCert, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("tls")
    folder.chmod(0o755)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    port = free_port()
    config: dict[str, str | int | bool] = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        "ssl_options.cacertfile": str(folder / "ca.pem"),
        "ssl_options.certfile": str(folder / "cert.pem"),
        "ssl_options.keyfile": str(folder / "key.pem"),
    }
    try:
        with rabbitmq(config=config):
            yield port
    except RabbitMQNotInstalled as error:
        missing(str(error))


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_calls_go_over_tls(tls_port: int, trusting: ssl.SSLContext, service: str) -> None:
    url = f"amqps://guest:guest@localhost:{tls_port}/"
    async with (
        amqproxy.connect(url, ssl_context=trusting) as mq,
        mq.serve(Gate(), name=service, auto_delete=True),
    ):
        assert await mq.proxy(Gate, name=service).ping() == "pong"
        with pytest.raises(amqproxy.RemoteError, match="does not serve"):
            await mq.proxy(service).nothing("x" * 500_000)


async def test_an_authority_can_be_named_in_the_url(
    tls_port: int, authority: trustme.CA, tmp_path: Path, service: str
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    url = f"amqps://guest:guest@localhost:{tls_port}/?cafile={tmp_path / 'ca.pem'}"
    async with amqproxy.connect(url) as mq, mq.serve(Gate(), name=service, auto_delete=True):
        assert await mq.proxy(service).ping() == "pong"


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_port: int) -> None:
    with pytest.raises(
        amqproxy.BrokerUnavailable, match=rf"no TLS connection to localhost:{tls_port}: CERTIFICATE_VERIFY"
    ):
        await amqproxy.connect(f"amqps://guest:guest@localhost:{tls_port}/")


async def test_a_certificate_for_another_host_is_refused(tls_port: int, trusting: ssl.SSLContext) -> None:
    with pytest.raises(amqproxy.BrokerUnavailable, match=r"no TLS connection to 127\.0\.0\.1"):
        await amqproxy.connect(f"amqps://guest:guest@127.0.0.1:{tls_port}/", ssl_context=trusting)


async def test_verification_cannot_be_turned_off_by_the_url() -> None:
    with pytest.raises(ValueError, match="unknown option 'no_verify_ssl'"):
        amqproxy.connect("amqps://guest:guest@localhost/?no_verify_ssl=1")
