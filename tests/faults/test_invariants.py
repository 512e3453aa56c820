"""The checker of random runs finds each violation, and none where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.invariants import Checker, Violation, expected
from tests.faults.journal import Journal, read

TOKEN = "caller1.7"


def checked(*records: tuple[str, str, dict[str, Any]], **facts: Any) -> list[Violation]:
    checker = Checker(**facts)
    for process, what, facts in records:
        checker.take(process, {"at": 0.0, "what": what, "token": TOKEN, **facts})
    return checker.violations()


def call(kind: str = "plain", at: float = 0.0, limit: float = 3.0) -> tuple[str, str, dict[str, Any]]:
    return "caller1", "call", {"kind": kind, "at": at, "limit": limit}


def ran(redelivered: bool = False, sent: str = "id1", at: float = 0.0) -> tuple[str, str, dict[str, Any]]:
    return "worker2", "run", {"redelivered": redelivered, "sent": sent, "at": at}


def ok(value: str = expected(TOKEN), at: float = 0.1) -> tuple[str, str, dict[str, Any]]:
    return "caller1", "ok", {"value": value, "at": at}


def failed(executed: str, error: str = "ConnectionLost", at: float = 0.1, **facts: Any) -> Any:
    return "caller1", "failed", {"error": error, "text": "…", "executed": executed, "named": True, "at": at, **facts}


@pytest.mark.parametrize(
    "records",
    [
        (call(), ran(), ok()),
        (ok(), ran(), call()),  # journals are read one after another
        (call(), ran(), ran(redelivered=True), ok()),
        (call("idempotent"), ran(), ran(sent="id2"), ok()),
        (call("one-way"), ran(), ran(), ok("")),
        (call("once"), ran(), failed("maybe")),
        (call(), failed("no")),
        (call(), failed("maybe")),
        (call(), ran(), failed("maybe")),
        (call(), ran(), failed("yes", "RemoteError")),
        (call("one-way"), failed("maybe")),
        (call("cancelled"), ran(), ("caller1", "cancelled", {"at": 0.2})),
        (call(), ran(), ok(at=3.9)),
        (call(), ran(), ok(at=4.9), ("caller1", "stall", {"seconds": 1.0, "token": "", "at": 3.0, "waited": 0.0})),
        (call(), ran(), ok(at=9.0), ("caller1", "stall", {"seconds": 9.0, "token": "", "at": 9.0, "waited": 7.5})),
        (("caller1", "left", {"token": "", "things": {"pending calls": 0}}),),
    ],
)
def test_what_may_be_is_no_violation(records: Any) -> None:
    assert checked(*records) == []


@pytest.mark.parametrize(
    ("rule", "text", "records"),
    [
        ("a", "never ran", (call(), ok())),
        ("b", "ran 2 times, and was redelivered 1 times", (call("once"), ran(), ran(redelivered=True), ok())),
        ("b", "ran 2 times, and was redelivered 0 times", (call("once"), ran(), ran(), ok())),
        ("what runs again was redelivered", "redelivered 1 times", (call(), ran(), ran(), ran(redelivered=True), ok())),
        ("c", "ran 1 times, and failed with Unroutable", (call(), ran(), failed("no", "Unroutable"))),
        ("d", "confirmed, and never ran", (call("one-way"), ok(""))),
        ("e", "the answer is 'x'", (call(), ran(), ok("x"))),
        ("f", "took 4.10 s of 3.00 s", (call(), ran(), ok(at=4.1))),
        ("f", "took 4.10 s of 3.00 s", (call(), failed("maybe", at=4.1))),
        ("f", "not ended at all", (call(), ran())),
        ("g", "caller1 has 2 pending calls", (("caller1", "left", {"token": "", "things": {"pending calls": 2}}),)),
        ("what was executed ran", "never ran", (call(), failed("yes", "RemoteError"))),
        ("what runs was sent once", "sent 2 times", (call(), ran(), ran(sent="id2"), ok())),
        (
            "f",
            "took 9.00 s",
            (call(), ran(), ok(at=9.0), ("caller1", "stall", {"seconds": 4.9, "token": "", "at": 7.0, "waited": 4.9})),
        ),
        (
            "f",
            "took 4.90 s",
            (call(at=9.0), ran(), ok(at=13.9), ("caller1", "stall", {"seconds": 4.9, "token": "", "waited": 4.9})),
        ),
        (
            "no loop is blocked",
            "that of caller1 stood still for 58.00 s",
            (("caller1", "stall", {"seconds": 60.0, "token": "", "at": 60.0, "waited": 2.0}),),
        ),
        ("errors have names", "AttributeError", (call(), failed("maybe", "AttributeError", named=False))),
        ("nobody is cancelled", "CancelledError", (call(), ("caller1", "cancelled", {"at": 0.1}))),
        ("nobody runs", "ran 1 times", (ran(),)),
    ],
)
def test_each_violation_is_found(rule: str, text: str, records: Any) -> None:
    [violation] = checked(*records)
    assert violation.rule.startswith(rule)
    assert text in violation.text


@pytest.mark.parametrize("kind", ["once", "plain"])
def test_a_second_run_is_no_violation_if_the_broker_had_a_reason_and_has_forgotten_the_first(kind: str) -> None:
    records = (call(kind), ran(at=5.0), ran(at=6.0), ok())
    redelivered = {"faults": [(5.2, 5.5)]}
    assert checked(*records, **redelivered, forgetful_since=1.0) == []
    assert checked(*records, **redelivered, forgetful_since=None) != []  # its queue counts, or it never was restarted
    assert checked(*records, **redelivered, forgetful_since=7.0) != []
    assert checked(*records, faults=[(-9.0, -8.0), (7.0, 8.0)], forgetful_since=1.0) != []  # without a reason


def test_a_kind_of_call_that_never_goes_well_is_told() -> None:
    def outcomes(goes_well: int) -> list[Violation]:
        checker = Checker()
        for number in range(1200):
            token = str(number)
            checker.take("caller1", {"at": 0.0, "what": "call", "token": token, "kind": "stream", "limit": 1.0})
            checker.take("worker2", {"at": 0.0, "what": "run", "token": token, "sent": "1", "redelivered": False})
            ended = {"what": "ok", "value": expected(token)} if number < goes_well else {"what": "failed", "error": "X"}
            checker.take("caller1", {"at": 0.0, "token": token, **ended})
        return checker.violations()

    assert outcomes(400) == []
    [violation] = outcomes(399)
    assert violation.rule == "each kind of call goes well"


def test_a_caller_that_was_killed_owes_nothing() -> None:
    assert checked(call(), ran(), killed={"caller1"}) == []
    assert checked(call("one-way"), killed={"caller1"}) == []


def test_who_ends_in_order_says_what_it_leaves() -> None:
    left = "caller1", "left", {"token": "", "things": {"tasks": 0}}
    assert checked(left, ended={"caller1"}) == []
    [violation] = checked(left, ended={"caller1", "worker2"})
    assert violation.text == "worker2 has not said what it leaves"


def test_a_call_that_has_hung_is_told_though_its_caller_was_killed_later() -> None:
    def later(at: float) -> list[Violation]:
        return checked(
            call(),
            ran(),
            ("caller1", "stall", {"seconds": 0.0, "token": "", "at": at, "waited": 0.0}),
            killed={"caller1"},
        )

    assert later(3.9) == []
    [violation] = later(60.0)
    assert "it took 60.00 s of 3.00 s (killed" in violation.text


def test_runs_and_outcomes_are_counted() -> None:
    checker = Checker()
    for token in ("1", "2", "3"):
        checker.take("caller1", {"at": 0.0, "what": "call", "token": token, "kind": "plain", "limit": 1.0})
        checker.take("worker2", {"at": 0.0, "what": "run", "token": token, "sent": "1", "redelivered": False})
    checker.take("worker2", {"at": 0.0, "what": "run", "token": "3", "sent": "1", "redelivered": True})
    checker.take("caller1", {"at": 0.0, "what": "ok", "token": "1", "value": "1"})
    checker.take("caller1", {"at": 0.0, "what": "failed", "token": "2", "error": "CallTimeout", "executed": "maybe"})
    assert checker.outcomes() == {"plain": {"ok": 1, "CallTimeout (maybe)": 1, "unknown": 1}}
    assert (checker.runs, checker.run_again) == (4, 1)


def test_calls_at_most_once_are_counted_that_the_broker_gave_out_twice_without_a_word() -> None:
    checker = Checker(faults=[(1.0, 2.0)], forgetful_since=0.5)
    for kind, token in (("once", "1"), ("plain", "2"), ("once", "3")):
        checker.take("caller1", {"at": 0.0, "what": "call", "token": token, "kind": kind, "limit": 1.0})
        for at in (1.0, 2.0)[: 2 - (token == "3")]:
            checker.take("worker2", {"at": at, "what": "run", "token": token, "sent": "1", "redelivered": False})
    assert checker.unmarked == 1


def test_the_longest_wait_beyond_a_deadline_is_told() -> None:
    checker = Checker()
    assert checker.longest_beyond == 0.0
    for token, ended in (("1", 0.5), ("2", 1.25), ("3", 1.0)):
        checker.take("caller1", {"at": 0.0, "what": "call", "token": token, "kind": "plain", "limit": 1.0})
        checker.take("caller1", {"at": ended, "what": "ok", "token": token, "value": token})
    assert checker.longest_beyond == 0.25


def test_a_journal_is_read_as_it_was_written_but_for_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "caller1.journal"
    assert list(read(path)) == []
    journal = Journal(path)
    journal.note("call", TOKEN, kind="plain")
    begun = path.stat().st_size
    journal.note("ok", TOKEN, value="ü\n")
    with path.open("a") as file:
        file.write('{"at": 1.0, "what": "o')
    first, second = read(path)
    assert (first["what"], first["token"], first["kind"]) == ("call", TOKEN, "plain")
    assert (second["what"], second["value"]) == ("ok", "ü\n")
    assert second["at"] >= first["at"] > 0
    assert [record["what"] for record in read(path, begun)] == ["ok"]
