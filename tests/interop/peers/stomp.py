"""STOMP, by way of RabbitMQ's plugin: its URLs are of their own, and so are its tests, test_stomp.py."""

from __future__ import annotations

import sys

from tests.conftest import RABBITMQ
from tests.interop.peer import Peer

PEERS = [
    Peer(
        "STOMP, stomp.py",
        caller=None,
        worker=None,
        encodings=(),
        language=sys.executable,
        elsewhere=dict.fromkeys(("caller", "worker"), ("json", "snappy-json", "protobuf", "snappy-protobuf")),
        brokers=(RABBITMQ,),
        note="on RabbitMQ only, whose plugin it needs",
    )
]
