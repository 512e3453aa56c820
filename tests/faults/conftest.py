"""What tests of faults share."""

from __future__ import annotations

from tests.contract.conftest import mortal, mq, raw, service

__all__ = ["mortal", "mq", "raw", "service"]
