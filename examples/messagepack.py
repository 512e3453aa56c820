"""A codec of one's own: MessagePack, for a service whose callers and workers are all in Python."""

import asyncio
from typing import Any

import msgspec

import amqproxy
from amqproxy.codecs import DecodingFailed, Mismatch
from amqproxy.contract import Method


class Packed:
    """One type in MessagePack."""

    def __init__(self, kind: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)

    def encode(self, value: Any) -> bytes:
        try:
            body = msgspec.msgpack.encode(value)
            self._decoder.decode(body)  # the other side will read it so: whoever gives a wrong argument is told here
        except (msgspec.MsgspecError, TypeError, OverflowError, RecursionError) as error:
            raise Mismatch(str(error)) from error
        return body

    def decode(self, body: bytes) -> Any:
        try:
            return self._decoder.decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise DecodingFailed(str(error)) from error


class MessagePack:
    """The codec: what a request and a result look like, of each method."""

    name = "msgpack"
    forms = ("plain",)

    def request(self, method: Method) -> Packed:
        return Packed(method.request_type)

    def result(self, method: Method) -> Packed:
        return Packed(method.result_type)

    def anything(self) -> Packed:
        return Packed(Any)


@amqproxy.serve("thumbnails", codecs=(MessagePack(),), auto_delete=True)
class Thumbnails:
    async def shrink(self, image: bytes, width: int) -> bytes:  # bytes stay bytes, which JSON has none of
        return image[:width]


async def main() -> None:
    async with amqproxy.connect() as mq, mq.serve(Thumbnails()):
        thumbnails = mq.proxy(Thumbnails, encoding=MessagePack())
        print(await thumbnails.shrink(b"\x89PNG\r\n\x1a\n", 4))
        print(await amqproxy.options(thumbnails, compress_above=100).shrink(bytes(1000), 4))


if __name__ == "__main__":
    asyncio.run(main())
