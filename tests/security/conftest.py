"""The same connections as those of the tests of the contract."""

from __future__ import annotations

from tests.contract.conftest import mq, raw, service

__all__ = ["mq", "raw", "service"]
