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
    """Note a peer in a role and an encoding for the table, where it stands if the test passes on both brokers."""
    broker = request.node.callspec.params.get("amqp_url", "rabbitmq")

    def note(peer: str, role: str, encoding: str) -> None:
        record_property("interop", (peer, role, encoding, broker))

    return note


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-interop", action="store_true", help="write docs/interop.md from what the tests see")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SEEN] = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.passed:
        for name, noted in report.user_properties:
            if name == "interop" and isinstance(noted, tuple):
                *cell, broker = noted
                item.config.stash[SEEN].add((Cell(*cell), broker))
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if not session.config.getoption("--write-interop", default=False):
        return
    from tests.interop.test_peers import NOTES, PROMISED

    seen = session.config.stash[SEEN]
    if exitstatus == pytest.ExitCode.OK and seen >= PROMISED:
        PAGE.write_text(page_with(PAGE.read_text(), {cell for cell, _ in seen}, NOTES))
        return
    # A run of a part, or on a machine that lacks a language, knows nothing of the rest.
    session.exitstatus = exitstatus or pytest.ExitCode.TESTS_FAILED
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    reporter.write_line("")
    reporter.write_line(f"{PAGE.name} stays as it is: not all of it was seen to work")
    for cell, broker in sorted(PROMISED - seen):
        reporter.write_line(f"  {cell.peer} as {cell.role} in {cell.encoding}, {broker}")
