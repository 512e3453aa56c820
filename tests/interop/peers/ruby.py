"""Ruby, with bunny: examples/ruby."""

from __future__ import annotations

import subprocess

from tests.interop.peer import EXAMPLES, Peer


def installed() -> bool:
    """Whether Ruby finds its libraries, and they take the generated classes."""
    probe = ["ruby", "-rbunny", f"-r{EXAMPLES / 'ruby/codecs.rb'}", "-e", ""]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


PEERS = [
    Peer(
        name="Ruby, bunny",
        caller=("ruby", str(EXAMPLES / "ruby/caller.rb")),
        worker=("ruby", str(EXAMPLES / "ruby/worker.rb")),
        encodings=("json", "protobuf", "thrift"),
        language="ruby",
        installed=installed,
        note="the programs use the snappy gem where it is installed; Debian does not have it",
    )
]
