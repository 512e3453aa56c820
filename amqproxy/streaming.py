"""A call in the worker that has a stream as its result, or as a parameter, while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from .blob import Blob
from .codecs import Mismatch
from .codecs.items import Chunks, Items
from .errors import EncodingFailed, MessageTooLarge, RemoteError, said
from .fed import FedInlet, FedItems
from .fields import FieldTable, Malformed
from .flow import Outflow
from .handler import Call, Handler, Refused, refusal
from .properties import Properties
from .replies import Replies
from .stream import Outlet, close
from .wire import (
    ALIVE_CLASS,
    BATCH_HEADER,
    CHUNK_FORM,
    CREDIT_CLASS,
    CREDIT_HEADER,
    FEED_HEADER,
    TRANSIENT,
    ItemForm,
    credit_of,
    is_true,
    part_of,
    whole_number,
)

QUIET_SECONDS = 0.5
"""A stream that has sent nothing for so long gives a sign of life, which comes back if the caller is gone."""
SETTLE_SECONDS = 600.0
"""A request whose stream goes on for so long is acknowledged while it runs: RabbitMQ closes the channel of a worker
that keeps it for half an hour (consumer_timeout). The prefetch does not count it any more."""
ALIVE_EXPIRATION = b"2000"
"""Milliseconds after which the broker drops a sign of life: they shall not pile up where nobody reads."""
FEED_CREDIT = 256
"""Items that the worker lets come before the handler has taken them."""
CHUNK_CREDIT = 32
"""The same for chunks of a Blob."""
FEED_BYTES = 64 * 1024 * 1024
"""Bytes of items that may wait for the handler, as they came."""
FEED_BODIES = 32
"""Where messages may be so large that fewer of them are that much, so many may wait."""
YIELD_ITEMS = 64
"""After so many items of a stream that nothing holds back, others get a turn."""
MAX_BATCH = 4096
"""Items share a message up to this number, whatever the caller would take."""


class Carrier(Protocol):
    """What carries a stream, which is a worker's session."""

    loop: asyncio.AbstractEventLoop
    replies: Replies

    @property
    def address(self) -> bytes:
        """The worker's own queue."""


class Streaming:
    """One such call: told by the worker's own queue what the caller sends, and by the channel what came back."""

    def __init__(self, session: Carrier, handler: Handler, call: Call, tag: int) -> None:
        self.tag = tag
        """The delivery to settle; 0 once that is done."""
        self._session = session
        self._replies = session.replies
        self._handler = handler
        self._call = call
        self._loop = session.loop
        self._task: asyncio.Task[None] = asyncio.current_task()  # type: ignore[assignment]  # a call is a task
        self._outlet: Outlet | None = None
        self._inlet: FedInlet | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.begun = False
        """Whether an item was sent: the stream cannot be begun again by another worker."""
        self._since = self._loop.time()
        self._sent = True  # as good as: the first sign of life can wait
        self.failure: RemoteError | None = None
        """What the caller is told when it broke the rules."""
        self.reply_form = CHUNK_FORM if isinstance(handler.results, Chunks) else handler.reply_form
        """What one message with all of the stream is."""
        form = self.reply_form
        self._form = ItemForm(form.content_type, form.encoding, call.correlation_id or b"", session.address)

    @property
    def title(self) -> str:
        """The method, as errors call it."""
        return self._handler.method.title

    async def run(self, body: bytes) -> bytes | None:
        """Run the handler: its reply, or None if the stream has told its end itself."""
        handler, call = self._handler, self._call
        self._check_headers()
        if handler.feed is not None:
            self._check_feeder()
        request = handler.decode(body)
        feed = self._open_feed() if handler.feed is not None else None
        if call.heartbeat is None:
            self._quiet()
        if handler.results is None:
            return handler.encode(await handler.start_fed(request, feed))
        if not call.reply_to:
            await self._run_unheard(await handler.items(request, feed))
            return b""
        if CREDIT_HEADER not in call.headers:
            return await self._collected(await handler.items(request, feed))
        self._outlet = self._open_outlet(handler.results)
        await self._outlet.run(await handler.items(request, feed))
        return None

    def _open_outlet(self, results: Items) -> Outlet:
        """What sends the stream as the request says."""
        headers, title = self._call.headers, self._handler.method.title
        try:
            window = Outflow(whole_number(headers[CREDIT_HEADER], CREDIT_HEADER))
            batch = min(max(1, whole_number(headers.get(BATCH_HEADER, 1), BATCH_HEADER)), MAX_BATCH)
        except ValueError as error:
            raise Refused(refusal("invalid_argument", f"{title}: {error}")) from error
        if not window.credit:  # where more can be asked for is something the caller does not know yet
            self._post(self._control(ALIVE_CLASS))
        return Outlet(
            *(self._loop, window, results),
            batch=batch,
            body_bytes=self._replies.limits.body_bytes,
            send=self._send,
            end=self._end,
            misfit=self._handler.misfit,
            socket=self._replies.lane,
        )

    async def _run_unheard(self, source: AsyncIterator[Any]) -> None:
        """Run a stream whose items nobody wants, for what the handler does between them, until its time is over."""
        limit, count = asyncio.timeout_at(self._call.deadline), 0
        try:
            async with limit:
                async for _ in source:
                    count += 1
                    if not count % YIELD_ITEMS:  # for nothing else need make it wait
                        await asyncio.sleep(0)
        except TimeoutError as error:
            if not limit.expired():  # it is the handler's own
                raise
            text = f"{self.title} was stopped after {count} items: its time was over"
            raise RemoteError(text, code="deadline_exceeded", type="CallTimeout") from error
        finally:
            await close(source)

    async def run_collected(self, body: bytes) -> bytes:
        """The same for a call that all workers are asked, each of which answers with one message, or not at all."""
        self._check_headers()
        source = await self._handler.items(self._handler.decode(body), None)
        if self._call.reply_to:
            return await self._collected(source)
        await self._run_unheard(source)
        return b""

    async def _collected(self, source: AsyncIterator[Any]) -> bytes:
        """All items in one body, for a caller that takes no stream."""
        results, limit = self._handler.results, self._replies.limits.body_bytes
        assert results is not None
        bodies, size = [], 0
        try:
            async for item in source:
                bodies.append(results.encode(item))
                size += len(bodies[-1])
                if size > limit:
                    text = f"{self._handler.method.title} has more than {limit} bytes of items; ask for a stream"
                    raise RemoteError(text, code="resource_exhausted", type="MessageTooLarge")
                if not len(bodies) % YIELD_ITEMS:
                    await asyncio.sleep(0)
        except (Mismatch, EncodingFailed, MessageTooLarge) as error:
            raise self._handler.misfit(error) from error
        finally:
            await close(source)
        return results.pack_all(bodies)

    def _check_headers(self) -> None:
        """Refuse a request that does not say how its stream is to go."""
        try:
            _ = self._call.headers  # which decodes them
        except Malformed as error:
            text = f"{self.title}: the properties of the request do not decode: {error}"
            raise Refused(refusal("invalid_argument", text)) from error

    def _check_feeder(self) -> None:
        """Refuse a caller that does not say that it will feed the stream."""
        if not self._call.reply_to or not is_true(self._call.headers.get(FEED_HEADER)):
            title = self._handler.method.title
            text = (
                f"{title} is fed a stream: call it through a proxy made from the class, since one made from a name "
                f"cannot; on the wire, the header {FEED_HEADER} and a reply-to announce it"
            )
            raise Refused(refusal("invalid_argument", text))

    def _open_feed(self) -> Any:
        """What the handler reads the caller's stream from; the caller is told that it may begin."""
        feed = self._handler.method.feed
        assert feed is not None and self._handler.feed is not None
        chunks = feed.stream.kind == "chunks"
        window = CHUNK_CREDIT if chunks else FEED_CREDIT
        self._inlet = FedInlet(
            *(self._loop, window, self._handler.feed, self._grant),
            most=max(FEED_BYTES, FEED_BODIES * self._replies.limits.body_bytes),
            broken=self._broken,
        )
        self._grant(window)
        items = FedItems(self._inlet)
        return Blob(items) if chunks else items

    # What goes to the caller

    def _post(self, properties: bytes, body: bytes = b"") -> None:
        """Send to the caller."""
        self._sent = True
        self._replies.post(self._call, properties, body)

    def _control(self, kind: bytes, expiration: bytes | None = None) -> bytes:
        return Properties(
            content_type=kind,
            expiration=expiration,
            delivery_mode=TRANSIENT,
            correlation_id=self._call.correlation_id,
            reply_to=self._session.address,
        ).encode()

    def _grant(self, items: int) -> None:
        if not self._call.cancelled:
            self._post(self._control(CREDIT_CLASS), b"%d" % items)

    def _send(self, first: int, items: int, body: bytes) -> None:
        limits = self._replies.limits
        if len(body) > limits.body_bytes:
            limit = limits.told("the worker's ")
            text = f"{self._handler.method.title}: an item has {len(body)} bytes, {limit}"
            raise RemoteError(text, code="resource_exhausted", type="MessageTooLarge")
        self.begun = True
        self._post(self._form.properties(first, items), body)

    def _end(self, next: int) -> None:
        if self._call.heartbeat is not None:
            self._call.heartbeat.flush()
        self._post(self._form.end(next))
        self._settle()

    def _settle(self) -> None:
        """Acknowledge the request."""
        if self.tag:
            tag, self.tag = self.tag, 0
            self._replies.settle(tag)

    def _quiet(self) -> None:
        """Give a sign of life when nothing was sent for a while; the caller's address may turn out to be gone."""
        if self._call.reply_to and (self._handler.results is None or CREDIT_HEADER in self._call.headers):
            if not self._sent:
                self._post(self._control(ALIVE_CLASS, expiration=ALIVE_EXPIRATION))
            self._sent = False
            self._timer = self._loop.call_later(QUIET_SECONDS, self._quiet)
        if self._loop.time() - self._since > SETTLE_SECONDS:
            self._settle()

    # What comes from the caller

    def heard(self, content_type: bytes | None, headers: FieldTable, body: bytes) -> None:
        """A message on our correlation id came to the worker's own queue."""
        try:
            if content_type == CREDIT_CLASS:
                if self._outlet is not None:
                    self._outlet.granted(credit_of(body))
            elif self._inlet is None:
                raise ValueError("this call takes no stream")
            elif (part := part_of(headers)) is not None:
                self._inlet.take(part, body)
        except Exception as error:  # of whatever kind: items would be missing
            self._broken(error)

    def _broken(self, error: Exception) -> None:
        """What came makes no sense."""
        self.break_off(RemoteError(f"{self.title}: {said(error)}", code="invalid_argument", type="FlowError"))

    def break_off(self, error: RemoteError | None = None) -> None:
        """Stop the handler: the caller broke the rules, or does not listen any more."""
        if self.failure is None and not self._call.cancelled:
            self.failure = error
            self._call.cancelled = error is None
            self.stop()

    def stop(self) -> None:
        """Interrupt the handler; where it runs in a thread, it finds that its stream is broken. To be called once."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._call.in_thread:
            self._task.cancel()
        elif self._inlet is not None:
            self._inlet.fail(RuntimeError("the call that this stream belongs to was cancelled"))

    def close(self) -> None:
        """The call has ended."""
        if self._timer is not None:
            self._timer.cancel()
        if self._inlet is not None:
            self._inlet.fail(RuntimeError("the call that this stream belongs to has ended"))
