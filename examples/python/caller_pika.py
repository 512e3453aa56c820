"""Calls a calculator through RabbitMQ with pika; it needs no amqproxy.

Usage: PYTHONPATH=examples python examples/python/caller_pika.py [URL [SERVICE [ENCODING]]]
"""

import json
import os
import sys
import uuid
from typing import Any

import calculator_pb2 as protobuf
import cramjam
import pika
from calculator_thrift import ttypes as thrift
from thrift.TSerialization import deserialize, serialize

URL = os.environ.get("AMQPROXY_URL", "amqp://guest:guest@localhost/")
FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
PACKAGE = "com.github.sstone.amqp.proxy.calculator"
SECONDS = 10


class Failure(Exception):
    """What the worker says went wrong."""


class Calculator:
    def __init__(self, channel: Any, service: str, encoding: str) -> None:
        self._channel = channel
        self._service = service
        self._encoding = encoding
        self._reply_queue = channel.queue_declare("", exclusive=True).method.queue
        channel.confirm_delivery()  # so that a request that no queue takes raises UnroutableError

    def add(self, x: int, y: int) -> int:
        match self._encoding.removeprefix("snappy-"):
            case "protobuf":
                request = protobuf.AddRequest(x=x, y=y).SerializeToString()
                reply = self._call(f"{PACKAGE}.Calculator$AddRequest", request)
                return protobuf.AddResponse.FromString(reply).sum
            case "thrift":
                reply = self._call(f"{PACKAGE}.AddRequest", serialize(thrift.AddRequest(x, y)))
                return int(deserialize(thrift.AddResponse(), reply).sum)
            case _:
                return int(json.loads(self._call(f"{self._service}.add", json.dumps({"x": x, "y": y}).encode())))

    def divide(self, x: int, y: int) -> float:
        match self._encoding.removeprefix("snappy-"):
            case "protobuf":
                request = protobuf.DivideRequest(x=x, y=y).SerializeToString()
                reply = self._call(f"{PACKAGE}.Calculator$DivideRequest", request)
                return protobuf.DivideResponse.FromString(reply).quotient
            case "thrift":
                reply = self._call(f"{PACKAGE}.DivideRequest", serialize(thrift.DivideRequest(x, y)))
                return float(deserialize(thrift.DivideResponse(), reply).quotient)
            case _:
                return float(json.loads(self._call(f"{self._service}.divide", json.dumps({"x": x, "y": y}).encode())))

    def _call(self, content_type: str, body: bytes) -> bytes:
        if self._encoding.startswith("snappy-"):
            body = bytes(cramjam.snappy.compress_raw(body))
        call_id = str(uuid.uuid4())
        properties = pika.BasicProperties(
            content_type=content_type,
            content_encoding=self._encoding,
            reply_to=self._reply_queue,
            correlation_id=call_id,
            message_id=call_id,
            expiration=str(SECONDS * 1000),
            delivery_mode=pika.DeliveryMode.Transient,
        )
        self._channel.basic_publish("", self._service, body, properties, mandatory=True)
        for _, answer, reply in self._channel.consume(self._reply_queue, auto_ack=True, inactivity_timeout=SECONDS):
            if answer is None:
                raise TimeoutError(f"{self._service} did not answer within {SECONDS} s")
            if answer.correlation_id == call_id:  # else it is late: an answer to a call that was given up
                return self._result(answer, reply)
        raise ConnectionError("the broker took the reply queue away")

    def _result(self, answer: Any, body: bytes) -> bytes:
        if answer.content_type == FAILURE:
            raise Failure(json.loads(body)["message"])
        return bytes(cramjam.snappy.decompress_raw(body)) if self._encoding.startswith("snappy-") else body


def main(url: str = URL, service: str = "calculator", encoding: str = "json") -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        calculator = Calculator(connection.channel(), service, encoding)
        print(f"1 + 2 = {calculator.add(1, 2)}")
        try:
            calculator.divide(1, 0)
        except Failure as error:
            print(f"1 / 0: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
