"""What tests of faults share."""

from __future__ import annotations

import logging

import pytest

from tests.contract.conftest import mortal, mq, raw, service

__all__ = ["mortal", "mq", "raw", "service"]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """aiormq logs each lost connection as an error, in words that our own errors repeat."""
    caplog.set_level(logging.CRITICAL, "aiormq")
