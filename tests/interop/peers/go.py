"""RabbitMQ's Go client."""

from __future__ import annotations

from tests.interop.peer import EXAMPLES, Peer

BIN = EXAMPLES / "go/bin"


def installed() -> bool:
    return (BIN / "worker").exists()


PEERS = [
    Peer(
        "Go, amqp091-go",
        caller=(str(BIN / "caller"),),
        worker=(str(BIN / "worker"),),
        encodings=("json", "snappy-json", "gzip-json", "protobuf", "snappy-protobuf"),
        language="go",
        installed=installed,
        note="its library for Thrift is left out",
    )
]
