"""When a call that failed is tried again: how often, after how long, and for how many of all calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .bounds import check_count, check_number, check_positive


class RetryBudget:
    """How much of what fails may be tried again, so that those who call do not keep down what cannot keep up.

    A bucket of tokens, as in gRPC's retry throttling (proposal A6). Each try that fails takes a token out, each call
    that succeeds puts a part of one in, and while the bucket is not more than half full nothing is tried again. So
    single failures are, and when most calls fail, next to none is. Lost links take none: all calls that are out fail by
    one at once, however well those do who serve them.
    """

    __slots__ = ("_full", "_ratio", "_tokens")

    def __init__(self, tokens: int = 100, ratio: float = 0.1) -> None:
        """A full bucket; `ratio` is the part of a token that a call is worth which succeeds."""
        check_count("tokens", tokens)
        check_positive("ratio", ratio)
        self._full = tokens
        self._ratio = ratio
        self._tokens: float = tokens

    @property
    def open(self) -> bool:
        """Whether anything may be tried again now."""
        return self._tokens > self._full / 2

    def failed(self) -> None:
        """A try failed that might be worth another."""
        self._tokens = max(0.0, self._tokens - 1)

    def succeeded(self) -> None:
        """A call was answered."""
        self._tokens = min(self._full, self._tokens + self._ratio)

    def __repr__(self) -> str:
        return f"<RetryBudget {self._tokens:g} of {self._full} tokens>"


@dataclass(frozen=True, slots=True)
class Retry:
    """How a proxy's calls are tried again: `mq.proxy(Calculator, retry=amqproxy.Retry(attempts=5))`.

    Only what did not run is tried again, or what may have run if the method is idempotent. All tries of one call have
    its one deadline, and one message-id.
    """

    attempts: int = 3
    """How often a call is sent at most."""
    wait: float = 0.1
    """Seconds between the first try and the second at most; twice that before the third, and so on. How long it is in
    fact is drawn by lot, from 0 on. A worker that says when to come again (`retry_after`) is believed, up to a day."""
    max_wait: float = 5.0
    """Seconds that are waited at most."""
    budget: RetryBudget | None = None
    """Default: that of the connection, of 100 tokens."""

    def __post_init__(self) -> None:
        check_count("attempts", self.attempts)
        check_number("wait", self.wait)
        check_number("max_wait", self.max_wait)
        if self.budget is not None and not isinstance(self.budget, RetryBudget):
            raise TypeError(f"budget is an amqproxy.RetryBudget, not {self.budget!r}")

    @classmethod
    def of(cls, given: Any) -> Retry:
        """What an option means: a number of attempts, or all of it."""
        if isinstance(given, cls):
            return given
        if type(given) is not int:
            raise TypeError(f"retry is a number of attempts or an amqproxy.Retry, not {given!r}")
        if given < 1:
            raise ValueError(f"retry is 1 attempt or more, not {given}")
        return cls(attempts=given)
