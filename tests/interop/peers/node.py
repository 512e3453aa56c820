"""Node's amqplib, with promises."""

from __future__ import annotations

from tests.interop.peer import EXAMPLES, Peer

NODE = EXAMPLES / "node"


def installed() -> bool:
    return (NODE / "node_modules/amqplib").exists()


PEERS = [
    Peer(
        "Node, amqplib",
        caller=("node", str(NODE / "caller.js")),
        worker=("node", str(NODE / "worker.js")),
        encodings=("json", "snappy-json", "gzip-json", "protobuf", "snappy-protobuf"),
        language="node",
        installed=installed,
        note="its library for Thrift is left out",
    )
]
