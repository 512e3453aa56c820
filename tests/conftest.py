"""The brokers that the tests run on, the line at the end that says which they were, and a limit of time."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest

from amqproxy.testing import (
    START_TIMEOUT,
    BrokerThread,
    RabbitMQ,
    RabbitMQNotInstalled,
    broker_product,
    broker_thread,
    rabbitmq,
)

pytest_plugins = ["pytester", "tests.faults.table"]  # the former is for the tests of our own plugin

AMQP_PORT = 5672
TEST_TIMEOUT = 120
"""Seconds that a test, and its setup and its teardown, may take each; longer than any wait inside them."""
CONTAINER_IMAGE = "rabbitmq:4"
EMBEDDED, RABBITMQ = "embedded", "rabbitmq"
BROKERS = pytest.StashKey[list[str]]()
"""The brokers that were used, as the last line is to name them."""


@pytest.fixture(autouse=True)
def quiet_aiormq() -> Iterator[None]:
    """aiormq logs each lost connection as an error, in words that our own errors repeat.

    Not with `caplog.set_level`, which would raise the level of all that caplog takes.
    """
    log = logging.getLogger("aiormq")
    level = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(level)


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the tests find their RabbitMQ."""

    url: str
    name: str
    node: RabbitMQ | None = None
    """The private node, which may be stopped and killed; None for a broker of somebody else."""


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config) -> Iterator[Broker]:
    """The RabbitMQ of AMQPROXY_TEST_URL, else a private node, else a container, else a skipped test."""
    with ExitStack() as stack:
        try:
            found = find_broker(stack)
        except pytest.skip.Exception as skipped:
            used(pytestconfig, f"no RabbitMQ, so what it would have been asked was skipped: {skipped.msg}")
            raise
        used(pytestconfig, found.name)
        yield found


@pytest.fixture(scope="session")
def embedded_broker(pytestconfig: pytest.Config) -> Iterator[BrokerThread]:
    """The embedded broker that tests share as they share RabbitMQ."""
    used(pytestconfig, "embedded")
    with broker_thread() as thread:
        yield thread


@pytest.fixture(scope="session")
def rabbitmq_url(broker: Broker) -> str:
    """The URL of RabbitMQ alone, for tests that have brokers of their own beside it."""
    return broker.url


@pytest.fixture
def embedded_url(embedded_broker: BrokerThread) -> str:
    """The URL of the embedded broker alone: for tests of processes, which take their time and leave the broker cold."""
    return embedded_broker.url


@pytest.fixture(params=[EMBEDDED, RABBITMQ])
def amqp_url(request: pytest.FixtureRequest) -> str:
    """The URL of each broker in turn, which all tests share: names of queues are to be random or the test's own."""
    shared = request.getfixturevalue("embedded_broker" if request.param == EMBEDDED else "broker")
    url: str = shared.url
    return url


@pytest.fixture
def rabbitmq_node(broker: Broker) -> Iterator[RabbitMQ]:
    """The private node that all tests share, for `ctl`, `stop`, `kill` and `start`; it runs again after."""
    if broker.node is None:
        missing(f"needs a private RabbitMQ node, and this is {broker.name}")
    yield broker.node
    broker.node.start()


def used(config: pytest.Config, name: str) -> None:
    """Let the last line name a broker."""
    config.stash.setdefault(BROKERS, []).append(name)


def find_broker(stack: ExitStack) -> Broker:
    """Return the RabbitMQ to use, and end it with `stack`; skip the test, or fail it in CI, without one."""
    if url := os.environ.get("AMQPROXY_TEST_URL"):
        return Broker(url, f"{product_at(url)}, AMQPROXY_TEST_URL")
    try:
        node = stack.enter_context(rabbitmq())
    except RabbitMQNotInstalled as error:
        if docker_answers():
            return stack.enter_context(container())
        missing(f"{error}; no Docker engine answers either")
    return Broker(node.url, f"RabbitMQ {node.version}, private node", node)


def docker_answers() -> bool:
    try:
        import docker
    except ImportError:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the client leaves a socket open when nobody answers
        try:
            docker.from_env(timeout=5).close()  # it has asked for the engine's version
        except docker.errors.DockerException:
            return False
        finally:
            gc.collect()
    return True


@contextmanager
def container() -> Iterator[Broker]:
    from testcontainers.core.container import DockerContainer

    with DockerContainer(CONTAINER_IMAGE).with_exposed_ports(AMQP_PORT) as rabbit:
        host, port = rabbit.get_container_host_ip(), int(rabbit.get_exposed_port(AMQP_PORT))
        yield Broker(f"amqp://guest:guest@{host}:{port}/", f"{product_once_up(host, port)}, container")


def product_once_up(host: str, port: int) -> str:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            return broker_product(host, port)
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def product_at(url: str) -> str:
    """Return what the broker at `url` calls itself, as far as it says so without TLS."""
    parts = urlsplit(url)
    if parts.scheme != "amqp":
        return f"the broker at {parts.hostname}"
    return broker_product(parts.hostname or "localhost", parts.port or AMQP_PORT)


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it where a missing broker must not go unseen."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"with CI=true a RabbitMQ must be there: {reason}", pytrace=False)
    pytest.skip(reason)


@contextmanager
def time_limit() -> Iterator[None]:
    """Fail a test that hangs, in a wait of the event loop or any other, instead of the whole run."""

    def give_up(signum: int, frame: FrameType | None) -> NoReturn:
        pytest.fail(f"not done after {TEST_TIMEOUT} s")

    before = signal.signal(signal.SIGALRM, give_up)
    # Again and again: what the event loop is running catches it, and so may what the test does in the end.
    signal.setitimer(signal.ITIMER_REAL, TEST_TIMEOUT, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    with time_limit():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    with time_limit():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    with time_limit():
        return (yield)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (told := getattr(session.config, "workeroutput", None)) is not None:  # this is one of several processes (xdist)
        told["brokers"] = session.config.stash.get(BROKERS, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What one of several processes has used."""
    for name in getattr(node, "workeroutput", {}).get("brokers", ()):
        if name not in node.config.stash.get(BROKERS, ()):
            used(node.config, name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if names := config.stash.get(BROKERS, None):
        terminalreporter.write_line(f"brokers: {'; '.join(names)}")
