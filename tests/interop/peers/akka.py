"""The samples of the Akka AMQP proxies: their tests are test_akka_samples.py, since they send one message each."""

from __future__ import annotations

import subprocess
import sys

from tests.interop.peer import EXAMPLES, Peer

NOTE = "a sample of the Akka AMQP proxies, which sends one message"


def has_amqp_gem() -> bool:
    return subprocess.run(["ruby", "-ramqp", "-e", ""], capture_output=True, check=False).returncode == 0


RUBY = Peer(
    "Ruby, amqp",
    caller=("ruby", str(EXAMPLES / "akka/caller.rb")),
    worker=None,
    encodings=(),
    language="ruby",
    installed=has_amqp_gem,
    elsewhere={"caller": ("json",)},
    note=NOTE,
)
PYTHON = Peer(
    "Python, pika, as of 2012",
    caller=(sys.executable, str(EXAMPLES / "akka/caller.py")),
    worker=(sys.executable, str(EXAMPLES / "akka/worker.py")),
    encodings=(),
    language=sys.executable,
    elsewhere={"caller": ("json",), "worker": ("json",)},
    note=NOTE,
)
PEERS = [RUBY, PYTHON]
