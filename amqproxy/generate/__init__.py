"""Clients in other languages, written from a contract: `amqproxy generate`."""

from __future__ import annotations

from .languages import LANGUAGES, check_package
from .output import NotOurs, save
from .service import Service, service_of
from .source import Order, Source

__all__ = ["LANGUAGES", "NotOurs", "Order", "Service", "Source", "check_package", "save", "service_of"]
