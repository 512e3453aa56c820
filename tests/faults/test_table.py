"""The table of faults: each is tested, or it is said why not, and the page shows what the tests saw."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import amqproxy
from tests.faults.rows import ELSEWHERE, ROWS
from tests.faults.table import PAGE, Row, Sight, faults_of, page_with

TESTS = Path(__file__).parents[1]
MARK = re.compile(r'mark\.fault\(\s*"(F\d\d)"')


def marked() -> Iterator[str]:
    for file in TESTS.rglob("test_*.py"):
        if file != Path(__file__):
            yield from MARK.findall(file.read_text())


def test_a_fault_is_tested_or_it_is_said_why_not_but_not_both() -> None:
    tested = set(marked())
    assert tested | ELSEWHERE.keys() == ROWS.keys()
    assert not tested & ELSEWHERE.keys()


def test_the_page_shows_every_fault() -> None:
    assert faults_of(PAGE.read_text()) == ROWS.keys()


def test_a_reason_that_names_a_file_names_one_that_is_there() -> None:
    for reason in ELSEWHERE.values():
        for path in re.findall(r"tests/[\w/]+\.py", reason):
            assert (TESTS.parent / path).exists(), path


def test_what_is_seen_several_times_is_one_line_with_the_longest_wait() -> None:
    row = Row("F06", "reset", "RabbitMQ")
    row.saw("the answer", 0.25, 1.0)
    row.saw("ConnectionLost (maybe)", 0.5, 1.0)
    row.saw("the answer", 0.75, 1.0)
    row.count(lost=0, duplicated=2)
    page = page_with(PAGE.read_text(), row.sights.values(), {"F61": "no second machine"})
    assert "| reset | RabbitMQ | the answer, 2 times | 0.75 s of 1 s | 0 | 2 |" in page
    assert f"| F61 | {ROWS['F61']} | no second machine |" in page
    assert faults_of(page) == {"F06", "F61"}
    assert page_with(page, (), {}) == page_with(PAGE.read_text(), (), {})


def test_an_error_is_seen_with_its_executed_and_in_time() -> None:
    row = Row("F06", "reset", "RabbitMQ")
    with row.sees(amqproxy.ConnectionLost, executed="maybe", within=1.0, match="broke"):
        raise amqproxy.ConnectionLost("the link broke")
    (sight,) = row.sights.values()
    assert isinstance(sight, Sight)
    assert sight.saw == "ConnectionLost (maybe)"
    with pytest.raises(AssertionError), row.sees(amqproxy.ConnectionLost, executed="no", within=1.0):
        raise amqproxy.ConnectionLost("the link broke")
    with pytest.raises(AssertionError, match="more than 0 s"), row.sees("the answer", within=0.0):
        pass


def test_a_test_of_a_fault_that_sees_nothing_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.fault("F06", "nothing")
        def test_blind(row):
            pass

        @pytest.mark.fault("F06", "something")
        def test_seeing(row):
            row.saw("the answer", 0.5, 1.0)
        """
    )
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    before = PAGE.read_text()
    result = pytester.runpytest_inprocess("-p", "tests.faults.table", "--faults-table")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*F01 broker killed*: not seen", "*F06: the test took nothing down*"])
    assert PAGE.read_text() == before
