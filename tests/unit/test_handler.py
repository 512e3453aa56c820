"""What becomes of requests that reach no handler."""

from __future__ import annotations

import pytest

from amqproxy.errors import RemoteError
from amqproxy.handler import not_begun
from amqproxy.properties import Properties

HEADER = Properties(content_type=b"calc.add", message_id=b"17").encode()


def test_a_failure_of_our_own_is_logged_and_its_text_stays_here(caplog: pytest.LogCaptureFixture) -> None:
    failure = not_begun(LookupError("/srv/secret"), "calc", HEADER)
    assert failure.message == "calc failed before the handler was run; see its log"
    assert (failure.type, failure.code, failure.executed) == ("LookupError", "internal", "no")
    [record] = caplog.records
    assert record.getMessage() == "calc: a request could not be begun: calc.add (message-id 17)"
    assert record.exc_info is not None and str(record.exc_info[1]) == "/srv/secret"


def test_a_refusal_is_told_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    refused = RemoteError("no such method", code="unimplemented", executed="no")
    assert not_begun(refused, "calc", HEADER) is refused
    assert not caplog.records
