"""Programs of eight client libraries, in five languages, see the same whichever broker they talk to."""

from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.clients.scenarios import EXPECTED, OF_CELERY

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TIME_LIMIT = 60
"""Seconds that a program may take; on an idle machine the slowest takes four."""
CURE = "sh tests/clients/install.sh (or make test) does that"


@dataclass(frozen=True, slots=True)
class Client:
    """A program, and what it is to be started with."""

    name: str
    command: tuple[str, ...]
    scenarios: dict[str, Any] = field(compare=False, repr=False)
    """What it is to see in each scenario that its library has a way to."""
    needs: str = "."
    """A file, below this directory, that `install.sh` puts there."""
    language: str = sys.executable
    """What must be on the machine before `install.sh` can do anything."""

    @property
    def installed(self) -> bool:
        """Whether its language and its library are on this machine."""
        return shutil.which(self.command[0]) is not None and (HERE / self.needs).exists() and self._loads()

    def require(self) -> None:
        """Skip the test without the client; in CI only where its language is missing too."""
        if shutil.which(self.language) is None:
            pytest.skip(f"{self.language} is not on this machine, and so {self.name} is left out")
        if not self.installed:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{self.name} is not installed: {CURE}")

    @functools.cache  # noqa: B019
    def _loads(self) -> bool:
        """Whether Ruby finds its library, which has no place of ours."""
        probe = [self.command[0], "-rbunny", "-e", ""]
        return self.name != "bunny" or subprocess.run(probe, capture_output=True, check=False).returncode == 0

    @functools.cache  # noqa: B019  # as many as there are programs and brokers
    def run(self, url: str) -> dict[str, Any]:
        """Run the program, once for all its scenarios: what it saw, with Q for the prefix of its names."""
        prefix = f"test.{secrets.token_hex(6)}"
        program = subprocess.Popen(
            [*self.command, url, prefix],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = program.communicate(timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            out, err = program.communicate()
        saw = dict(json.loads(line.replace(prefix, "Q")) for line in out.splitlines())
        ending = f"the program ended, with code {program.returncode}, before it got there:\n{err}"
        return {scenario: saw.get(scenario, ending) for scenario in self.scenarios}


def python(module: str, *options: str) -> tuple[str, ...]:
    return (sys.executable, *options, "-m", f"tests.clients.{module}")


def all_but(*scenarios: str) -> dict[str, Any]:
    return {name: saw for name, saw in EXPECTED.items() if name not in scenarios}


CLIENTS = [
    Client("pika", python("pika_blocking", "-W", "error"), all_but("recovery")),
    Client(
        "pika-asyncio",
        python("pika_asyncio", "-W", "error"),
        all_but(
            *("fanout", "headers", "exchange_binding", "alternate_exchange", "confirms", "purge_and_delete"),
            *("time_to_live", "max_length", "priorities", "inequivalent", "properties", "recovery"),
        ),
    ),
    # It names queues itself, resumes a cancelled consumer, and acknowledges nothing that was not delivered.
    Client(
        "aio-pika",
        python("aio_pika_robust", "-W", "error"),
        all_but("server_named", "cancel_notify", "unknown_tag"),
    ),
    Client("kombu", python("kombu_program", "-W", "error"), all_but("cancel_notify", "transaction")),
    Client("celery", python("celery_program"), OF_CELERY),  # it warns whoever is root
    Client(
        "amqplib",
        ("node", str(HERE / "node/program.js")),
        all_but("transaction", "recovery"),
        needs="node/node_modules/amqplib",
        language="node",
    ),
    Client("bunny", ("ruby", str(HERE / "ruby/program.rb")), all_but(), language="ruby"),
    Client(
        "java",
        ("java", "-cp", os.pathsep.join([str(HERE / "java/lib"), str(HERE / "java/lib/*")]), "Scenarios"),
        all_but(),
        needs="java/lib/Scenarios.class",
        language="java",
    ),
    Client("amqp091-go", (str(HERE / "go/client"),), all_but(), needs="go/client", language="go"),
]


@pytest.mark.parametrize(
    ("client", "scenario"),
    [pytest.param(client, name, id=f"{client.name}-{name}") for client in CLIENTS for name in client.scenarios],
)
def test_a_program_sees_the_same_on_every_broker(client: Client, scenario: str, amqp_url: str) -> None:
    client.require()
    at = urlsplit(amqp_url)
    if (at.scheme, at.username, at.path.strip("/")) != ("amqp", "guest", ""):
        pytest.skip("the programs log in as guest, to the virtual host /, without TLS")
    assert client.run(amqp_url)[scenario] == client.scenarios[scenario]
