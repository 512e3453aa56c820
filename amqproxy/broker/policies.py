"""Policies: settings for all queues or exchanges whose names fit a pattern.

https://www.rabbitmq.com/docs/policies, those of operators included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .arguments import CLASSIC
from .tables import Table, long_integer, long_string

_LEAST = {"delivery-limit": None, "expires": 1, "max-length": 0, "max-length-bytes": 0, "message-ttl": 0}
"""Settings that limit something, and what they are at least."""
_TEXTS = frozenset({"alternate-exchange", "dead-letter-exchange", "dead-letter-routing-key", "overflow"})
_OVERFLOW = ("drop-head", "reject-publish", "reject-publish-dlx")
KNOWN = _LEAST.keys() | _TEXTS
"""The settings that have an effect here."""


def check_setting(name: str, value: Any) -> None:
    """ValueError for a value that a known setting cannot have."""
    if name in _TEXTS:
        if not isinstance(value, str):
            raise ValueError(f"{name} is a text, not {value!r}")
        if name == "overflow" and value not in _OVERFLOW:
            raise ValueError(f"overflow is one of {', '.join(_OVERFLOW)}, not {value!r}")
        return
    least = _LEAST[name]
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise ValueError(f"{name} is a whole number{'' if least is None else f' from {least} on'}, not {value!r}")


@dataclass(frozen=True, slots=True)
class Policy:
    """What is set for all queues or exchanges whose names fit a pattern."""

    pattern: re.Pattern[str]
    settings: Mapping[str, Any]
    priority: int = 0
    apply_to: str = "all"
    """Or "queues", "classic_queues", "quorum_queues", "streams", "exchanges"."""

    @classmethod
    def of(cls, pattern: str, settings: Mapping[str, Any], priority: int = 0, apply_to: str = "all") -> Policy:
        """A policy with a pattern as text; ValueError if that is no regular expression."""
        try:
            return cls(re.compile(pattern), settings, priority, apply_to)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error

    def fits(self, kind: str, queue_type: str, name: str) -> bool:
        """Whether it is for the "queue" or "exchange" of that name."""
        wide = self.apply_to in ("all", f"{kind}s")
        narrow = kind == "queue" and self.apply_to == f"{queue_type}_queues"
        return (wide or narrow) and self.pattern.search(name) is not None


class Policies:
    """All policies of a virtual host.

    Of each kind, the fitting one with the highest priority holds. Where an argument and a policy limit the same, or two
    policies do, the lower limit holds; else an argument wins over a policy, and an operator's policy over a user's.
    """

    def __init__(self, policies: Iterable[Policy] = (), operator_policies: Iterable[Policy] = ()) -> None:
        self._kinds = tuple(sorted(each, key=_urgency) for each in (policies, operator_policies))

    def govern(self, kind: str, name: str, arguments: Table) -> Table:
        """The arguments that a "queue" or "exchange" is to follow, made of those that it was declared with."""
        settings = self._settings(kind, arguments.text("x-queue-type") or CLASSIC, name)
        if not settings:
            return arguments
        fields = dict(arguments.fields)
        for setting, value in settings.items():
            argument = setting if kind == "exchange" else f"x-{setting}"
            if setting in _LEAST:
                fields[argument] = long_integer(_lower(arguments.get(argument, value), value))
            elif argument not in fields:
                fields[argument] = long_string(value)
        return Table(fields)

    def _settings(self, kind: str, queue_type: str, name: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for policies in self._kinds:
            fitting = next((policy for policy in policies if policy.fits(kind, queue_type, name)), None)
            for setting, value in (fitting.settings if fitting else {}).items():
                limited = setting in _LEAST and setting in merged
                merged[setting] = _lower(merged[setting], value) if limited else value
        return merged


def _urgency(policy: Policy) -> int:
    return -policy.priority


def _lower(one: int, other: int) -> int:
    """The lower limit of two; a negative one, which only the delivery limit can be, is none at all."""
    return max(one, other) if min(one, other) < 0 else min(one, other)
