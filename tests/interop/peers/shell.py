"""The shell, with amqp-tools and jq: examples/shell."""

from __future__ import annotations

import shutil

from tests.interop.peer import EXAMPLES, Peer

PEERS = [
    Peer(
        name="shell, amqp-tools",
        caller=("sh", str(EXAMPLES / "shell/caller.sh")),
        worker=None,
        encodings=("json",),
        language="sh",
        installed=lambda: all(shutil.which(tool) for tool in ("amqp-publish", "amqp-consume", "jq", "timeout")),
        note="amqp-consume shows no properties, and so a worker would not know whom to answer",
    )
]
