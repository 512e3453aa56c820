"""The pytest plugin of amqproxy: the fixtures `amqp_broker` and `amqp_url`, and the option --amqp-broker.

It lies beside the package, as Hypothesis has it too: pytest imports it in each run wherever amqproxy is installed, and
that shall cost nothing until a test asks for a broker. All the rest is in amqproxy/pytest_plugin.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args

import pytest

if TYPE_CHECKING:
    from amqproxy.pytest_plugin import Source
    from amqproxy.testing import BrokerThread

EMBEDDED, RABBITMQ = "embedded", "rabbitmq"
URL_VARIABLE = "AMQPROXY_TEST_URL"

Scope = Literal["session", "package", "module", "class", "function"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch between brokers."""
    about = f"Broker of the fixtures amqp_broker and amqp_url: {EMBEDDED}, {RABBITMQ} (a private node) or a URL"
    group = parser.getgroup("amqproxy")
    group.addoption("--amqp-broker", metavar="BROKER", help=f"{about}; default: {URL_VARIABLE}, else the ini option.")
    parser.addini("amqp_broker", f"{about}.", default=EMBEDDED)
    parser.addini("amqp_broker_scope", "How long a broker serves: function (default), class, module, … or session.")


def chosen(config: pytest.Config) -> str:
    """What the tests are to run on: "embedded", "rabbitmq" or a URL; UsageError for anything else."""
    given = config.getoption("--amqp-broker") or os.environ.get(URL_VARIABLE) or config.getini("amqp_broker")
    choice = str(given or EMBEDDED)
    if choice not in (EMBEDDED, RABBITMQ) and not choice.startswith(("amqp://", "amqps://")):
        shown = choice.rpartition("@")[2]  # what stands before it may be a password
        raise pytest.UsageError(f"--amqp-broker is {EMBEDDED}, {RABBITMQ} or a URL like amqp://host/, not {shown!r}")
    return choice


def pytest_configure(config: pytest.Config) -> None:
    """Tell at once when there is no such broker, or no such scope."""
    chosen(config)
    scope = _scope("amqp_broker", config)
    if scope not in get_args(Scope):
        raise pytest.UsageError(f"amqp_broker_scope is one of {', '.join(get_args(Scope))}, not {scope!r}")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Name the broker, if it is not the usual one; never the password."""
    choice = chosen(config)
    return None if choice == EMBEDDED else f"amqp broker: {choice.rpartition('@')[2]}"


def _scope(fixture_name: str, config: pytest.Config) -> Scope:
    scope: Scope = config.getini("amqp_broker_scope") or "function"
    return scope


@pytest.fixture(scope="session")
def _amqp_source(pytestconfig: pytest.Config) -> Iterator[Source]:
    from amqproxy.pytest_plugin import source

    with source(chosen(pytestconfig)) as found:
        yield found


@pytest.fixture(scope=_scope)
def amqp_broker(_amqp_source: Source) -> Iterator[BrokerThread]:
    """An AMQP broker for this test alone: url, block(), drop_connections(), … of amqproxy.testing.BrokerThread.

    With --amqp-broker it is RabbitMQ, of which there is only the url: tests that use more of it are skipped then.
    """
    with _amqp_source.fresh() as broker:
        yield broker


@pytest.fixture(scope=_scope)
def amqp_url(amqp_broker: Any) -> str:
    """The URL of an AMQP broker for this test alone, for any client; a RabbitMQ with --amqp-broker."""
    url: str = amqp_broker.url
    return url
