"""What tests of faults saw becomes the table of docs/reliability.md, with `--faults-table`.

    @pytest.mark.fault("F06", "reset after each byte of a call")
    async def test_…(row: Row, amqp_url: str) -> None:
        with row.sees(amqproxy.ConnectionLost, executed="maybe", within=1.0):
            await call
        with row.sees("the answer", within=5.0):
            assert await again == 3
        row.count(lost=0, duplicated=0)

A test that is marked must see something, and what it sees stands in the table if it passes.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rows import ELSEWHERE, ROWS
from tests.patience import SLACK

PAGE = Path(__file__).parents[2] / "docs/reliability.md"
START, END = "<!-- made by make faults -->", "<!-- end -->"
BROKERS = {"embedded": "embedded", "rabbitmq": "RabbitMQ"}
"""What the parameters of our fixtures mean."""

SEEN = pytest.StashKey[list["Sight"]]()
ROW = pytest.StashKey["Row"]()


@dataclass(frozen=True, slots=True)
class Sight:
    """One line of the table: what callers saw of one fault, once or several times."""

    fault: str
    done: str
    """What was done to them."""
    broker: str
    saw: str
    seconds: float
    """The longest that one of them waited, from the fault on or from the call on, whichever is later."""
    bound: float
    times: int = 1
    duplicated: int = 0
    counted: bool = False
    """Whether the test looked for what was lost and run again."""

    def cells(self) -> list[str]:
        """The line's cells, the title of the fault apart."""
        saw = self.saw if self.times == 1 else f"{self.saw}, {self.times} times"
        waited = f"{self.seconds:.2f} s of {self.bound:g} s"
        counts = ["0", str(self.duplicated)] if self.counted else ["", ""]
        return [self.fault, self.done, self.broker, saw, waited, *counts]


class Row:
    """Takes down what a test of one fault sees."""

    def __init__(self, fault: str, done: str, broker: str) -> None:
        self.fault = fault
        self.done = done
        self.broker = broker
        """For the table; a test with brokers of its own may say so here."""
        self.sights: dict[str, Sight] = {}
        self._latest = ""
        self._began = time.monotonic()

    def begin(self) -> None:
        """The fault happens now: the next `sees` counts from here, not from where it begins."""
        self._began = time.monotonic()

    @contextmanager
    def sees(
        self,
        expected: str | type[BaseException],
        *,
        within: float,
        executed: str | None = None,
        match: str | None = None,
        since_begin: bool = False,
    ) -> Iterator[Any]:
        """The block raises this error within so many seconds, or ends without one; text says what that means.

        `executed` is that of the error; `match` is looked for in its text. With `since_begin` the time counts from
        `begin()` on, else from here. What is yielded holds the error, as that of `pytest.raises` does.
        """
        began = self._began if since_begin else time.monotonic()
        if isinstance(expected, str):
            yield None
            saw = expected
        else:
            with pytest.raises(expected, match=match) as caught:
                yield caught
            saw = type(caught.value).__name__
            told = getattr(caught.value, "executed", None)
            assert executed is None or told == executed, repr(told)
            if told is not None:
                saw = f"{saw} ({told})"
        self.saw(saw, time.monotonic() - began, within)

    def saw(self, what: str, seconds: float, within: float) -> None:
        """A caller saw this after so many seconds, which are not to be more than `within`, times SLACK."""
        bound = within * SLACK
        assert seconds <= bound, f"{self.fault}: {what} after {seconds:.2f} s, which is more than {bound:g} s"
        one = Sight(self.fault, self.done, self.broker, what, seconds, within)
        known = self.sights.get(what)
        self.sights[what] = one if known is None else added(known, one)
        self._latest = what

    def count(self, *, lost: int = 0, duplicated: int = 0) -> None:
        """So many calls or confirmed messages were lost, and so many runs were beyond the first of their calls.

        It belongs to what was seen last. Nothing may be lost.
        """
        assert lost == 0, f"{self.fault}: {lost} lost"
        sight = self.sights[self._latest]
        known = sight.duplicated + duplicated
        self.sights[self._latest] = replace(sight, duplicated=known, counted=True)


def added(one: Sight, other: Sight) -> Sight:
    """Two sights of the same as one."""
    return replace(
        one,
        seconds=max(one.seconds, other.seconds),
        bound=max(one.bound, other.bound),
        times=one.times + other.times,
        duplicated=one.duplicated + other.duplicated,
        counted=one.counted or other.counted,
    )


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Iterator[Row]:
    """Takes down what a test that is marked `fault(id, what is done)` sees."""
    mark = request.node.get_closest_marker("fault")
    assert mark is not None, "a test with a row is marked: @pytest.mark.fault(id, what is done)"
    fault, done = mark.args
    assert fault in ROWS, f"{fault} is not in tests/faults/rows.py"
    row = request.node.stash[ROW] = Row(fault, done, _broker(request))
    yield row


def _broker(request: pytest.FixtureRequest) -> str:
    """The broker of a test, by its fixtures."""
    parameters = getattr(getattr(request.node, "callspec", None), "params", {})
    for value in parameters.values():
        if isinstance(value, str) and value in BROKERS:
            return BROKERS[value]
    return "embedded" if "embedded_url" in request.fixturenames else "RabbitMQ"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-table", action="store_true", help="write docs/reliability.md from what the tests see")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(id, done): a test of a fault of tests/faults/rows.py, which has a row")
    config.stash[SEEN] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and report.passed and (row := item.stash.get(ROW, None)) is not None:
        if row.sights:
            item.config.stash[SEEN] += row.sights.values()
        else:
            report.outcome, report.longrepr = "failed", f"{row.fault}: the test took nothing down of what it saw"
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if not session.config.getoption("--faults-table"):
        return
    sights = session.config.stash[SEEN]
    missing = sorted(ROWS.keys() - ELSEWHERE.keys() - {sight.fault for sight in sights})
    if exitstatus == pytest.ExitCode.OK and not missing:
        PAGE.write_text(page_with(PAGE.read_text(), sights, ELSEWHERE))
        return
    # A run of a part knows nothing of the rest.
    session.exitstatus = exitstatus or pytest.ExitCode.TESTS_FAILED
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    reporter.write_line("")
    reporter.write_line(f"{PAGE.name} stays as it is: not all faults were seen to end well")
    for fault in missing:
        reporter.write_line(f"  {fault} {ROWS[fault]}: not seen")
    for line in table(sights, {}):
        reporter.write_line(line)


def table(sights: Iterable[Sight], elsewhere: Mapping[str, str]) -> list[str]:
    """The table in Markdown, line by line."""
    lines = [
        "| | fault | done here | broker | the caller saw | after, of at most | lost | run again |",
        "|---|---|---|---|---|---|--:|--:|",
    ]
    different: dict[tuple[str, ...], Sight] = {}
    for sight in sights:
        key = (sight.fault, sight.done, sight.broker, sight.saw)
        different[key] = added(different[key], sight) if key in different else sight
    for fault, title in ROWS.items():
        for sight in different.values():
            if sight.fault == fault:
                number, *others = sight.cells()
                lines.append(f"| {number} | {title} | {' | '.join(others)} |")
        if fault in elsewhere:
            lines.append(f"| {fault} | {title} | {elsewhere[fault]} | | | | | |")
    return lines


def page_with(text: str, sights: Iterable[Sight], elsewhere: Mapping[str, str]) -> str:
    """The page with the table of these sights."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    made = "\n".join(table(sights, elsewhere))
    return f"{before}{START}\n\n{made}\n\n{END}{after}"


def faults_of(text: str) -> set[str]:
    """The faults that a page shows."""
    lines = text.partition(START)[2].partition(END)[0].splitlines()
    return {line.strip("|").split("|")[0].strip() for line in lines} & ROWS.keys()
