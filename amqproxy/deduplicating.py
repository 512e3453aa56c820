"""Handlers whose calls are told apart from those that were answered already, or that run now."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from .codecs import Shape
from .deduplication import Deduplication, Store
from .errors import CallTimeout, RemoteError, exception_name, said
from .forgotten import retrieve
from .handler import Call, Handler, Refused, current, failure_of, interrupted, redelivered, refusal
from .memory import Memory
from .options import ServeOptions
from .shown import shown
from .wire import decode_failure, encode_failure

log = logging.getLogger("amqproxy.server")

STORE_SECONDS = 5.0
"""How long a shared store may take to answer."""
POLL_SECONDS = 0.05
"""How often a shared store is asked for the reply to a call that another worker runs."""
RENEWALS = 3
"""So often a claim is renewed within the time for which it holds."""

REPLY, FAILURE = b"+", b"-"

BEGUN = "begun:"
"""Ahead of the key of a call in a store: what is claimed by who begins one that is to run at most once."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Kept:
    """The result of a call in the one form in which it is kept."""

    body: bytes
    """The reply's."""
    value: Any = None
    """What the handler returned, where it ran just now."""
    ran: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call has come to."""

    kept: bytes
    value: Any = None
    error: BaseException | None = None
    ran: bool = False

    def result(self) -> Kept:
        """The result as it is kept; the RemoteError, if it is a failure."""
        if self.kept.startswith(FAILURE):
            failure = decode_failure(self.kept[1:])
            raise failure if failure.executed == "yes" else Refused(failure)  # what a handler raises is told as "yes"
        return Kept(self.kept[1:], self.value, self.ran)


class NotKept(Exception):
    """Raised in place of a result that the handler had no part in: a middleware's own."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value
        """The result."""


class Archive:
    """The outcomes of a worker's calls: those that it remembers, those that run, and those of its pool's store."""

    def __init__(self, given: Deduplication) -> None:
        self._given = given
        self._memory = Memory(entries=given.entries, seconds=given.seconds, max_bytes=given.max_bytes)
        self._running: dict[str, asyncio.Future[None]] = {}
        self._beside: set[asyncio.Future[None]] = set()

    async def outcome(
        self, key: str, run: Callable[[], Awaitable[Outcome]], *, patient: Callable[[], object], anew: bool = True
    ) -> Outcome | None:
        """The outcome of a call, which is run unless it is known, or about to be; None if it is to be run, not `anew`.

        `patient` raises when nobody waits any more. What `run` raises is no outcome: then the next one runs it.
        """
        loop = asyncio.get_running_loop()
        while (running := self._running.get(key)) is not None:
            await asyncio.wait((running,))
        if (kept := self._memory.get(key, loop.time())) is not None:
            return Outcome(kept)
        done = self._running[key] = loop.create_future()
        try:
            store = self._given.store
            if store is not None:
                outcome = await self._claimed(store, key, run, patient, anew)
            else:
                outcome = await run() if anew else None
                self._remember(key, outcome)
            return outcome
        finally:
            del self._running[key]
            done.set_result(None)

    def _remember(self, key: str, outcome: Outcome | None) -> None:
        """Keep at least the failure that says that a call ran, if its reply is too large to be kept."""
        if outcome is None:
            return
        now = asyncio.get_running_loop().time()
        self._memory.put(key, outcome.kept, now)
        if self._memory.get(key, now) is None:
            text = f"{_what()} ran before, and its reply was too large to be remembered"
            failure = RemoteError(text, code="aborted", type="Forgotten", executed="yes")
            self._memory.put(key, FAILURE + encode_failure(failure), now)

    async def _claimed(
        self,
        store: Store,
        key: str,
        run: Callable[[], Awaitable[Outcome]],
        patient: Callable[[], object],
        anew: bool,
    ) -> Outcome | None:
        owner = os.urandom(12).hex()
        elsewhere = False
        while not (found := await _ask(store.claim(key, owner, self._given.lease), elsewhere)):
            elsewhere = True
            patient()
            await asyncio.sleep(POLL_SECONDS)
        if found is not True:
            kept = Outcome(bytes(found))
            self._remember(key, kept)
            return kept
        renewing = asyncio.ensure_future(self._renew(store, key, owner))
        try:
            outcome = await run() if anew else None
        except BaseException:
            self._release(store, key, owner)
            raise
        finally:
            renewing.cancel()
        if outcome is None:
            self._release(store, key, owner)
        else:
            self._remember(key, outcome)
            await asyncio.shield(self._do_beside(self._keep(store, key, owner, outcome.kept)))
        return outcome

    async def begin(self, key: str, owner: str) -> bool:
        """Whether nobody began this call before, which is to run at most once: from now on it is begun.

        A claim ends when its worker does not renew it any more, which says nothing of how far the call was. This holds
        as long as a reply is kept.
        """
        store = self._given.store
        return store is None or await _ask(store.claim(BEGUN + key, owner, self._given.seconds)) is True

    def unbegin(self, key: str, owner: str) -> None:
        """It did not run, or may be run again."""
        if self._given.store is not None:
            self._release(self._given.store, BEGUN + key, owner)

    async def _renew(self, store: Store, key: str, owner: str) -> None:
        while True:
            await asyncio.sleep(self._given.lease / RENEWALS)
            try:
                async with asyncio.timeout(STORE_SECONDS):
                    await store.claim(key, owner, self._given.lease)
            except Exception as error:  # of whatever store
                text = "%s: its claim could not be renewed in the store of replies: %s"
                log.warning(text, _what(), _reason(error))

    async def _keep(self, store: Store, key: str, owner: str, reply: bytes) -> None:
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await store.keep(key, owner, reply, self._given.seconds)
        except Exception as error:  # of whatever store: the call has run, and its caller shall hear of it
            text = "%s: its reply could not be kept in the store, and another worker that gets it runs it again: %s"
            log.error(text, _what(), _reason(error))

    def _release(self, store: Store, key: str, owner: str) -> None:
        async def release() -> None:
            async with asyncio.timeout(STORE_SECONDS):
                await store.release(key, owner)

        self._do_beside(release()).add_done_callback(retrieve)  # if that fails, the claim ends with its time

    def _do_beside(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
        """Tell the store what is to be told though the task of the call is cancelled, or was."""
        doing = asyncio.ensure_future(coroutine)
        self._beside.add(doing)
        doing.add_done_callback(self._beside.discard)
        return doing


async def _ask(asked: Coroutine[Any, Any, Result], elsewhere: bool = False) -> Result:
    """What the store says; `elsewhere` tells that it said before that another worker runs the call."""
    try:
        async with asyncio.timeout(STORE_SECONDS):
            return await asked
    except Exception as error:  # of whatever store
        if elsewhere:
            text = f"{_what()} runs in another worker, and the store of replies, which would tell its reply,"
            log.error("%s cannot be asked any more: %s", text, _reason(error))
            failure = refusal(
                "unavailable", f"{text} does not answer any more", type="StoreUnavailable", retryable=True
            )
            failure.executed = "maybe"
            raise Refused(failure) from error
        log.error("%s was not run: the store of replies cannot be asked: %s", _what(), _reason(error))
        text = f"{_what()} was not run, for the store that tells whether it ran before does not answer"
        raise Refused(refusal("unavailable", text, type="StoreUnavailable", retryable=True)) from error


def _what() -> str:
    """The call that runs here."""
    call = current()
    return f"{call.service}.{call.method} (message-id {shown(call.message_id or 'none')})"


def _reason(error: Exception) -> str:
    return shown(f"{exception_name(type(error))}: {said(error)}".removesuffix(": "))


Through = Callable[[Any, Callable[[], Awaitable[Any]]], Awaitable[Any]]


def keeping(options: ServeOptions) -> Callable[[Handler, Through | None], Handler]:
    """What makes a handler of a worker keep its replies; given how requests go through the middleware around it."""
    archive = Archive(Deduplication.of(options.deduplicate))

    def around(handler: Handler, through: Through | None) -> Handler:
        inner = {field.name: getattr(handler, field.name) for field in fields(Handler)}
        return DeduplicatingHandler(
            **{**inner, "apart": True},
            _handler=handler,
            _archive=archive,
            _through=through,
            _alone=handler._result,  # type: ignore[arg-type]  # it answers once
            _debug=options.debug,
            _forgiving=options.requeue_once,
        )

    return around


@dataclass(frozen=True, slots=True)
class DeduplicatingHandler(Handler):
    """A handler that does not run a call again which has an outcome, but gives that."""

    deduplicates: ClassVar[bool] = True

    _handler: Handler
    _archive: Archive
    _through: Through | None
    """How a call that is answered from memory goes through the middleware, which may refuse it."""
    _alone: Shape
    """How a reply is written that shares no message with others."""
    _debug: bool
    _forgiving: bool
    """Whether a call that failed is given back, to be run once more: then its failure is no outcome."""

    def start(self, request: Any) -> Coroutine[Any, Any, Any]:
        """Run it, unless it ran before."""
        call = current()
        id = call.message_id
        if id is None or call.fingerprint is None:
            if call.redelivered and self.method.options.at_most_once:
                raise Refused(redelivered(self))
            return self._handler.start(request)
        return self._start_once(call, self._key(call, id, call.fingerprint), request)

    def _key(self, call: Call, id: str, fingerprint: bytes) -> str:
        user = (call.properties.user_id or b"").decode(errors="backslashreplace")  # which the broker has checked
        parts = call.service, self.method.name, self.reply_form.encoding.decode(), id, user
        digest = hashlib.blake2b(fingerprint, digest_size=16)
        for part in parts:
            digest.update(b"%d:" % len(part) + part.encode())
        return digest.hexdigest()

    async def _start_once(self, call: Call, key: str, request: Any) -> Any:
        once = self.method.options.at_most_once

        def patient() -> None:
            if call.is_over:
                text = f"{_what()} ran in another worker, whose reply was not there when the time of this one was over"
                raise Refused(RemoteError(text, code="deadline_exceeded", type="CallTimeout", executed="maybe"))

        def run() -> Awaitable[Outcome]:
            return self._run_at_most_once(key, call, request) if once else self._run(call, request)

        try:
            outcome = await self._archive.outcome(key, run, patient=patient, anew=not (once and call.redelivered))
        except NotKept as result:
            return result.value
        if call.cancelled:  # meanwhile, but it ran to its end
            raise asyncio.CancelledError
        if outcome is None:
            raise Refused(redelivered(self))
        if outcome.error is not None:
            raise outcome.error
        if outcome.ran or self._through is None:
            return outcome.result()
        return await self._let_through(self._through, call, request, outcome)

    async def _let_through(self, through: Through, call: Call, request: Any, outcome: Outcome) -> Any:
        """Have the middleware see a call that ran before. Refuse it it may, and not change what it came to."""

        async def known() -> Any:
            return self._alone.decode(outcome.result().body)

        try:
            value = await through(request, known)
        except Exception:
            if not call.reached:
                call.reached = True  # for it has run
                raise
            outcome.result()  # raises the failure that it came to
            raise
        return outcome.result() if call.reached else value

    async def _run_at_most_once(self, key: str, call: Call, request: Any) -> Outcome:
        """Run it now, unless a worker that shares the store began it, and was lost or cannot ask the store any more."""
        owner = os.urandom(12).hex()
        try:
            if not await self._archive.begin(key, owner):
                raise Refused(redelivered(self))
            return await self._run(call, request)
        except (Exception, asyncio.CancelledError):
            self._archive.unbegin(key, owner)  # which does nothing to who began it before
            raise

    async def _run(self, call: Call, request: Any) -> Outcome:
        """Run it now. What may go better the next time is raised, and no outcome.

        If it is cancelled, it goes on, for another try of the same call may come and want to know what it came to. That
        is so until its time is over. Interrupted then it is not run again, since nobody knows what it did.
        """
        if call.is_over:  # for it had to wait, for another like it or for the store
            text = f"{_what()} was not run: its time was over when it had waited for another like it, or for the store"
            raise Refused(refusal("deadline_exceeded", text, type="CallTimeout"))
        call.completes = True
        try:
            value = await self._handler.start(request)
            if not call.reached:
                raise NotKept(value)
            return Outcome(REPLY + self._handler.encode(value), value, ran=True)
        except NotKept:
            raise
        except Exception as error:
            if not call.reached or self._may_be_run_again(call, error):
                raise
            return Outcome(FAILURE + self._failure(error), error=error)
        except asyncio.CancelledError as error:  # its time is over, or the worker stops: then another one runs it
            if not call.reached or not (call.cancelled or self.method.options.at_most_once):
                raise
            return Outcome(FAILURE + encode_failure(interrupted(self)), error=error)

    def _may_be_run_again(self, call: Call, error: Exception) -> bool:
        if isinstance(error, RemoteError):
            return self._forgiving or error.retryable
        return self._forgiving or isinstance(error, Refused) or (isinstance(error, CallTimeout) and call.is_over)

    def _failure(self, error: Exception) -> bytes:
        failure = failure_of(error, debug=self._debug)
        try:
            return encode_failure(failure)
        except Exception:  # see Replies.failure
            failure.details = None
            return encode_failure(failure)

    def encode(self, result: Any) -> bytes:
        """The reply's body, as it was kept; or in another form, as a batch wants it."""
        if not isinstance(result, Kept):
            return Handler.encode(self, result)
        if self._result is self._alone:
            return result.body
        return Handler.encode(self, result.value if result.ran else self._alone.decode(result.body))
