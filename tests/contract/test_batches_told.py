"""What the log has of calls that came many in one message, and fail: some of them, and how many lines there are not."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import amqproxy
from amqproxy.replies import MOST_LINES
from tests.contract.raw import Raw
from tests.patience import until


class Failing:
    """Fails as it is told to."""

    async def ping(self) -> str:
        return "pong"

    async def fail(self, how: str) -> None:
        if how == "raise":
            raise ValueError("of the handler's own")
        if how == "say":
            raise amqproxy.RemoteError("as the caller expects", code="not_found")


def send(raw: Raw, service: str, how: list[str], **properties: Any) -> None:
    body = b"[%b]" % b",".join(b"0" if each == "garbage" else b'["%b"]' % each.encode() for each in how)
    kind, headers = f"{service}.fail".encode(), {"x-batch": len(how)}
    raw.publish(service, body, content_type=kind, correlation_id=b"1", headers=headers, **properties)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(("how", "each"), [("garbage", 1), ("say", 1), ("raise", 2)])
async def test_of_a_thousand_that_fail_a_few_are_told_and_how_many_are_not(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture, how: str, each: int
) -> None:
    async with mq.serve(Failing(), name=service, auto_delete=True) as worker:
        for messages in (1, 2):
            caplog.clear()
            send(raw, service, [how] * 1000)
            await until(lambda goal=1000 * messages: worker.answered == goal)  # type: ignore[misc]
            lines = warnings(caplog)
            assert len(lines) == MOST_LINES + 1
            left_out = 1000 * each - MOST_LINES
            text = f"{left_out} more lines about calls that failed in one message were left out: {service}.fail"
            assert lines[-1] == f"{text} (correlation-id 1)"
            assert all("one-way request failed" in line for line in lines[:-1][each - 1 :: each])


async def test_those_that_fit_are_all_told(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with mq.serve(Failing(), name=service, auto_delete=True) as worker:
        send(raw, service, ["garbage", "", "say"] * 5)
        await until(lambda: worker.answered == 15)
        lines = warnings(caplog)
        assert len(lines) == MOST_LINES
        assert all("one-way request failed" in line for line in lines)


async def test_where_callers_are_told_the_log_has_a_few_tracebacks(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with mq.serve(Failing(), name=service, auto_delete=True) as worker:
        send(raw, service, ["say", "garbage"] * 100, reply_to=raw.reply_to)
        await until(lambda: worker.answered == 200)
        assert warnings(caplog) == []
        send(raw, service, ["raise", "say"] * 100, reply_to=raw.reply_to)
        await until(lambda: worker.answered == 400)
        lines = warnings(caplog)
        assert len(lines) == MOST_LINES + 1
        assert all(line.endswith("raised") for line in lines[:-1])
        assert lines[-1].startswith("90 more lines about calls that failed")
