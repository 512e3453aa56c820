"""How long to wait before the next try, and what to say meanwhile."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tenacity import RetryCallState


FIRST_SECONDS = 0.25
LONGEST_SECONDS = 15.0
STABLE_SECONDS = 5.0
"""What was made and ends sooner than this, again and again, is made again only after a while."""

Result = TypeVar("Result")


class Spell:
    """Counts what ends too soon, one after the other: a broker may end each link, or each channel, that we make."""

    def __init__(self) -> None:
        self.short = 0
        """How many of the last ones did not last."""

    def lasted(self, seconds: float) -> None:
        """One has ended after so many seconds."""
        self.short = 0 if seconds >= STABLE_SECONDS else self.short + 1

    @property
    def pause(self) -> float:
        """Seconds to wait before the next one: none after the first that was short, then more and more."""
        return jitter(self.short - 1) if self.short > 1 else 0.0


def jitter(doublings: int) -> float:
    """A random time up to `FIRST_SECONDS` doubled so many times: "full jitter", with which many do not come at once.

    See https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0, min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(doublings, 16)))  # noqa: S311  # no secret


async def persist(
    operation: Callable[[], Awaitable[Result]],
    may_mend: Callable[[BaseException], bool],
    failed: Callable[[BaseException, int, float], None],
) -> Result:
    """Try until it succeeds, or fails with what waiting does not mend; `failed` hears of each failure before a wait.

    It is given the error, how many tries there were, and the seconds until the next one.
    """
    from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential  # which only a connection needs

    def report(state: RetryCallState) -> None:
        assert state.outcome is not None and state.next_action is not None
        error = state.outcome.exception()
        assert error is not None
        failed(error, state.attempt_number, state.next_action.sleep)

    attempts = AsyncRetrying(
        wait=wait_random_exponential(multiplier=FIRST_SECONDS, max=LONGEST_SECONDS),
        retry=retry_if_exception(may_mend),
        before_sleep=report,
        reraise=True,
    )

    async def attempt() -> Result:  # tenacity awaits what it can see to be a coroutine function
        return await operation()

    return await attempts(attempt)
