"""The public names: what users import does not change by accident."""

from __future__ import annotations

import subprocess
import sys

import amqproxy
from amqproxy import testing

NAMES = {
    "AMQProxyError", "AccessRefused", "Answers", "BadReply", "Blob", "Broadcast", "BrokerUnavailable", "Call",
    "CallError", "CallTimeout", "Client", "Closed", "ConnectionLost", "ContractError", "Deduplication",
    "EncodingFailed", "MessageTooLarge", "Next", "OutgoingCall", "Overloaded", "Progress", "Proxy", "RemoteError",
    "Retry", "RetryBudget", "Sender", "Signing", "State", "Store", "Stream", "TopologyConflict", "Unroutable",
    "WorkerAnswer", "WorkerLost", "breaker", "connect", "current", "deadline", "gather", "message", "method",
    "options", "progress", "provided", "run", "serve", "sync", "tracing", "track",
}  # fmt: skip
NAMES_FOR_TESTS = {
    "BrokerThread", "RabbitMQ", "RabbitMQNotInstalled", "START_TIMEOUT", "broker", "broker_product", "broker_thread",
    "find_rabbitmq", "free_port", "loopback", "rabbitmq",
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert set(amqproxy.__all__) == NAMES
    assert all(hasattr(amqproxy, name) for name in NAMES)


def test_the_names_for_tests_are_these_and_say_what_they_are() -> None:
    assert set(testing.__all__) == NAMES_FOR_TESTS
    names = NAMES_FOR_TESTS - {"START_TIMEOUT"}
    assert [name for name in names if not getattr(testing, name).__doc__] == []


def test_every_public_name_says_what_it_is() -> None:
    assert [name for name in NAMES if not getattr(amqproxy, name).__doc__] == []


def test_nothing_else_is_in_reach_but_modules() -> None:
    public = {name for name, value in vars(amqproxy).items() if not name.startswith("_")}
    modules = {name for name in public if f"amqproxy.{name}" in sys.modules}
    assert public - modules <= NAMES | {"annotations"}


def test_importing_the_package_does_not_import_what_only_a_connection_needs() -> None:
    heavy = "{'aio_pika', 'aiormq', 'amqproxy.broker', 'tenacity', 'typer', 'rich', 'pydantic', 'attrs'}"
    code = f"import sys, amqproxy; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
