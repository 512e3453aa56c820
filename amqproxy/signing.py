"""Signatures of messages: who has no key can write nothing that is taken, change nothing, and send nothing twice.

A signature is the header `x-signature`, a text of six parts with a colon between them: `1`, the key's id, the time in
milliseconds since 1970, a nonce of 32 hexadecimal digits, the HMAC-SHA256 in 64 of them, and where the message goes
(`destination`).

What is signed (`signed_bytes`) is each property but `expiration`, and each header but `x-signature` and those that
brokers write, as they mean and not as they are written: a broker may write a message's headers anew.
"""

from __future__ import annotations

import heapq
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .fields import Malformed, encode_table
from .properties import Properties

SIGNATURE_HEADER = "x-signature"
VERSION = "1"
MOST_BYTES = 2048
"""By so many the properties of a message grow at most when it is signed."""
MIN_SECRET_BYTES = 16
"""Shorter secrets can be guessed."""

_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SIGNATURE = re.compile(r"1:([A-Za-z0-9._-]{1,64}):(\d{1,16}):([0-9a-f]{32}):([0-9a-f]{64}):(.*)", re.ASCII | re.DOTALL)
_OF_BROKERS = re.compile(
    r"x-signature|x-death|x-(first|last)-death-(queue|reason|exchange)|x-(delivery|acquired)-count|x-received-from|"
    r"x-shovelled(-timestamp)?|timestamp_in_ms|BCC"
)
_DELAY = re.compile(rb"amqproxy\.delay\.\d+(?:\.(?P<queue>.*)|#(?P<digest>.*))", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """The keys that messages of a connection are signed with, and whose signatures it takes.

        keys = {"2026-11": secret}
        async with amqproxy.connect(signing=amqproxy.Signing(keys=keys, key="2026-11")) as mq: ...

    With it, a connection signs all that it sends, and takes no message that is not signed with one of the keys. Secrets
    are 16 random bytes or more, the same at both ends: `secrets.token_bytes(32)`. To change the key, give the new one
    to everybody first, then let everybody sign with it, then take the old one away.
    """

    keys: Mapping[str, bytes] = field(repr=False)
    """The secrets by their ids, which are letters and digits of ASCII and . _ -."""
    key: str
    """The id of the key to sign with."""
    window: float = 60.0
    """Seconds that a message may be old when it is taken, and that clocks may differ: more than messages wait in
    queues. One that was sent with a delay is as old as that when it comes."""
    redelivered_window: float = 1800.0
    """The same for messages that the broker gives again, since a worker had them and did not finish them; never less
    than `window`. Default: half an hour, for which RabbitMQ lets a worker have a message (its consumer_timeout)."""
    remember: int = 100_000
    """Requests, and as many messages of other kinds, that are remembered for these times, so that they are not taken
    twice. Of more, the older ones are not taken any more. Each takes some 200 bytes."""

    def __post_init__(self) -> None:
        if not isinstance(self.keys, Mapping) or not self.keys:
            raise TypeError("keys are a dict from ids to secrets, with one at least")
        for id, secret in self.keys.items():
            if not isinstance(id, str) or not _KEY_ID.fullmatch(id):
                raise ValueError(f"the id of a key is up to 64 letters and digits of ASCII and . _ -, not {id!r}")
            if not isinstance(secret, bytes):
                raise TypeError(f"the secret of the key {id!r} is bytes, and not a {type(secret).__name__}")
            if len(secret) < MIN_SECRET_BYTES:
                raise ValueError(f"the secret of the key {id!r} has {len(secret)} bytes; {MIN_SECRET_BYTES} are needed")
        if self.key not in self.keys:
            raise ValueError(f"there is no key {self.key!r} among the keys")
        for name in ("window", "redelivered_window", "remember"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int if name == "remember" else (int, float)):
                raise TypeError(f"{name} is a number, not {value!r}")
            if not 0 < value < 10**9:
                raise ValueError(f"{name} is more than 0, and less than a thousand millions, not {value!r}")
        object.__setattr__(self, "keys", dict(self.keys))


class NotSigned(ValueError):
    """A message is not taken; the text says why, and nothing that helps to forge one."""


def destination(exchange: bytes, routing_key: bytes) -> str:
    """Where a message goes, in words that its receiver knows; two ways are never the same words.

    On the default exchange, the routing key, which is the queue; the name of a pool's own exchange, `amqproxy.…`; of
    others the name and the routing key with a > between them, which is in no name of a queue or an exchange. Of a
    message with a delay, the queue behind it, or a > and the digest of what is behind it (topology.delay_queue).
    """
    if exchange.startswith(b"amqproxy."):
        to = exchange
    elif exchange:
        to = exchange + b">" + routing_key
    elif (delayed := _DELAY.fullmatch(routing_key)) is not None:
        to = delayed["queue"] or b">" + (delayed["digest"] or b"")
    else:
        to = routing_key
    return to.decode(errors="replace")


def sign(signing: Signing, properties: bytes, body: bytes, to: str, now: float, nonce: bytes) -> bytes:
    """The properties with a signature; `now` is in seconds since 1970, and the nonce 16 bytes that were never used."""
    said = Properties.decode(properties)
    stamp = f"{VERSION}:{signing.key}:{round(now * 1000)}:{nonce.hex()}"
    digest = _digest(signing.keys[signing.key], stamp, to, said, body)
    headers = {name: value for name, value in (said.headers or {}).items() if name != SIGNATURE_HEADER}
    return replace(said, headers={**headers, SIGNATURE_HEADER: f"{stamp}:{digest}:{to}"}).encode()


def unsigned(properties: bytes) -> bytes:
    """The properties without a signature; those that do not decode as they are."""
    try:
        said = Properties.decode(properties)
    except Malformed:
        return properties
    headers = {name: value for name, value in (said.headers or {}).items() if name != SIGNATURE_HEADER}
    return replace(said, headers=headers or None).encode()


@dataclass(frozen=True, slots=True)
class Signature:
    """What a message's signature says, which is true."""

    time: float
    """When it was made, in seconds since 1970."""
    nonce: bytes
    to: str
    """Where the message goes, as `destination` has it."""


def verify(signing: Signing, properties: bytes, body: bytes) -> Signature:
    """The signature of a message; NotSigned if there is none, or none by a key of ours. Malformed as by `decode`."""
    said = Properties.decode(properties)
    text = (said.headers or {}).get(SIGNATURE_HEADER)
    if text is None:
        raise NotSigned("it is not signed; its sender connects without signing")
    found = _SIGNATURE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise NotSigned("its signature is not of a form that is known here")
    key, time, nonce, digest, to = found.groups()
    secret = signing.keys.get(key)
    if secret is None:
        raise NotSigned(f"it is signed with the key {key!r}, which is not known here")
    import hmac  # only who signs shall pay for it

    if not hmac.compare_digest(_digest(secret, f"{VERSION}:{key}:{time}:{nonce}", to, said, body), digest):
        raise NotSigned("its signature is wrong: it was changed on its way, or the secrets differ")
    return Signature(int(time) / 1000, bytes.fromhex(nonce), to)


def signed_bytes(stamp: str, to: str, said: Properties, body: bytes) -> bytes:
    """What the HMAC is made of: each of these parts, behind its length in four bytes.

    The signature up to its nonce, which is `stamp`; where the message goes; the flags of the properties that are there,
    AMQP's two bytes without the bits of headers and expiration; each of these properties in AMQP's order, numbers in
    eight bytes; each header in the order of their names, as a table of its own as fields.py writes it; the body.
    """
    parts, flags = [stamp.encode(), to.encode()], 0
    for place, each in enumerate(fields(Properties)):
        value = getattr(said, each.name)
        if value is not None and each.name not in ("headers", "expiration"):
            flags |= 0x8000 >> place
            parts.append(value if isinstance(value, bytes) else struct.pack(">Q", value))
    parts.insert(2, struct.pack(">H", flags))
    for name, value in sorted((said.headers or {}).items(), key=lambda one: one[0].encode()):
        if not _OF_BROKERS.fullmatch(name):
            parts.append(encode_table({name: _canonical(value)}))
    parts.append(body)
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def _canonical(value: Any) -> Any:
    """A header's value, tables in it in the order of their names."""
    if isinstance(value, Mapping):
        return {name: _canonical(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_canonical(each) for each in value]
    return value


def _digest(secret: bytes, stamp: str, to: str, said: Properties, body: bytes) -> str:
    import hmac

    return hmac.new(secret, signed_bytes(stamp, to, said, body), "sha256").hexdigest()


class Once:
    """Takes each message once, within a window of time, and within another what was given back."""

    def __init__(self, window: float, remember: int, redelivered_window: float = 0.0) -> None:
        self._window = window
        self._longest = max(window, redelivered_window)
        self._remember = remember
        self._given_back: dict[bytes, bool] = {}
        """All that are remembered, and whether they may come again."""
        self._by_age: list[tuple[float, bytes]] = []
        """The same, as a heap by the time of the message."""
        self._forgotten = -math.inf
        """Of this time and older nothing is taken: it was remembered once, and is not any more."""

    def __len__(self) -> int:
        return len(self._given_back)

    def take(self, signature: Signature, now: float, *, receiver: bytes = b"", again: bool = False) -> bytes:
        """What `give_back` knows the message by; NotSigned if it is too old, from the future, or was here before.

        Each receiver may take it once, and again what it gave back. With `again` the broker says that somebody had the
        message before: anybody can make it say that, so it may be older then, and nothing else.
        """
        key = signature.nonce + receiver
        given_back = self._given_back.get(key)
        age, limit = now - signature.time, self._longest if again or given_back else self._window
        if age < -self._window:
            raise NotSigned(f"it was signed {-age:.0f} s in the future: the clocks differ")
        if age > limit:
            raise NotSigned(f"it was signed {age:.0f} s ago, and the window is {limit:g} s")
        if given_back is None:
            self._remember_it(signature.time, key, now)
        elif given_back:  # whatever the broker says, which may have forgotten that when it was restarted
            self._given_back[key] = False
        else:
            raise NotSigned("it came a second time")
        return key

    def give_back(self, key: bytes) -> None:
        """A message that was taken goes back to the broker, and may come again."""
        if key in self._given_back:
            self._given_back[key] = True

    def _remember_it(self, time: float, key: bytes, now: float) -> None:
        if time <= self._forgotten:
            raise NotSigned(f"more than {self._remember} messages came since it was signed, and may have been it")
        self._forget(now)
        self._given_back[key] = False
        heapq.heappush(self._by_age, (time, key))

    def _forget(self, now: float) -> None:
        """Make room: forget those that are too old to be taken anyway, or else the oldest one."""
        while self._by_age and (self._by_age[0][0] + self._longest < now or len(self._by_age) >= self._remember):
            time, key = heapq.heappop(self._by_age)
            del self._given_back[key]
            self._forgotten = max(self._forgotten, time)
