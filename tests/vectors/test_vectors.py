"""What foreign libraries wrote is read here, answered as it should be, and written here just so."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import replace
from typing import Any

import pytest

import amqproxy
from amqproxy.codecs.registry import codecs
from amqproxy.contract import Method, contract_of
from amqproxy.properties import Properties
from amqproxy.wire import FAILURE_CLASS, decode_failure, encode_failure
from tests.vectors.line import Line
from tests.vectors.vector import REPLY_TO, VECTORS, Calculator, Vector, plain, properties_of

METHODS = contract_of(Calculator).methods.values()
CODECS = codecs(1 << 20)
MEANINGFUL = [vector for vector in VECTORS.values() if vector.kind != "failure" and vector.value is not None]
WRITABLE = [vector for vector in MEANINGFUL if not isinstance(vector.value, list)]
"""We write arguments by their names."""
FAILURES = [vector for vector in VECTORS.values() if vector.kind == "failure"]
REQUESTS = [vector for vector in VECTORS.values() if vector.kind == "request"]
ENCODINGS = sorted({vector.encoding for vector in REQUESTS if vector.code is None})


def method_of(vector: Vector) -> Method:
    """The method that a request calls, or that a reply comes from."""
    for method in METHODS:
        names = method.names if vector.kind == "request" else (method.reply_class,)
        # A class of protobuf and one of Thrift may share a name: the encoding tells them apart.
        if vector.message_class in names and ("thrift" in vector.encoding) is ("thrift" in method.forms):
            return method
    raise AssertionError(f"nothing here takes {vector.message_class} in {vector.encoding}")


def shape_of(vector: Vector) -> Any:
    codec, method = CODECS[vector.encoding], method_of(vector)
    return codec.request(method) if vector.kind == "request" else codec.result(method)


def meaning(vector: Vector) -> Any:
    """What the codec reads; arguments that came by position have no names there."""
    value = plain(shape_of(vector).decode(vector.body))
    return list(value.values()) if isinstance(vector.value, list) else value


@pytest.mark.parametrize("vector", MEANINGFUL, ids=lambda vector: vector.name)
def test_the_codec_reads_it(vector: Vector) -> None:
    assert meaning(vector) == vector.value


@pytest.mark.parametrize("vector", WRITABLE, ids=lambda vector: vector.name)
def test_the_codec_writes_it(vector: Vector) -> None:
    shape = shape_of(vector)
    value = shape.decode(vector.body)
    written = shape.encode(value)
    assert written == vector.body or not vector.exact
    assert shape.decode(written) == value


@pytest.mark.parametrize("vector", VECTORS.values(), ids=lambda vector: vector.name)
def test_its_properties_are_read_and_written(vector: Vector) -> None:
    assert Properties.decode(vector.header).encode() == vector.header
    assert properties_of(vector) == vector.properties


@pytest.mark.parametrize("vector", FAILURES, ids=lambda vector: vector.name)
def test_a_failure_is_read(vector: Vector) -> None:
    error = decode_failure(vector.body)
    assert error.message == (vector.value["message"] or "")
    assert error.type == vector.value["throwableAsString"].partition(":")[0]
    assert encode_failure(error) == vector.body or not vector.exact


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_worker_answers_it(encoding: str, amqp_url: str) -> None:
    queue = f"test.vectors.{secrets.token_hex(6)}"
    requests = [vector for vector in REQUESTS if vector.encoding == encoding and vector.code is None]
    async with amqproxy.connect(amqp_url) as mq, mq.serve(Calculator(), queue=queue, auto_delete=True):
        await asyncio.to_thread(ask_all, amqp_url, queue, requests)


def ask_all(url: str, queue: str, requests: list[Vector]) -> None:
    with Line(url, REPLY_TO, exclusive=True) as line:
        for request in requests:
            line.send(queue, addressed(request), request.body)
            if request.answer is not None:
                expected = VECTORS[request.answer]
                _, header, body = line.take()
                assert (request.name, header) == (request.name, expected.header)
                if expected.exact:
                    assert (request.name, body) == (request.name, expected.body)
                elif expected.kind == "failure":
                    assert decode_failure(body).message == "division by zero"  # each language has a text of its own
                else:
                    assert plain(shape_of(expected).decode(body)) == expected.value
        assert line.is_quiet()


def addressed(request: Vector) -> bytes:
    """The properties as they are, but for the reply queue of a recorded request: it is long gone."""
    properties = Properties.decode(request.header)
    if properties.reply_to in (None, REPLY_TO.encode()):
        return request.header
    return replace(properties, reply_to=REPLY_TO.encode()).encode()


async def test_a_worker_refuses_it(amqp_url: str) -> None:
    queue = f"test.vectors.{secrets.token_hex(6)}"
    refused = [vector for vector in REQUESTS if vector.code is not None]
    async with amqproxy.connect(amqp_url) as mq, mq.serve(Calculator(), queue=queue, auto_delete=True):
        await asyncio.to_thread(ask_in_vain, amqp_url, queue, refused)


def ask_in_vain(url: str, queue: str, requests: list[Vector]) -> None:
    with Line(url, REPLY_TO, exclusive=True) as line:
        for request in requests:
            line.send(queue, request.header, request.body)
            properties, _, body = line.take()
            assert (properties.content_type, properties.content_encoding) == (FAILURE_CLASS, "json")
            assert properties.correlation_id == request.properties["correlation-id"]
            assert (request.name, json.loads(body)["error"]["code"]) == (request.name, request.code)


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_proxy_asks_so_and_reads_the_answer(encoding: str, amqp_url: str) -> None:
    """The requests are compared with the vectors, and answered with their replies: any worker could do that."""
    queue = f"test.vectors.{secrets.token_hex(6)}"
    with Line(amqp_url, queue, exclusive=False) as line:
        async with amqproxy.connect(amqp_url) as mq:
            calc = mq.proxy(Calculator, routing_key=queue, encoding=encoding, timeout=20)
            for request in REQUESTS:
                if request.encoding == encoding and request.answer is not None:
                    await compare(calc, line, request, VECTORS[request.answer])


async def compare(calc: Any, line: Line, request: Vector, reply: Vector) -> None:
    method = method_of(request)
    call = asyncio.create_task(getattr(calc, method.name)(**arguments(request, method)))
    properties, _, body = await asyncio.to_thread(line.take)
    assert (properties.content_type, properties.delivery_mode) == (method.request_class, 1)
    assert properties.content_encoding == request.encoding
    assert (request.name, body) == (request.name, request.body) or not request.exact
    assert plain(shape_of(request).decode(body)) == plain(shape_of(request).decode(request.body))
    like_it = Properties(
        content_type=reply.message_class.encode(),
        content_encoding=reply.encoding.encode(),
        correlation_id=properties.correlation_id.encode(),
    )
    await asyncio.to_thread(line.send, properties.reply_to, like_it.encode(), reply.body)
    if reply.kind == "failure":
        with pytest.raises(amqproxy.RemoteError) as caught:
            await call
        assert caught.value.message == reply.value["message"]
    else:
        assert plain(await call) == reply.value


def arguments(request: Vector, method: Method) -> dict[str, Any]:
    value = shape_of(request).decode(request.body)
    return {next(iter(method.signature.parameters)): value} if method.takes_message else plain(value)
