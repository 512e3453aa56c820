"""The connection of a client: a link to the broker that is made again, with back-off, whenever it breaks."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from copy import copy
from typing import TypeVar

from .backoff import LONGEST_SECONDS, Spell, jitter, persist
from .dial import dial
from .errors import AccessRefused, AMQProxyError, BrokerUnavailable, Closed, ConnectionLost
from .link import Limits, Link
from .options import ConnectOptions
from .reasons import START_ONE
from .signed import Signatures
from .states import States
from .tls import is_untrusted, warn_if_unverified
from .url import BrokerURL

log = logging.getLogger("amqproxy.connection")

REFUSALS_BORNE = 5
"""So often may a broker refuse one whom it had let in, until that is believed: a few seconds, by the back-off."""

Result = TypeVar("Result")


class Connection:
    """A link that is made again whenever it breaks, until it is closed."""

    def __init__(self, url: BrokerURL, options: ConnectOptions, states: States | None = None) -> None:
        self.url = url
        self.options = options
        self.limits = Limits(options.max_body_bytes)
        warn_if_unverified(options.ssl_context, url)
        self._signatures = None if options.signing is None else Signatures(options.signing)
        self.loop = asyncio.get_running_loop()
        self.states = states or States(time.time)
        """What it is doing, for whoever wants to know."""
        self._link: Link | None = None
        self._decided = asyncio.Event()
        self._given_up = asyncio.Event()
        self._burials: set[asyncio.Task[None]] = set()
        self._failure: AMQProxyError | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect; BrokerUnavailable or AccessRefused if that fails.

        If it is to wait for a broker: AccessRefused, or BrokerUnavailable where its certificate cannot be trusted.
        """
        self.states.change("connecting")
        try:
            link = await (self._connect_at_last() if self.options.wait else self._connect(self.url.hosts))
        except BaseException as error:
            self.states.change("new", reason=str(error) or None)
            raise
        self._use(link)
        _watch(self)
        self._keeper = self.loop.create_task(self._keep(), name="amqproxy connection")

    @property
    def current_link(self) -> Link | None:
        """The link if there is one now."""
        return self._link

    async def link(self) -> Link:
        """The link, waited for while it is being made again; AccessRefused or Closed when it will not be."""
        while self._link is None and self._failure is None:
            self.check_loop()
            await self._decided.wait()
        if self._link is None:
            assert self._failure is not None
            raise copy(self._failure)  # which each who is told adds a traceback to
        self.check_loop()
        return self._link

    def check_loop(self) -> None:
        """Closed in an event loop to which this connection does not belong."""
        if asyncio.get_running_loop() is not self.loop:
            raise Closed(
                "the connection belongs to another event loop, and perhaps to another thread: make one in each, by "
                "`async with amqproxy.connect()`; for threads there is amqproxy.sync"
            )

    def disown(self) -> None:
        """This process was forked from the one whose connection it is."""
        link, self._link = self._link, None
        self._failure = Closed(
            "the connection belongs to the process from which this one was forked: connect in this one, too"
        )
        self.states.end(str(self._failure))
        if link is not None:
            link.disown()

    async def close(self) -> None:
        """Close the link for good; within a few seconds, whatever the broker does."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait((keeper,))
        link, self._link = self._link, None
        self._give_up(Closed(f"the connection was closed by this program ({self.url})"))
        if link is not None:
            await link.close()

    def _use(self, link: Link) -> None:
        self._link = link
        self._decided.set()
        link.watch(lambda reason: self._blocked(link, reason))
        self._blocked(link, link.blocked)

    def _give_up(self, failure: AMQProxyError) -> None:
        self._failure = failure
        self._given_up.set()
        self._decided.set()
        self.states.change("closed", reason=str(failure))

    def _blocked(self, link: Link, reason: str | None) -> None:
        """The broker takes no messages, for this reason; or it does (again)."""
        address = link.url.address
        if reason is not None:
            log.warning("%s takes no messages for now (%s): what is to be sent waits", address, reason)
            self.states.change("blocked", host=address, reason=reason)
            return
        if self.states.current.name == "blocked":
            log.info("%s takes messages again", address)
        self.states.change("open", host=address)

    async def _keep(self) -> None:
        spell = Spell()
        try:
            while (link := self._link) is not None:
                began = self.loop.time()
                await asyncio.shield(link.closed)
                self._bury(link)
                lost = self.loop.time()
                spell.lasted(lost - began)
                log.warning("lost the connection to %s, connecting again: %s", link.url.address, link.loss)
                self._link = None
                self._decided.clear()
                self.states.change("reconnecting", host=link.url.address, reason=link.loss)
                await asyncio.sleep(jitter(spell.short))  # many may have lost it at the same moment
                self._use(again := await self._connect_at_last(refusals=REFUSALS_BORNE))
                log.info("connected to %s again, after %.1f s", again.url.address, self.loop.time() - lost)
        except AccessRefused as error:
            log.error("the connection is given up, and all that use it fail: %s", error)
            self._give_up(error)
        except Exception as error:  # a flaw of ours: those who wait for a link are to know that none will come
            log.exception("the connection to %s is given up", self.url.address)
            self._give_up(BrokerUnavailable(f"the connection to {self.url.address} was given up: {error!r}"))

    async def _connect_at_last(self, *, refusals: int = 0) -> Link:
        """A link, however long it takes a broker to be there; AccessRefused if it has refused us more often than that.

        Who was let in before may be let in again soon: a node that comes back, or whose directory of users does not
        answer, refuses everybody meanwhile. A certificate that is refused is told at once as well of a broker that we
        were never connected to, and waited for with one that we were: it is about to get another.
        """
        known = refusals > 0

        def may_mend(error: BaseException) -> bool:
            nonlocal refusals
            if not isinstance(error, AccessRefused):
                return isinstance(error, BrokerUnavailable) and (known or not is_untrusted(error))
            refusals -= 1
            return refusals >= 0

        def failed(error: BaseException, attempt: int, pause: float) -> None:
            reason = str(error).removesuffix(START_ONE)  # who has a broker that is down does not want another
            log.warning("%s; attempt %d, the next in %.1f s", reason, attempt, pause)
            current = self.states.current
            self.states.change(current.name, host=current.host, attempt=attempt, reason=reason)

        return await persist(self._connect_anywhere, may_mend, failed)

    async def _connect_anywhere(self) -> Link:
        """A link to any of the hosts: those that lost the same one are to find different others."""
        hosts = self.url.hosts
        start = random.randrange(len(hosts))  # noqa: S311  # no secret
        return await self._connect(hosts[start:] + hosts[:start])

    async def persist(self, operation: Callable[[], Awaitable[Result]], what: str) -> Result:
        """Try an operation until it succeeds, with back-off, as long as there is hope for a link."""

        def failed(error: BaseException, attempt: int, pause: float) -> None:
            log.error("%s failed: %s; next try in %.1f s", what, error, pause)

        return await persist(operation, self._may_mend, failed)

    async def pause(self, seconds: float) -> None:
        """Return after so many seconds, or as soon as it is known that there will be no link any more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._given_up.wait()

    async def on_link(self, operation: Callable[[Link], Awaitable[Result]], what: str) -> Result:
        """What the operation returns on the first link that outlasts it."""
        tries = 0
        while True:
            link = await self.link()
            try:
                return await operation(link)
            except ConnectionLost as error:
                pause = min(LONGEST_SECONDS, 2.0**tries)
                done, _ = await asyncio.wait((link.closed,), timeout=pause)  # then there is another link to wait for
                tries = 0 if done else tries + 1
                if not done:
                    log.warning("%s failed: %s; trying again after %g s", what, error, pause)

    def _bury(self, link: Link) -> None:
        """Let aio-pika know that the connection is over, in the background: it would find out when it is collected."""
        burial = self.loop.create_task(link.close())
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)

    def _may_mend(self, error: BaseException) -> bool:
        """Whether waiting may help: not if there will be no link, nor with a permission that is refused."""
        mendable = isinstance(error, AMQProxyError) and not isinstance(error, AccessRefused)
        return mendable and self._failure is None

    async def _connect(self, hosts: tuple[BrokerURL, ...]) -> Link:
        """A link to the first of these hosts that takes us, within the connect timeout, of which each has its share."""
        end = self.loop.time() + self.options.connect_timeout
        failures: list[BrokerUnavailable] = []
        for number, url in enumerate(hosts):
            share = max(0.0, end - self.loop.time()) / (len(hosts) - number)
            try:
                amqp, protocol = await dial(url, self.options, share)
            except BrokerUnavailable as error:
                failures.append(error)
            else:
                return Link(amqp, protocol, url, self.limits, self._signatures)
        if len(failures) == 1:
            raise failures[0]
        told = "; ".join(str(failure).removesuffix(START_ONE) for failure in failures)
        worst = next(filter(is_untrusted, failures), failures[-1])
        raise BrokerUnavailable(f"none of {len(hosts)} hosts takes a connection: {told}") from worst


_open: weakref.WeakSet[Connection] = weakref.WeakSet()
"""Those that a process which is forked now would inherit."""
_watching = False


def _watch(connection: Connection) -> None:
    global _watching
    if not _watching and hasattr(os, "register_at_fork"):
        _watching = True
        os.register_at_fork(after_in_child=_disown_all)
    _open.add(connection)


def _disown_all() -> None:
    for connection in list(_open):
        connection.disown()
    _open.clear()
