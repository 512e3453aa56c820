"""The broker: users, virtual hosts, connections, and what they share."""

from __future__ import annotations

import time
from collections.abc import Callable

from .access import Permissions, User, hash_password
from .direct import DirectReply
from .errors import ProtocolError
from .limits import Counter, Limits, Memory
from .session import Session, Socket
from .timers import Timers
from .vhost import VirtualHost

EVERYTHING = ".*"


class Broker:
    """An AMQP 0-9-1 broker without a network: `Server` gives it one.

    It knows the user guest with the password guest, and the virtual host /. All that it holds is in memory.
    """

    def __init__(self, limits: Limits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or Limits()
        self.clock = clock
        self.timers = Timers()
        self.memory = Memory(
            self.limits.memory_bytes,
            self._memory_alarm,
            unfinished_limit=max(self.limits.memory_bytes, self.limits.max_message_bytes),
        )
        self.users: dict[str, User] = {}
        self.vhosts: dict[str, VirtualHost] = {}
        self.sessions: set[Session] = set()
        self.replies: dict[str, DirectReply] = {}
        """Consumers of direct replies, by what stands in reply-to."""
        self.unflushed: list[Session] = []
        """Connections with something to write at the end of this turn."""
        self.blocked: str | None = None
        """Why connections that publish are not listened to; None while they are."""
        self._blocked_by_user: str | None = None
        self.served = False
        """Whether a `Server` has it."""
        self._counter = Counter(self.limits)
        self.add_vhost("/")
        self.add_user("guest", "guest", tags=("administrator",))
        self.set_permissions("guest", "/")

    def connection(self, socket: Socket, peer: str = "") -> Session:
        """A new connection, to be given what `socket` receives."""
        return Session(self, socket, peer)

    def add_vhost(self, name: str) -> VirtualHost:
        """Make a virtual host, unless it is there."""
        if name not in self.vhosts:
            self.vhosts[name] = VirtualHost(
                name, memory=self.memory, timers=self.timers, clock=self.clock, counter=self._counter
            )
        return self.vhosts[name]

    def add_user(self, name: str, password: str, *, tags: tuple[str, ...] = ()) -> User:
        """Make a user, or give one another password; without permissions, it may not connect to any virtual host."""
        user = self.users.get(name)
        if user is None:
            user = self.users[name] = User(name, hash_password(password), tags=tags)
        else:
            user.password_hash, user.tags = hash_password(password), tags
        return user

    def set_permissions(
        self,
        user: str,
        vhost: str = "/",
        configure: str = EVERYTHING,
        write: str = EVERYTHING,
        read: str = EVERYTHING,
    ) -> None:
        """Say on which names a user may do what: three regular expressions. KeyError without that user or host."""
        if vhost not in self.vhosts:
            raise KeyError(f"there is no virtual host {vhost!r}")
        if user not in self.users:
            raise KeyError(f"there is no user {user!r}")
        self.users[user].permissions[vhost] = Permissions(configure, write, read)
        self._counter.topology += 1

    def block(self, reason: str = "low on memory") -> None:
        """Listen no more to connections that publish, and tell those that want to know, until `unblock`.

        The reason is cut to the 255 bytes that a client can be told.
        """
        self._blocked_by_user = reason.encode()[:255].decode(errors="ignore")
        self._update_blocked()

    def unblock(self) -> None:
        """Listen to all connections again, unless memory is short indeed."""
        self._blocked_by_user = None
        self._update_blocked()

    def _update_blocked(self) -> None:
        self.blocked = self._blocked_by_user or ("low on memory" if self.memory.alarm else None)
        if self.blocked is not None:
            return
        for session in list(self.sessions):
            session.unblock()
        self.flush()

    def _memory_alarm(self, raised: bool) -> None:
        if raised:
            self._update_blocked()
        else:
            # Not at once: whoever frees memory is in the middle of something.
            self.timers.at(self.clock(), self._update_blocked)

    def flush(self) -> None:
        """Write what all connections have to write."""
        unflushed = self.unflushed
        while unflushed:
            unflushed.pop().flush()

    def run_timers(self) -> float | None:
        """Do all that is due, and return when something will be again."""
        self.timers.run(self.clock())
        for vhost in self.vhosts.values():
            vhost.bury()
        self.flush()
        return self.timers.next_due

    def close(self, reason: str = "broker forced connection closure with reason 'shutdown'") -> None:
        """Tell all clients that the broker ends, and close their connections."""
        for session in list(self.sessions):
            session.fail(ProtocolError(320, reason))
            session.close()
