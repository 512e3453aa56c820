"""A client for traffic: a blocking socket, frames that are made once, and a check of every message that comes.

It does as little as a client can, so that what is measured is the broker. `Client` has the socket; the rest is bytes.
"""

import socket
import struct
from collections.abc import Iterator

from pamqp import base, commands, frame, header

from amqproxy.frames import HEADER, METHOD, encode_ack, encode_publish, publish_method
from amqproxy.url import BrokerURL

from .control import WrongAnswerError

CHANNEL = 1
FRAME_MAX = 131072
TIMEOUT = 30.0
"""Seconds without a byte from the broker after which a client gives up."""
READ_BYTES = 256 * 1024
DIGITS = 12

_FRAME = struct.Struct(">BHI")
_TAG = struct.Struct(">Q")
_CONFIRM = struct.Struct(">BHI4sQBB")
_ACK = b"\x00\x3c\x00\x50"


class Client:
    """One connection with one channel."""

    def __init__(self, url: str) -> None:
        """Connect, and open the channel. Raises OSError, or WrongAnswerError when the broker wants none of it."""
        where = BrokerURL.parse(url)
        self._socket = socket.create_connection((where.host, where.port), TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self.send(header.ProtocolHeader().marshal())
        self._next()
        start_ok = commands.Connection.StartOk(mechanism="PLAIN", response=f"\0{where.user}\0{where.password}")
        tune = self._exchange(0, start_ok)
        assert isinstance(tune, commands.Connection.Tune)
        self.send(frame.marshal(commands.Connection.TuneOk(tune.channel_max, FRAME_MAX, 0), 0))
        self._exchange(0, commands.Connection.Open(virtual_host=where.virtual_host))
        self.call(commands.Channel.Open())

    def call(self, method: base.Frame) -> base.Frame:
        """Send a method on the channel, and return the one that answers it. Raises WrongAnswerError."""
        return self._exchange(CHANNEL, method)

    def consume(self, queue: str, *, prefetch: int = 0) -> None:
        """Consume from a queue; without a prefetch count, nothing needs to be acknowledged."""
        if prefetch:
            self.call(commands.Basic.Qos(prefetch_count=prefetch))
        self.call(commands.Basic.Consume(queue=queue, no_ack=not prefetch))

    def send(self, data: bytes) -> None:
        """Write all of it."""
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """Return what has come, at least a byte. Raises WrongAnswerError when the broker ends the connection."""
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise WrongAnswerError("the broker closed the connection")
        return data

    def fileno(self) -> int:
        """The socket's, for `select`."""
        return self._socket.fileno()

    @property
    def pending(self) -> bool:
        """Whether `receive` has something that `select` does not know of."""
        return bool(self._rest)

    def close(self) -> None:
        """Close the socket, without the farewell of AMQP."""
        self._socket.close()

    def _exchange(self, channel: int, method: base.Frame) -> base.Frame:
        self.send(frame.marshal(method, channel))
        answer = self._next()
        if not answer.name.startswith(method.name.removesuffix("Ok")) and answer.name != "Connection.Tune":
            raise WrongAnswerError(f"{method.name} was answered with {dict(answer)}")
        return answer

    def _next(self) -> base.Frame:
        data = self.receive()
        while True:
            size, _, method = frame.unmarshal(data) if whole(data) else (0, 0, None)
            if isinstance(method, base.Frame):
                self._rest = data[size:]
                return method
            data = data[size:] if size else data + self._socket.recv(READ_BYTES)


def whole(data: bytes) -> bool:
    """Whether `data` begins with a whole frame."""
    return len(data) >= 8 and len(data) >= 8 + _FRAME.unpack_from(data)[2]


def frames(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of each whole frame in `data`, the eight bytes around its payload included."""
    at = 0
    while len(data) - at >= 8:
        kind, _, length = _FRAME.unpack_from(data, at)
        if at + 8 + length > len(data):
            return
        yield kind, at, at + 8 + length
        at += 8 + length


class Outgoing:
    """Messages to one place that are alike but for a number at the beginning of their bodies."""

    def __init__(self, exchange: str, routing_key: str, properties: bytes, size: int) -> None:
        """`size` is that of the body, at least `DIGITS`."""
        method = publish_method(CHANNEL, exchange.encode(), routing_key.encode(), mandatory=False)
        whole = encode_publish(method, CHANNEL, properties, b"0" * DIGITS + b"a" * (size - DIGITS), FRAME_MAX)
        end = len(whole) - 1 - (size - DIGITS)
        self._front, self._back = whole[: end - DIGITS], whole[end:]

    def batch(self, numbers: range) -> bytes:
        """The frames of a message for each number."""
        front, back = self._front, self._back
        return b"".join([b"%b%012d%b" % (front, number, back) for number in numbers])


class Incoming:
    """Deliveries to one consumer: each run of them counts down to 0, and they are alike but for tag and number."""

    def __init__(self) -> None:
        self.runs = 0
        """Runs that have come to their end."""
        self._rest = b""
        self._expected = -1
        self._tag = 0
        self._shape = b"", b"", b""
        self._size = 0

    def feed(self, data: bytes) -> range:
        """Take what came, and return the tags of the messages in it. Raises WrongAnswerError."""
        data = self._rest + data if self._rest else data
        at, size, first = 0, len(data), self._tag + 1
        head, middle, tail = self._shape
        while True:
            if self._expected < 0:  # a run begins
                found = self._learn(data, at)
                if found is None:
                    break
                self._expected = found
                head, middle, tail = self._shape
            if size - at < self._size:
                break
            tag_at = at + len(head)
            number_at = tag_at + 8 + len(middle)
            number_end, end = number_at + DIGITS, at + self._size
            self._tag += 1
            if (
                data[at:tag_at] != head
                or _TAG.unpack_from(data, tag_at)[0] != self._tag
                or data[tag_at + 8 : number_at] != middle
                or int(data[number_at:number_end]) != self._expected
                or data[number_end:end] != tail
            ):
                raise WrongAnswerError(f"delivery {self._tag} is not message {self._expected}: {data[at:end][:200]!r}")
            at = end
            self._expected -= 1
            self.runs += self._expected < 0
        self._rest = data[at:]
        return range(first, self._tag + 1)

    def _learn(self, data: bytes, at: int) -> int | None:
        """See how the deliveries of a run look by its first one, and return its number; None if it is not whole."""
        parts = [data[at + start : at + end] for _, start, end in _first(data[at:], 3)]
        if len(parts) < 3:
            return None
        method, content, body = parts
        tag_at = 12 + method[11]
        if method[0] != METHOD or method[7:11] != b"\x00\x3c\x00\x3c" or content[0] != HEADER:
            raise WrongAnswerError(f"no delivery: {method!r}")
        self._shape = method[:tag_at], method[tag_at + 8 :] + content + body[:7], body[7 + DIGITS :]
        self._size = sum(map(len, parts))
        return int(body[7 : 7 + DIGITS])


def _first(data: bytes, count: int) -> list[tuple[int, int, int]]:
    found = []
    for one in frames(data):
        found.append(one)
        if len(found) == count:
            break
    return found


class Confirms:
    """What the broker has confirmed on a channel that published nothing before."""

    def __init__(self) -> None:
        self._rest = b""
        self._all_up_to = 0
        self._beyond: set[int] = set()

    @property
    def count(self) -> int:
        """How many messages were confirmed."""
        return self._all_up_to + len(self._beyond)

    def feed(self, data: bytes) -> int:
        """Take what came, and return `count`. Raises WrongAnswerError when it is anything else than a confirmation."""
        data = self._rest + data if self._rest else data
        end = len(data) - len(data) % _CONFIRM.size
        for at in range(0, end, _CONFIRM.size):
            _, _, _, method, tag, multiple, _ = _CONFIRM.unpack_from(data, at)
            if method != _ACK:
                raise WrongAnswerError(f"no confirmation: {data[at:]!r:.200}")
            if multiple:
                self._all_up_to = max(self._all_up_to, tag)
                self._beyond = {one for one in self._beyond if one > self._all_up_to}
            else:
                self._beyond.add(tag)
            while self._all_up_to + 1 in self._beyond:
                self._all_up_to += 1
                self._beyond.remove(self._all_up_to)
        self._rest = data[end:]
        return self.count


def acks(tags: range) -> bytes:
    """An acknowledgement for each of these deliveries."""
    return b"".join([encode_ack(CHANNEL, tag) for tag in tags])
