"""Scala, on amqp-client and Akka: the libraries that the Akka AMQP proxies stood on.

Its messages are classes of their own. Plain parameters, `SERVICE.add`, have none, and so no JSON travels here;
test_scala.py has more of it.
"""

from __future__ import annotations

import os

from tests.interop.peer import EXAMPLES, Peer

TARGET = EXAMPLES / "scala/target"
JAVA = ("java", "-cp", os.pathsep.join([str(TARGET / "classes"), str(TARGET / "lib/*")]))
CALLER = (*JAVA, "com.github.sstone.amqp.proxy.Caller")
WORKER = (*JAVA, "com.github.sstone.amqp.proxy.Worker")

PEERS = [
    Peer(
        name="Scala, amqp-client",
        caller=CALLER,
        worker=WORKER,
        encodings=("protobuf", "snappy-protobuf", "thrift", "snappy-thrift"),
        language="java",
        installed=(TARGET / "installed").exists,
        elsewhere=dict.fromkeys(("caller", "worker"), ("json", "snappy-json")),
        note="its JSON has case classes, and no plain parameters",
    )
]
