"""Python without amqproxy, with pika and with kombu: examples/python."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from tests.interop.peer import EXAMPLES, Peer

FORMS = ("json", "protobuf", "thrift")


def python(program: str) -> tuple[str, ...]:
    """The command of a program that imports the generated classes in examples/."""
    return ("env", f"PYTHONPATH={EXAMPLES}", sys.executable, str(EXAMPLES / "python" / program))


def loads(*modules: str) -> bool:
    return all(find_spec(module) for module in modules)


PEERS = [
    Peer(
        name="Python, pika",
        caller=python("caller_pika.py"),
        worker=python("worker_pika.py"),
        encodings=(*FORMS, *(f"snappy-{form}" for form in FORMS)),
        language=sys.executable,
        installed=lambda: loads("cramjam", "google", "google.protobuf", "pika", "thrift"),
    ),
    Peer(
        name="Python, kombu",
        caller=python("caller_kombu.py"),
        worker=python("worker_kombu.py"),
        encodings=("json",),
        language=sys.executable,
        installed=lambda: loads("kombu"),
        note="the programs are written for JSON only",
    ),
]
