"""The methods of a proxy that may send a call more than once: again when it failed, or besides when it is slow."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .conversation import Conversation, Plan, Tries
from .deadline import Deadline
from .errors import (
    AccessRefused,
    AMQProxyError,
    CallError,
    ConnectionLost,
    Overloaded,
    RemoteError,
    Unroutable,
    WorkerLost,
    doubted,
)
from .forgotten import retrieve
from .options import CallOptions
from .payload import Payload
from .remote import RETRY_SECONDS, ConfirmedMethod, RemoteMethod, Target
from .retry import Retry
from .scope import Collector, Scope, scope
from .wire import FAILURE_CONTENT_TYPE

if TYPE_CHECKING:
    from tenacity import RetryCallState

ONCE = Retry(attempts=1)

LONGEST_RETRY_AFTER = 24 * 3600.0
"""Seconds after which a worker may want to be asked again, at most: one that says more is taken to say this."""


class CallTarget(Target):
    """What a proxy stands for whose calls may be sent more than once."""

    __slots__ = ()

    def kind(self, options: CallOptions) -> type[RemoteMethod]:
        """The class of its methods that answer once."""
        if options.retry is None and (options.hedge is None or not options.idempotent):
            return super().kind(options)
        return ConfirmedRepeatingMethod if self._confirmed(options) else RepeatingMethod

    def checked(self) -> Target:
        """This, if its options are right."""
        super().checked()
        options, contract = self.options(), self.contract
        methods = () if contract is None else contract.methods.values()
        if options.hedge is not None and not (options.idempotent or any(m.options.idempotent for m in methods)):
            raise ValueError(
                "hedge is for methods that may run twice: give idempotent=True, or decorate those with "
                "@amqproxy.method(idempotent=True)"
            )
        return self


@dataclass(slots=True)
class Repeated:
    """One call, however often it is sent."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    deadline: float
    body: bytes | None = None
    tries: Tries = field(default_factory=Tries)
    doubt: CallError | None = None
    """The last error of a try that may have run."""
    ended: str = ""
    """Why there are no more."""

    def failed(self, error: CallError, doubt: str) -> None:
        """A try failed; what its error says of whether the call ran becomes what is so of all tries up to this one."""
        if error.executed != "no":
            self.doubt = error
        elif self.doubt is not None:
            doubted(error, doubt)


class RepeatingMethod(RemoteMethod):
    """A method of a proxy whose calls are tried again when they fail, and sent twice when they are slow.

    Which of that they are is said by its options; limits and signs of life are seen to here as well.
    """

    repeats = True

    def __init__(self, target: Target, name: str, content_type: str, options: CallOptions, payload: Payload) -> None:
        super().__init__(target, name, content_type, options, payload)
        self._retry = ONCE if options.retry is None else Retry.of(options.retry)
        self._budget = self._retry.budget or target.caller.retry_budget
        self._hedge = options.hedge if options.idempotent else None

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the worker, as often as it takes and is allowed."""
        within = scope.get()
        deadline = self.inherited(self.caller.connection.loop.time() + self.timeout, within)
        call = Repeated(args, kwargs, deadline)
        collector = None if within is None else self._collector(within)
        try:
            value = await self._try(call, collector)
        except CallError as error:
            if self.options.retry is None or not self._is_worth_another(error):
                raise
            return await self._try_again(call, error)
        self._budget.succeeded()
        return value

    def _collector(self, within: Scope) -> Collector | None:
        """Who sends the first try together with other calls; what is hedged has to be alone, to be given up alone."""
        return None if self._hedge is not None else super()._collector(within)

    def _is_worth_another(self, error: BaseException | None) -> bool:
        """Whether the same call may be answered when it is sent again, and does no harm if it is."""
        if isinstance(error, RemoteError):
            passing = error.retryable
        else:
            passing = isinstance(error, (ConnectionLost, Overloaded, Unroutable, WorkerLost))
        harmless = isinstance(error, CallError) and (
            error.executed == "no" or (error.executed == "maybe" and self.options.idempotent)
        )
        return passing and harmless

    # Trying again

    async def _try_again(self, call: Repeated, failed: CallError) -> Any:
        """What further tries of a call come to whose first one failed."""
        from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential

        lots = wait_random_exponential(multiplier=self._retry.wait, max=self._retry.max_wait)
        tries = AsyncRetrying(
            wait=lambda state: max(lots(state), _retry_after(_error(state))),
            stop=functools.partial(self._ends, call),
            retry=retry_if_exception(self._is_worth_another),
            sleep=self.caller.connection.pause,
            reraise=True,
        )
        began = self.caller.connection.loop.time()
        attempts = 0
        try:
            async for attempt in tries:
                attempts = attempt.retry_state.attempt_number
                with attempt:
                    if attempts == 1:
                        raise failed  # which it did before it came here
                    value = await self._try(call)
                    self._budget.succeeded()
                    return value
        except CallError as error:
            seconds = self.caller.connection.loop.time() - began
            error.add_note(f"it was tried {attempts} times in {seconds:.1f} s{call.ended}")
            raise
        except AMQProxyError:  # there will be no other link
            if call.doubt is not None:
                raise call.doubt from None
            raise
        raise AssertionError("tries end with a value or an error")

    def _ends(self, call: Repeated, state: RetryCallState) -> bool:
        """Whether there is no other try behind the one that failed."""
        if state.attempt_number >= self._retry.attempts:
            call.ended = ", as often as its option retry says"
        elif self.caller.connection.loop.time() + state.upcoming_sleep >= call.deadline:
            call.ended = ", and no time was left for another"
        elif not self._budget.open and not isinstance(_error(state), ConnectionLost):
            call.ended = ", and not again, for too many calls fail (the retry budget is used up)"
        return bool(call.ended)

    async def _try(self, call: Repeated, collector: Collector | None = None) -> Any:
        """One try."""
        try:
            self.claim()
            try:
                return await self._sent(call, collector)
            finally:
                self.release()
        except CallError as error:
            call.failed(error, self.doubt)
            raise

    def _spend(self, error: CallError) -> None:
        """Take what a request costs the budget that failed so: of a lost link, by which all fail at once, nothing."""
        if self._is_worth_another(error) and not isinstance(error, ConnectionLost):
            self._budget.failed()

    # Sending

    async def _sent(self, call: Repeated, collector: Collector | None) -> Any:
        """The answer to a try. The first may share a message with other calls: later ones travel alone."""
        if collector is None:
            if self._hedge is None:
                return await self._send(call)
            sending = self._send_twice if self.options.retry is not None else self._send_until_one_holds
            return await sending(call, self._hedge)
        try:
            return await collector.call(self, call.args, call.kwargs)
        except CallError as error:
            self._spend(error)
            raise

    async def _send_twice(self, call: Repeated, seconds: float) -> Any:
        """The first answer to a request, or to a second one that is sent when the first takes so many seconds.

        One that did not run, or is worth another, leaves the other: that may be answered, and else it has the last
        word on whether the call ran.
        """
        out = {asyncio.ensure_future(self._send(call))}
        failed: list[BaseException] = []
        try:
            done, _ = await asyncio.wait(out, timeout=seconds)
            if not done and self._budget.open:
                out.add(asyncio.ensure_future(self._send(call)))
            while out:
                done, out = await asyncio.wait(out, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    if one.exception() is None:
                        return one.result()
                failed += [error for one in done if (error := one.exception()) is not None]
                if any(_doubt(error) and not self._is_worth_another(error) for error in failed):
                    break
            raise max(failed, key=lambda error: (_doubt(error), not self._is_worth_another(error)))
        finally:
            for one in out:
                one.cancel()
                one.add_done_callback(retrieve)

    async def _send_until_one_holds(self, call: Repeated, seconds: float) -> Any:
        """The same, again for each link or worker that was lost: so do idempotent methods that are not hedged."""
        while True:
            try:
                return await self._send_twice(call, seconds)
            except (ConnectionLost, WorkerLost) as error:
                call.failed(error, self.doubt)
            except CallError:
                raise
            except AMQProxyError as error:  # there will be no other link
                raise call.doubt or error from None
            await asyncio.sleep(RETRY_SECONDS)

    async def _send(self, call: Repeated) -> Any:
        """The answer to a request."""
        try:
            if call.body is None:
                call.body = self.payload.encode(call.args, call.kwargs)
            if len(call.body) > self.limits.body_bytes:  # which may be known since the try before
                raise self.too_large(call.body)
            within = scope.get()
            if self.options.heartbeat is not None or (within is not None and within.watcher is not None):
                return await self._converse(call, call.body)
            return await self._ask(call, call.body)
        except CallError as error:
            self._spend(error)
            raise

    async def _ask(self, call: Repeated, body: bytes) -> Any:
        line = self.line
        if line is None or not line.ready:
            line, form = await self.prepare(call.deadline)
        else:
            form = self._form.within(Deadline(call.deadline).left(self.caller.connection.loop.time()))
        tries = call.tries
        id, answer = line.send(self.destination, form, body, call.deadline, tries.message_id)
        tries.message_id = tries.message_id or line.unique + id
        try:
            reply = await answer
        except BaseException as error:
            line.calls.cancelled(id)
            self.abandon(error, line, id)
            raise await self.explain(error) from None
        if reply[0] == FAILURE_CONTENT_TYPE:
            raise self.failure(reply[2])
        return self.decode(reply)

    async def _converse(self, call: Repeated, body: bytes) -> Any:
        """The same with a worker that gives signs of life."""
        conversation = Conversation(
            *(self, Plan(heartbeat=self.options.heartbeat), body),
            limit=call.deadline,
            tries=call.tries,
            counted=True,
        )
        return await conversation.result()


class ConfirmedRepeatingMethod(RepeatingMethod, ConfirmedMethod):
    """The same where a full queue may refuse requests, which fails that try at once."""


def _error(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()


def _doubt(error: BaseException) -> int:
    """How far it is from certain that a request did not run which ended so: 0 if it did not."""
    if isinstance(error, (CallError, AccessRefused)):
        return ("no", "maybe", "yes").index(error.executed)
    return 0 if isinstance(error, AMQProxyError) else 1


def _retry_after(error: BaseException | None) -> float:
    """Seconds after which a worker wants to be asked again, if it says so: `details={"retry_after": 2.5}`."""
    details = error.details if isinstance(error, RemoteError) else None
    after = details.get("retry_after") if isinstance(details, Mapping) else None
    if isinstance(after, bool) or not isinstance(after, (int, float)) or not 0 <= after < math.inf:
        return 0.0
    return float(min(after, LONGEST_RETRY_AFTER))
