"""The one-way view of a service: its methods return when the broker has the message, and nobody answers.

A sender is a proxy whose lines are publishers: arguments are bound, checked, encoded and compressed as for a call, and
a message whose link broke is sent again by the same rule.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from .answer import Reply
from .caller import Caller
from .errors import CallTimeout, Overloaded, Unroutable
from .line import Expired, Line, Refused, Returned
from .options import CallOptions, SendOptions
from .payload import Payload
from .proxy import TARGET, Proxy, named
from .publisher import LONGEST_CONFIRM_SECONDS, Publishers
from .remote import LimitedMethod, RemoteMethod, Target
from .topology import delay_queue, rounded_delay
from .wire import OneWayForm, RequestForm, pool_exchange


class Sending(Protocol):
    """A connection that senders can send through."""

    @property
    def caller(self) -> Caller:
        """Its calling half; Closed if it is not open."""

    @property
    def publishers(self) -> Publishers:
        """Its sending half; Closed if it is not open."""


@dataclass(frozen=True, slots=True)
class SenderTarget(Target):
    """What a sender stands for."""

    publishers: Publishers = field(kw_only=True)
    everyone: bool = field(kw_only=True)

    view: ClassVar[str] = "sender"
    streams: ClassVar[bool] = False
    defaults: ClassVar[CallOptions] = SendOptions()
    of_methods: ClassVar[tuple[str, ...]] = ("idempotent",)  # a method's timeout is for running it

    def kind(self, options: CallOptions) -> type[RemoteMethod]:
        """The class of its methods."""
        assert isinstance(options, SendOptions)
        kind = EventMethod if self.everyone else DelayedMethod if options.delay else SendingMethod
        return kind if options.max_in_flight is None else LIMITED[kind]

    def checked(self) -> Target:
        """This, if its options are right."""
        Target.checked(self)
        if self.everyone and self.overrides.get("delay"):
            raise ValueError("a message to everyone cannot have a delay: it is for those who listen when it is sent")
        delay, signing = self.overrides.get("delay", 0), self.caller.connection.options.signing
        if signing is not None and delay >= signing.window:
            raise ValueError(
                f"no worker would take a message after a delay of {delay:g} s, for the window of its signature is "
                f"{signing.window:g} s; give all a longer one (amqproxy.Signing)"
            )
        return self


class Sender(Proxy):
    """Stands for a service that is not waited for: `await sender.add(1, 2)` returns when the broker has the message.

    `Sender(mq, Calculator)` is `mq.sender(Calculator)`. `amqproxy.options(sender, …)` gives one with other options.
    """

    def __init__(
        self, mq: Sending, service: Any, /, *, name: str | None = None, everyone: bool = False, **options: Any
    ) -> None:
        if not isinstance(everyone, bool):
            raise TypeError(f"everyone is True or False, not {everyone!r}")
        known, contract = named(service, name)
        target = SenderTarget(mq.caller, known, contract, options, publishers=mq.publishers, everyone=everyone)
        self.__dict__[TARGET] = target.checked()


class SendingMethod(RemoteMethod):
    """One method of a sender; calling it sends a message to whichever worker takes it, and returns None."""

    options: SendOptions
    answers: ClassVar[bool] = False
    doubt = "the broker may have it"

    def __init__(
        self, target: SenderTarget, name: str, content_type: str, options: SendOptions, payload: Payload
    ) -> None:
        super().__init__(target, name, content_type, options, payload)
        self._publishers = target.publishers
        self._persistent = not target.everyone

    async def _open(self, deadline: float) -> Line:
        return await self._publishers.line(self._exchange, deadline)

    def _request_form(self, line: Line) -> RequestForm:
        return OneWayForm(
            content_type=self.content_type,
            encoding=self.payload.encoding,
            id_length=line.id_length,
            message_id_length=line.message_id_length,
            persistent=self._persistent,
            expires=self.options.expires,
            priority=self.options.priority,
            headers=self.headers,
        )

    def abandon(self, error: BaseException, line: Line, id: bytes) -> None:
        """A message that was sent is not taken back."""

    def decode(self, reply: Reply) -> None:
        """Nothing comes back."""

    async def explain(self, error: BaseException) -> BaseException:
        """What the sender is told of an error on the way."""
        address = self.caller.connection.url.address
        match error:
            case Refused():
                where = f"the queue {self.routing_key!r}"
                if self._exchange:
                    where = f"a queue behind the exchange {self._exchange!r}"
                return Overloaded(
                    f"{self.__qualname__}: {address} refused the message: {where} is full (x-overflow), or broken",
                    executed="maybe" if self._exchange else "no",  # another queue may have taken it
                )
            case Expired():
                return CallTimeout(
                    f"{self.__qualname__}: {address} did not confirm the message within {self.timeout:g} s; "
                    f"it was sent, and {self.doubt}"
                )
        return await super().explain(error)


class DelayedMethod(SendingMethod):
    """A method of a sender whose messages wait in a delay queue of the broker's before they go to the service's."""

    def __init__(
        self, target: SenderTarget, name: str, content_type: str, options: SendOptions, payload: Payload
    ) -> None:
        super().__init__(target, name, content_type, options, payload)
        self._delays = target.publishers.delays
        self._queue = delay_queue(rounded_delay(options.delay), self._exchange, self.routing_key)
        self._exchange, self.routing_key = "", self._queue.name
        self.timeout = min(self.timeout, LONGEST_CONFIRM_SECONDS)

    async def __call__(self, /, *args: Any, **kwargs: Any) -> None:
        """Send the message."""
        if not self._delays.ready(self._queue.name):
            self.line = None  # it is to be prepared, and the queue with it
        await super().__call__(*args, **kwargs)

    async def _open(self, deadline: float) -> Line:
        await self._delays.declare(self._queue, deadline)
        return await super()._open(deadline)

    async def _recover(self, error: BaseException, line: Line, id: bytes, body: bytes, deadline: float) -> Reply:
        if not isinstance(error, Returned):
            return await super()._recover(error, line, id, body, deadline)
        self._delays.forget(self._queue.name)  # somebody deleted it: once more, and no more than that
        line, form = await self.prepare(deadline)
        id, answer = line.send(self.destination, form, body, deadline)  # as a new one: nobody saw the first
        try:
            return await answer
        except BaseException as again:
            line.calls.cancelled(id)
            return await super()._recover(again, line, id, body, deadline)


class EventMethod(SendingMethod):
    """A method of a sender to everyone: each worker that listens gets the message, and it is well if nobody does."""

    def __init__(
        self, target: SenderTarget, name: str, content_type: str, options: SendOptions, payload: Payload
    ) -> None:
        super().__init__(target, name, content_type, options, payload)
        self._exchange = options.exchange or pool_exchange(target.queue)
        self.routing_key = options.routing_key or ""

    async def __call__(self, /, *args: Any, **kwargs: Any) -> None:
        """Send the message."""
        with contextlib.suppress(Unroutable):
            await super().__call__(*args, **kwargs)


class LimitedSendingMethod(LimitedMethod, SendingMethod):
    """The same with a bound for messages that are not confirmed."""


class LimitedDelayedMethod(LimitedMethod, DelayedMethod):
    """The same with a bound for messages that are not confirmed."""


class LimitedEventMethod(LimitedMethod, EventMethod):
    """The same with a bound for messages that are not confirmed."""


LIMITED: Mapping[type[SendingMethod], type[SendingMethod]] = {
    SendingMethod: LimitedSendingMethod,
    DelayedMethod: LimitedDelayedMethod,
    EventMethod: LimitedEventMethod,
}
