"""RabbitMQ's Java client, bare and with its own RpcClient."""

from __future__ import annotations

import os

from tests.interop.peer import EXAMPLES, Peer

TARGET = EXAMPLES / "java/target"
# A program of a second is over before the better compiler and the other collectors pay.
JAVA = (
    *("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    *("-cp", os.pathsep.join([str(TARGET / "classes"), str(TARGET / "lib/*")])),
)


def installed() -> bool:
    return (TARGET / "installed").exists()


PEERS = [
    Peer(
        "Java, RabbitMQ client",
        caller=(*JAVA, "calculator.Caller"),
        worker=(*JAVA, "calculator.Worker"),
        encodings=("json", "snappy-json", "protobuf", "snappy-protobuf", "thrift", "snappy-thrift"),
        language="java",
        installed=installed,
    ),
    Peer(
        "Java, RpcClient",
        caller=(*JAVA, "calculator.RpcClientCaller"),
        worker=None,
        encodings=("json",),
        language="java",
        installed=installed,
        note="a caller for JSON, which shows the class and no more",
    ),
]
