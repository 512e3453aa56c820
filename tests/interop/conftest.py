"""What the tests of foreign programs saw becomes the table in docs/interop.md, with `--write-interop`."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from tests.interop.table import PAGE, Cell, page_with

SEEN = pytest.StashKey[set[tuple[Cell, str]]]()


Seen = Callable[[str, str, str], None]
"""Takes the name of a peer, its role, and an encoding."""


@pytest.fixture
def seen(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[[str, str, str], None]:
    """Note a peer in a role and an encoding for the table, where it stands if the test passes on RabbitMQ."""
    broker = request.node.callspec.params.get("amqp_url", "rabbitmq")

    def note(peer: str, role: str, encoding: str) -> None:
        record_property("interop", (Cell(peer, role, encoding), broker))

    return note


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-interop", action="store_true", help="write docs/interop.md from what the tests see")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SEEN] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.passed:
        for name, cell in report.user_properties:
            if name == "interop" and isinstance(cell, tuple):
                item.config.stash[SEEN].add(cell)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.getoption("--write-interop", default=False):
        return
    from tests.interop.test_peers import NOTES

    seen = session.config.stash[SEEN]
    # Whoever can be seen on both brokers must be; STOMP is a plugin of RabbitMQ's, and has one.
    cells = {cell for cell, broker in seen if broker == "rabbitmq"}
    PAGE.write_text(page_with(PAGE.read_text(), cells, NOTES))
