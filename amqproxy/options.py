"""What can be set, with its defaults: frozen values, checked when they are made. Times are in seconds."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from .alive import MIN_HEARTBEAT
from .bounds import check_number, check_positive
from .deduplication import Deduplication
from .fields import encode_table
from .retry import Retry
from .signing import Signing

MAX_SHORT_STRING = 255
MAX_CREDIT = 1_000_000
"""So much memory a stream may take: the machine allows more, and nobody needs it."""
LONGEST_WAIT_SECONDS = 49 * 24 * 3600
"""For messages in queues: RabbitMQ counts in milliseconds, in 32 bits."""
COMPRESSION_NAMES = ("snappy", "zstd", "gzip", "lz4")
REPLY_QUEUES = (
    r"amq\..+|(?i:.*(?:repl(?:y|ies)|response|answer|callback).*|"
    r".*[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}.*)"
)
"""Names that services do not have, and the reply queues of clients in many languages do: those that the broker made up,
which nobody else can declare, those that say what they are for, and those with a UUID in them."""
DELIVERY_LIMIT = 20
"""RabbitMQ 4's own; before that there was none."""

Options = TypeVar("Options", bound="ConnectOptions | CallOptions | ServeOptions")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How a connection is made and what it will hold."""

    connect_timeout: float = 10.0
    """Seconds until `connect` gives up with BrokerUnavailable; several hosts of a URL share them."""
    wait: bool = False
    """Wait for a broker that is not there yet, however long that takes. Refused credentials are an error even so."""
    heartbeat: int = 20
    """Seconds between heartbeats; a broker that is silent for three of them is gone. ?heartbeat= in the URL wins."""
    name: str | None = None
    """The connection's name in RabbitMQ's management pages; default: the program's name and process id."""
    max_in_flight: int = 16384
    """Calls that may wait for answers at once; one more is Overloaded."""
    max_body_bytes: int = 16 * 1024 * 1024
    """The largest body sent or taken, RabbitMQ 4's own limit; a larger one is MessageTooLarge, or refused by the
    worker. A broker that turns out to take less lowers it."""
    max_decompressed_bytes: int = 16 * 1024 * 1024
    """The largest content that a compressed body may hold; what claims more is refused before it is decompressed."""
    correlation_ids: Literal["secret", "counter"] = "secret"
    """What correlation ids look like: with "secret" nobody can guess one; with "counter" they are whole numbers of 18
    digits, for peers that take them for numbers."""
    ssl_context: Any = None
    """An `ssl.SSLContext` for amqps:// URLs, and no others; default: one that verifies certificate and host name."""
    signing: Signing | None = None
    """Keys to sign all messages with, and to take no others: see `amqproxy.Signing`. Default: nothing is signed."""
    middleware: Sequence[Callable[..., Any]] = ()
    """Functions around each call of all proxies, the outermost first: see `amqproxy.middleware`."""

    def __post_init__(self) -> None:
        _middleware(self)
        _flags(self, "wait")
        _whole(self, "heartbeat", "max_in_flight", "max_body_bytes", "max_decompressed_bytes")
        _positive(self, "connect_timeout", "max_in_flight", "max_body_bytes", "max_decompressed_bytes")
        _one_of(self, "correlation_ids", "secret", "counter")
        if not isinstance(self.signing, Signing | None):
            raise TypeError(f"signing is an amqproxy.Signing, not a {type(self.signing).__name__}")
        if not 0 <= self.heartbeat <= 65535:
            raise ValueError(f"heartbeat is from 0 to 65535 seconds, not {self.heartbeat}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """How a proxy calls. `amqproxy.options(proxy, …)` gives the same proxy with others."""

    timeout: float = 30.0
    """Seconds for the whole call: waiting for a link, queueing, running, and the way back."""
    encoding: str | Any = None
    """The serializer, sent as content-encoding: "json", "protobuf", "snappy-json", …, or a codec of yours (see
    `amqproxy.codecs.Codec`); default: protobuf or thrift for methods whose messages those generated, else JSON."""
    compress_above: int | None = None
    """Requests of more bytes than this are compressed; their replies are, too. Default: the encoding alone decides."""
    compression: str | None = None
    """How they are compressed: snappy (unless told otherwise), zstd, gzip or lz4."""
    protobuf_names: Literal["java", "protobuf"] = "java"
    """Whether messages of protobuf are sent under their Java class's name, or under their full name in protobuf."""
    exchange: str = ""
    """Where requests are published; default: AMQP's default exchange, which routes by queue name."""
    routing_key: str | None = None
    """The routing key of requests; default: the service's queue."""
    priority: int | None = None
    """From 0 to 255, for pools that serve with a max_priority: higher ones go first."""
    idempotent: bool = False
    """True if running a call twice does no harm: then a call whose link broke is sent again, within its timeout."""
    retry: int | Retry | None = None
    """How often a call is sent at most that fails without having run, or that may run twice: a number, or an
    `amqproxy.Retry`. Default: such a call fails. Streams are not tried again."""
    hedge: float | None = None
    """Seconds after which a call of an idempotent method that was not answered is sent a second time; the first answer
    counts, and the other try is cancelled. Default: it is waited for. Others are not, and neither are streams."""
    confirm: bool | None = None
    """Whether the broker confirms each request, so that one which a full queue refuses fails at once, as Overloaded,
    and not when its time is over. Default: where the class of the service says that its queue refuses (max_length).
    Streams and calls with a heartbeat are not confirmed."""
    credit: int | None = None
    """How many items of a stream may be between worker and caller, sent and not taken; default: 256, or of the chunks
    of a Blob 32 (8 MiB)."""
    batch: int = 64
    """How many small items of a stream, or calls of a batch, may share a message; with 1, each travels alone."""
    heartbeat: float | None = None
    """Seconds between two signs of life that the worker gives while a call runs, at least 0.05; three are missed, and
    the call fails with WorkerLost. Default: none, but for calls whose progress is watched, where it is 1."""
    max_in_flight: int | None = None
    """Calls of this proxy that may wait for answers at once, besides the connection's own limit."""
    headers: Mapping[str, Any] = field(default_factory=dict)
    """Sent with each request; the handler reads them from `amqproxy.current().headers`."""
    middleware: Sequence[Callable[..., Any]] = ()
    """Functions around each call, the outermost first, inside of the connection's: see `amqproxy.middleware`."""

    def __post_init__(self) -> None:
        _middleware(self)
        _flags(self, "idempotent")
        if self.confirm not in (None, True, False):
            raise TypeError(f"confirm is True, False or None, not {self.confirm!r}")
        _whole(self, "priority", "max_in_flight", "compress_above", "credit", "batch")
        _one_of(self, "compression", None, *COMPRESSION_NAMES)
        if self.compression is not None and self.compress_above is None:
            how = f'give compress_above, or compression=None; encoding="{self.compression}-json" is for all'
            raise ValueError(f"compression says how, and not from which size on: {how}")
        _one_of(self, "protobuf_names", "java", "protobuf")
        if self.compress_above is not None and self.compress_above < 0:
            raise ValueError(f"compress_above is 0 or more bytes, not {self.compress_above}")
        _positive(self, "timeout", "max_in_flight", "credit", "batch", "heartbeat", "hedge")
        if self.retry is not None:
            object.__setattr__(self, "retry", Retry.of(self.retry))
        if self.credit is not None and self.credit > MAX_CREDIT:
            raise ValueError(f"credit is {MAX_CREDIT} items at most, not {self.credit}")
        if self.heartbeat is not None and self.heartbeat < MIN_HEARTBEAT:
            raise ValueError(f"heartbeat is {MIN_HEARTBEAT:g} seconds or more, not {self.heartbeat!r}")
        if self.priority is not None and not 0 <= self.priority <= 255:
            raise ValueError(f"priority is from 0 to 255, not {self.priority}")
        _short_strings(self, "exchange", "routing_key")
        if isinstance(self.encoding, str):
            _short_strings(self, "encoding")
        elif self.encoding is not None:
            _check_codec(self.encoding)
        object.__setattr__(self, "headers", dict(self.headers))  # a copy, which nobody else can change
        encode_table(self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendOptions(CallOptions):
    """How a sender sends: as a proxy calls, but `timeout` is for the broker's confirmation, and no worker's time."""

    expires: float | None = None
    """Seconds after which the broker drops the message if no worker has taken it; default: never."""
    delay: float = 0.0
    """Seconds for which the broker keeps the message back, 49 days at most. It is never early, and late by a hundredth
    of that at most, when the broker is not busy."""

    def __post_init__(self) -> None:
        CallOptions.__post_init__(self)
        for name in ("credit", "heartbeat", "retry", "hedge"):
            if getattr(self, name) is not None:
                raise ValueError(f"a sender has no {name}, for no worker answers; mq.proxy(…) has it")
        if self.confirm is not None:
            raise ValueError("a sender has no confirm: its messages always are confirmed")
        _positive(self, "expires")
        check_number("delay", self.delay)
        for name in ("expires", "delay"):
            if (getattr(self, name) or 0) > LONGEST_WAIT_SECONDS:
                raise ValueError(
                    f"{name} is at most {LONGEST_WAIT_SECONDS} seconds (49 days), not {getattr(self, name)}"
                )
        if self.delay and self.expires is not None:
            raise ValueError(
                "a message with a delay cannot expire: RabbitMQ forgets the expiration when the delay is over; "
                "give one of them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastOptions(CallOptions):
    """How a broadcast calls: as a proxy does, but `timeout` is how long answers are waited for."""

    expect: int | None = None
    """How many answers are wanted: it ends with the last of them, and fewer in its time are a CallTimeout. Default: as
    many as there are workers when it begins, and fewer are no error."""

    def __post_init__(self) -> None:
        CallOptions.__post_init__(self)
        _whole(self, "expect")
        _positive(self, "expect")
        if self.compress_above is not None:
            raise ValueError("a broadcast has no compress_above: compress it with an encoding such as zstd-json")
        if self.exchange:
            raise ValueError("a broadcast has no exchange: it goes to that of the pool, amqproxy.QUEUE")
        for name in ("idempotent", "confirm", "credit", "heartbeat", "retry", "hedge"):
            if getattr(self, name):
                raise ValueError(f"a broadcast has no {name}: it is sent once, answered whole, and watches its workers")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How a pool of workers serves."""

    concurrency: int = 100
    """Calls that this worker runs at once; sent to the broker as prefetch, so further calls go to other workers."""
    queue: str | None = None
    """The queue that the pool shares; default: the service's name."""
    durable: bool = True
    """Whether the queue outlives a restart of the broker."""
    auto_delete: bool = False
    """Whether the queue goes when its last worker goes, with the calls that wait in it."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the queue, such as x-max-length or x-overflow."""
    max_priority: int | None = None
    """The highest priority that the queue knows, from 1 to 255; calls of a higher one count as of this. A few are
    enough, for each costs the broker something. Default: all calls are alike. Sent as x-max-priority."""
    quorum: bool = False
    """Whether the queue is a quorum queue: on several nodes of a cluster, with a delivery limit and dead letters. It
    must be durable, and has no priorities."""
    delivery_limit: int | None = None
    """How often a request may come back to a quorum queue, because workers died of it, say, before it goes to the dead
    letters; default: 20."""
    dead_letters: bool | None = None
    """Whether requests that cannot be served, and one-way requests that fail, are kept in a queue called QUEUE.dead,
    with the reason (see `amqproxy dead`); default: those of quorum queues are."""
    max_length: int | None = None
    """How many requests may wait in the queue. Default: as many as come."""
    overflow: Literal["reject-publish", "drop-head"] | None = None
    """What becomes of one more: it is refused, and its caller gets Overloaded ("reject-publish", the default); or the
    oldest is dropped for it ("drop-head"), of which nobody is told."""
    message_ttl: float | None = None
    """Seconds that a request may wait in the queue, 49 days at most. Those of calls wait no longer than their callers,
    whatever this is; default: one-way messages wait as long as it takes."""
    shed_after: float | None = None
    """Seconds that calls may wait in the queue, as far as the worker can foresee it. Calls beyond that are refused at
    once: resource_exhausted, with the time after which to try again. One-way messages wait. Default: calls wait to
    their deadline."""
    exchange: str | None = "amq.direct"
    """An exchange that the queue is also bound to (direct and durable; declared unless its name starts with amq.),
    or None for no binding."""
    routing_key: str | None = None
    """The key of that binding; default: the queue's name."""
    grace: float = 30.0
    """Seconds that a stopping worker gives to the calls that it has begun."""
    codecs: tuple[Any, ...] = ()
    """Codecs of yours, besides the own ones, that callers may use: see `amqproxy.codecs.Codec`."""
    requeue_once: bool = False
    """Whether a request that failed goes back to its queue once, to be tried again, before the failure is told. One
    that was redelivered for another reason, such as the end of a worker, is not tried again."""
    deduplicate: int | Deduplication | None = None
    """So many calls are remembered with their replies, to answer a request that comes again without running it again:
    a number, or an `amqproxy.Deduplication`. Default: it is run again."""
    failure_details: bool = True
    """Whether failures hold the field `error`, besides the two that the Akka AMQP proxies know."""
    debug: bool = False
    """Send tracebacks to callers. They hold paths and values of this process."""
    reply_queues: str = REPLY_QUEUES
    """A regular expression for the whole name of a queue that replies may go to: a request must not make a worker write
    to other queues in its caller's place. Default: names that the broker made up (amq.…), and those that have a UUID or
    a word like "reply" or "response" in them; ".*" is for all."""
    middleware: Sequence[Callable[..., Any]] = ()
    """Functions around each handler, the outermost first: see `amqproxy.middleware`."""
    providers: Mapping[Any, Any] = field(default_factory=dict)
    """Where parameters of a type come from that callers do not send: see `amqproxy.providers`. Those given to
    `mq.serve` are added to those of `@amqproxy.serve`, and win."""

    def __post_init__(self) -> None:
        _middleware(self)
        _providers(self)
        _whole(self, "concurrency", "max_priority")
        _positive(self, "concurrency")
        if self.max_priority is not None:
            if not 1 <= self.max_priority <= 255:
                raise ValueError(f"max_priority is from 1 to 255, not {self.max_priority}")
            if "x-max-priority" in self.arguments:
                raise ValueError("give max_priority or the argument x-max-priority, not both")
        if self.concurrency > 65535:
            raise ValueError(f"concurrency is 65535 at most (AMQP's prefetch), not {self.concurrency}")
        check_number("grace", self.grace)
        _flags(self, "durable", "auto_delete", "quorum", "requeue_once", "failure_details", "debug")
        if self.deduplicate is not None:
            object.__setattr__(self, "deduplicate", Deduplication.of(self.deduplicate))
        self._check_queue()
        if not isinstance(self.codecs, tuple):
            raise TypeError(f"codecs is a tuple of codecs, not {self.codecs!r}")
        for codec in self.codecs:
            _check_codec(codec)
        _short_strings(self, "queue", "exchange", "routing_key")
        _pattern(self, "reply_queues")

    @property
    def keeps_dead_letters(self) -> bool:
        """Whether there is a queue for what cannot be served."""
        return self.quorum if self.dead_letters is None else self.dead_letters

    def _check_queue(self) -> None:
        _whole(self, "delivery_limit", "max_length")
        _one_of(self, "overflow", None, "reject-publish", "drop-head")
        _positive(self, "max_length", "message_ttl", "shed_after")
        if self.dead_letters not in (None, True, False):
            raise TypeError(f"dead_letters is True, False or None, not {self.dead_letters!r}")
        if self.quorum:
            for name, wrong in (("durable", not self.durable), ("auto_delete", self.auto_delete)):
                if wrong:
                    raise ValueError(f"a quorum queue cannot be {name}={getattr(self, name)}: it is there to stay")
            if self.max_priority is not None:
                raise ValueError("a quorum queue has no max_priority; give one of quorum and max_priority")
        if self.delivery_limit is not None:
            if not self.quorum:
                raise ValueError("only quorum queues have a delivery_limit: serve with quorum=True")
            check_number("delivery_limit", self.delivery_limit)
        if self.overflow is not None and self.max_length is None and not self.quorum:
            raise ValueError("overflow is for a queue that can be full: give max_length")
        if (self.message_ttl or 0) > LONGEST_WAIT_SECONDS:
            raise ValueError(f"message_ttl is at most {LONGEST_WAIT_SECONDS} seconds (49 days), not {self.message_ttl}")


def changed(options: Options, what: str, changes: Mapping[str, Any]) -> Options:
    """The options with changes; TypeError or ValueError name the one that is wrong, `what` says whose option it is."""
    known = [field.name for field in fields(options)]
    for name in changes:
        if name in ("delay", "expires") and type(options) is CallOptions:
            raise TypeError(f"{what} has no option {name!r}, for a call is waited for; mq.sender(…) has it")
        if name == "expect" and type(options) is CallOptions:
            raise TypeError(f"{what} has no option {name!r}, for one worker answers; mq.broadcast(…) has it")
        if name == "everyone" and type(options) is SendOptions:
            raise TypeError(f"{what} has no option {name!r}: who gets the messages is said by mq.sender(…, everyone=…)")
        if name not in known:
            raise TypeError(f"{what} has no option {name!r}; it has {', '.join(known)}")
    return replace(options, **changes)


def serving_options(described: ServeOptions, given: Mapping[str, Any]) -> ServeOptions:
    """The options of a worker: those that its class has, and those that win over them; providers are added up."""
    options = changed(described, "serve", given)
    return replace(options, providers={**described.providers, **options.providers})


def _positive(options: Any, *names: str) -> None:
    """These are finite and more than 0: nothing waits for ever."""
    for name in names:
        value = getattr(options, name)
        if value is not None:
            check_positive(name, value)


def _one_of(options: Any, name: str, *values: str | None) -> None:
    if getattr(options, name) not in values:
        raise ValueError(f"{name} is {', '.join(repr(v) for v in values if v)}, not {getattr(options, name)!r}")


def _check_codec(codec: Any) -> None:
    """What a codec must have (see codecs.Codec, which this module cannot import), so that a mistake is told early."""
    lacks = [name for name in ("name", "forms", "request", "result", "anything") if not hasattr(codec, name)]
    if lacks or isinstance(codec, type):
        problem = f"lacks {', '.join(lacks)}" if lacks else "is a class, give an instance"
        raise TypeError(f"{codec!r} is no codec: it {problem} (see amqproxy.codecs.Codec)")
    longest = MAX_SHORT_STRING - max(map(len, COMPRESSION_NAMES)) - 1
    name = codec.name
    if not isinstance(name, str) or not 0 < len(name) <= longest or not (name.isascii() and name.isprintable()):
        raise ValueError(f"a codec's name is 1 to {longest} printable letters of ASCII, not {name!r}")
    if name.startswith(tuple(f"{compression}-" for compression in COMPRESSION_NAMES)):
        raise ValueError(f"a codec called {name!r} would be taken for a compressed one")
    if isinstance(codec.forms, str):
        raise TypeError(f"the forms of a codec are a set or a tuple, not the str {codec.forms!r}")


def _middleware(options: Any) -> None:
    """Each is an async function of a call and of what comes next; kept as a tuple, which nobody can change."""
    given = options.middleware
    if not isinstance(given, (list, tuple)):
        raise TypeError(f"middleware is a list of functions, not {given!r}")
    for each in given:
        if not any(map(inspect.iscoroutinefunction, (each, getattr(type(each), "__call__", None)))):  # noqa: B004
            raise TypeError(f"a middleware is an `async def mw(call, next)` that returns a result; {each!r} is none")
        with contextlib.suppress(ValueError):  # some functions written in C do not tell what they take
            signature = inspect.signature(each)
            try:
                signature.bind(None, None)
            except TypeError as error:
                raise TypeError(f"a middleware is called as mw(call, next), and {each!r} is {signature}") from error
    object.__setattr__(options, "middleware", tuple(given))


def _providers(options: Any) -> None:
    given = options.providers
    if not isinstance(given, Mapping):
        raise TypeError(f"providers are a dict from types to what provides them, not {given!r}")
    for kind in given:
        if isinstance(kind, str):
            raise TypeError(f"providers are told apart by the types that parameters have, and {kind!r} is a str")
    object.__setattr__(options, "providers", dict(given))


def _flags(options: Any, *names: str) -> None:
    for name in names:
        if not isinstance(getattr(options, name), bool):
            raise TypeError(f"{name} is True or False, not {getattr(options, name)!r}")


def _pattern(options: Any, name: str) -> None:
    value = getattr(options, name)
    if not isinstance(value, str):
        raise TypeError(f"{name} is a regular expression, as a str, and not {value!r}")
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{name} is a regular expression, and {value!r} is none: {error}") from error


def _whole(options: Any, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and type(value) is not int:
            raise TypeError(f"{name} is a whole number, not {value!r}")


def _short_strings(options: Any, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} is a str, not {value!r}")
        if value is not None and len(value.encode()) > MAX_SHORT_STRING:
            raise ValueError(f"{name} is longer than AMQP's {MAX_SHORT_STRING} bytes: {value[:40]!r}…")
