"""Record what the programs of examples/scala send, with: python -m tests.vectors.record.

It writes recorded.json and recorded/. The two programs stand on the libraries that the Akka AMQP proxies stood on. The
broker names their reply queues at random, so each run writes something else: what is committed was recorded once.
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from amqproxy.properties import Properties
from amqproxy.testing import broker_thread
from tests.interop.peers.scala import CALLER, WORKER
from tests.interop.program import outcome, serving
from tests.interop.tap import PUBLISH, Passed, Tap
from tests.vectors.line import Line

HERE = Path(__file__).parent
ORIGIN = "amqp-client 1.5, Akka 2.3.16"
LIBRARIES = {"json": "json4s-jackson 3.2.11", "protobuf": "protobuf-java 3.21.12", "thrift": "libthrift 0.17.0"}
ENCODINGS = ("json", "protobuf", "thrift", "snappy-json", "snappy-protobuf", "snappy-thrift")
DEMO = "com.github.sstone.amqp.proxy.Demo$"
PROTOBUF = "com.github.sstone.amqp.proxy.calculator.Calculator$"


def manifest_entry(name: str, kind: str, origin: str, message: Passed, **more: Any) -> dict[str, Any]:
    properties = Properties.decode(message.header)
    texts = ("content-type", "content-encoding", "delivery-mode", "correlation-id", "reply-to")
    values = {text: getattr(properties, text.replace("-", "_")) for text in texts}
    (HERE / "recorded" / f"{name}.bin").write_bytes(message.body)
    return {
        "name": name,
        "kind": kind,
        "origin": origin,
        **more,
        "exchange": message.exchange,
        "routing-key": message.routing_key,
        "mandatory": message.mandatory,
        "properties": {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items() if v is not None},
        "header": message.header.hex(),
        "file": f"recorded/{name}.bin",
        "size": len(message.body),
        "body": base64.b64encode(message.body).decode(),
    }


def published(tap: Tap) -> list[Passed]:
    return [message for message in tap.messages if message.method == PUBLISH]


async def record() -> list[dict[str, Any]]:
    told = []
    with broker_thread() as broker:
        async with Tap(broker.url).open() as tap, serving(*WORKER, tap.url, "calculator"):
            for encoding in ENCODINGS:
                await outcome(*CALLER, tap.url, "calculator", encoding)
                told += four(encoding, published(tap))
                tap.messages.clear()
            await asyncio.to_thread(provoke, broker.url)
            failures = {message.routing_key: message for message in published(tap)}
    for name, message in failures.items():
        origin = f"{ORIGIN}, json4s-jackson 3.2.11"
        told.append(manifest_entry(name, "failure", origin, message, value=json.loads(message.body), exact=False))
    return told


def four(encoding: str, messages: list[Passed]) -> list[dict[str, Any]]:
    """The sum and its reply, the quotient and its failure."""
    add, added, divide, failed = messages
    exact = not encoding.startswith("snappy-")  # compressors have a choice
    origin = f"{ORIGIN}, {LIBRARIES[encoding.removeprefix('snappy-')]}{'' if exact else ', snappy-java 1.1.10.8'}"
    name = f"scala-{encoding}"
    of_failure = f"{ORIGIN}, json4s-jackson 3.2.11"
    return [
        manifest_entry(f"{name}-add-request", "request", origin, add,
                       value={"x": 1, "y": 2}, exact=exact, answer=f"{name}-add-reply"),
        manifest_entry(f"{name}-add-reply", "reply", origin, added, value={"x": 1, "y": 2, "sum": 3}, exact=exact),
        manifest_entry(f"{name}-divide-request", "request", origin, divide,
                       value={"x": 1, "y": 0}, exact=exact, answer=f"{name}-failure"),
        manifest_entry(f"{name}-failure", "failure", of_failure, failed, value=json.loads(failed.body), exact=False),
    ]  # fmt: skip


PROVOCATIONS = {
    "scala-failure-class-unknown": (f"{DEMO}Zoë 林", "json", b'{"x":1,"y":2}'),
    "scala-failure-field-missing": (f"{DEMO}AddRequest", "json", b'{"x":1}'),
    "scala-failure-of-another-type": (f"{DEMO}AddRequest", "json", b'{"x":"one","y":2}'),
    "scala-failure-json-broken": (f"{DEMO}AddRequest", "json", b'{"x":1,'),
    "scala-failure-protobuf-incomplete": (f"{PROTOBUF}AddRequest", "protobuf", b"\x08\x01"),
    "scala-failure-snappy-broken": (f"{DEMO}AddRequest", "snappy-json", b"\xff\xff"),
    "scala-failure-encoding-unknown": (f"{DEMO}AddRequest", "xml", b"<add/>"),
    "scala-failure-class-missing": (None, "json", b"{}"),
}


def provoke(url: str) -> None:
    for name, (kind, encoding, body) in PROVOCATIONS.items():
        with Line(url, name, exclusive=True) as line:
            properties = Properties(
                content_type=None if kind is None else kind.encode(),
                content_encoding=encoding.encode(),
                correlation_id=b"1",
                reply_to=name.encode(),
            )
            line.send("calculator", properties.encode(), body)
            line.take()


if __name__ == "__main__":
    (HERE / "recorded").mkdir(exist_ok=True)
    text = json.dumps({"vectors": asyncio.run(record())}, indent=2, ensure_ascii=False)
    (HERE / "recorded.json").write_text(text + "\n")
