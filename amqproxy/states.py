"""What a connection is doing now, and those who want to be told when that changes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

log = logging.getLogger("amqproxy.connection")

StateName = Literal["new", "connecting", "open", "blocked", "reconnecting", "closed"]


@dataclass(frozen=True, slots=True)
class State:
    """What a connection is doing since a moment."""

    name: StateName
    """"new" until it is opened, "connecting" until it is there for the first time, "open" while it can be used,
    "blocked" while the broker is short of memory or disk and takes no messages, "reconnecting" after a loss, "closed"
    when it was closed, or will not be made again."""
    since: float
    """The moment at which this began, in seconds as `time.time()` counts them."""
    host: str | None = None
    """Host and port that it is connected to, or that were tried last; None if there is none yet."""
    attempt: int = 0
    """How many times all hosts were tried without success; 0 while it is open."""
    reason: str | None = None
    """The broker's reason for blocking, or why there is no connection."""

    def __str__(self) -> str:
        where = f" {self.host}" if self.host else ""
        tried = f" after {self.attempt} attempt{'s' * (self.attempt > 1)}" if self.attempt else ""
        return f"{self.name}{where}{tried}" + (f": {self.reason}" if self.reason else "")


Watcher = Callable[[State], object]


class States:
    """The state of one connection, from its beginning to its end."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._watchers: list[Watcher] = []
        self.current = State("new", clock())

    def change(self, name: StateName, *, host: str | None = None, attempt: int = 0, reason: str | None = None) -> None:
        """It does something else now; what is closed stays so."""
        if self.current.name == "closed":
            return
        since = self.current.since if name == self.current.name else self._clock()
        self.current = state = State(name, since, host, attempt, reason)
        for watcher in list(self._watchers):
            self._tell(watcher, state)

    def end(self, reason: str) -> None:
        """It is closed, and nobody is told: this process was forked, and may have no more than a memory of them."""
        self._watchers.clear()
        self.change("closed", reason=reason)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Let `watcher` be told of each change from now on; what is returned ends that."""

        def told(state: State) -> object:  # each time another one, though the watcher may be the same
            return watcher(state)

        self._watchers.append(told)

        def remove() -> None:
            if told in self._watchers:
                self._watchers.remove(told)

        return remove

    def _tell(self, watcher: Watcher, state: State) -> None:
        """What a watcher raises is no matter of the connection's."""
        try:
            watcher(state)
        except Exception:
            log.exception("a callback of on_state failed when the connection was %s", state)
