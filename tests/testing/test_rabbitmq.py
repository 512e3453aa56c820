"""The private RabbitMQ node: each promise of amqproxy/testing/rabbitmq.py, kept by real nodes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pika
import pytest

from amqproxy.testing import (
    RabbitMQ,
    RabbitMQNotInstalled,
    broker_product,
    find_rabbitmq,
    free_port,
    rabbitmq,
)

PROC = Path("/proc")
needs_proc = pytest.mark.skipif(not (PROC / "self" / "stat").exists(), reason="reads processes from /proc")


def declare(node: RabbitMQ, queue: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
        connection.channel().queue_declare(queue, durable=True)


def has_queue(node: RabbitMQ, queue: str) -> bool:
    with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
        try:
            connection.channel().queue_declare(queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return False
    return True


def processes() -> dict[int, int]:
    """Return each process with its parent, without those that have ended and only wait to be noticed."""
    found = {}
    for entry in PROC.glob("[0-9]*/stat"):
        try:
            state, parent, *_ = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended since
            continue
        if state != "Z":
            found[int(entry.parent.name)] = int(parent)
    return found


def descendants(ancestor: int) -> set[int]:
    parents, found = processes(), {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_node_answers_clients_and_rabbitmqctl(rabbitmq_node: RabbitMQ) -> None:
    declare(rabbitmq_node, "answers")
    assert "answers" in rabbitmq_node.ctl("list_queues", "name").split()
    assert broker_product(rabbitmq_node.host, rabbitmq_node.port) == f"RabbitMQ {rabbitmq_node.version}"
    assert repr(rabbitmq_node) == f"<RabbitMQ 127.0.0.1:{rabbitmq_node.port} running>"


def test_failed_rabbitmqctl_says_what_it_said(rabbitmq_node: RabbitMQ) -> None:
    with pytest.raises(RuntimeError, match=r"rabbitmqctl nonsense failed \(64\): Command 'nonsense' not found"):
        rabbitmq_node.ctl("nonsense")


def listening_addresses(node: RabbitMQ) -> list[str]:
    sockets = "[inet:ntoa(A) || P <- erlang:ports(), {ok, {A, _}} <- [catch inet:sockname(P)]]."
    return re.findall(r'"(.*?)"', node.ctl("eval", sockets))


def test_node_listens_on_the_loopback_interface_only(rabbitmq_node: RabbitMQ) -> None:
    addresses = listening_addresses(rabbitmq_node)
    assert len(addresses) >= 2  # for AMQP, and for rabbitmqctl
    assert set(addresses) == {"127.0.0.1"}


def test_stop_and_start_keep_the_port_and_durable_data(rabbitmq_node: RabbitMQ) -> None:
    declare(rabbitmq_node, "survives")
    for end in (rabbitmq_node.stop, rabbitmq_node.kill):
        port, pid = rabbitmq_node.port, rabbitmq_node.pid
        end()
        assert not rabbitmq_node.running
        with pytest.raises(RuntimeError, match="does not run"):
            _ = rabbitmq_node.pid
        with pytest.raises(ConnectionError, match=f"no AMQP 0-9-1 broker answers at 127.0.0.1:{port}"):
            broker_product(rabbitmq_node.host, port)
        rabbitmq_node.start()
        assert rabbitmq_node.port == port and rabbitmq_node.pid != pid
        assert has_queue(rabbitmq_node, "survives")


@needs_proc
def test_two_nodes_share_nothing_and_the_second_leaves_nothing(rabbitmq_node: RabbitMQ) -> None:
    before = descendants(os.getpid())
    with rabbitmq(config={"channel_max": 7}, plugins=["rabbitmq_consistent_hash_exchange"]) as second:
        declare(rabbitmq_node, "first")
        assert not has_queue(second, "first")
        with pika.BlockingConnection(pika.URLParameters(second.url)) as connection:
            assert connection._impl.params.channel_max == 7
            connection.channel().exchange_declare("hash", "x-consistent-hash")
        started = descendants(os.getpid()) - before
        assert second.pid in started
    assert not second.directory.exists()
    wait_until(lambda: not started & processes().keys())
    assert has_queue(rabbitmq_node, "first")


@needs_proc
def test_failed_start_tells_why_and_leaves_nothing(rabbitmq_node: RabbitMQ) -> None:
    before = descendants(os.getpid())
    node = RabbitMQ(config={"nonsense": 1})
    with pytest.raises(RuntimeError, match=r"(?s)did not start: it ended.*no setting with that name"):
        node.start()
    node.close()
    assert not node.directory.exists()
    wait_until(lambda: descendants(os.getpid()) <= before)


def test_port_in_use_is_named(rabbitmq_node: RabbitMQ) -> None:
    node = RabbitMQ()
    try:
        with (
            socket.create_server((node.host, node.port)),
            pytest.raises(RuntimeError, match=f"the port {node.port} is in use by another program"),
        ):
            node.start()
        node.start()
    finally:
        node.close()


@needs_proc
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_process_is_ended(
    rabbitmq_node: RabbitMQ, tmp_path: Path, sign: signal.Signals
) -> None:
    """However the process ends, and while the node is still starting."""
    script = "from amqproxy.testing import rabbitmq\nwith rabbitmq(): input()"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as user:
        try:
            wait_until(lambda: len(descendants(user.pid)) >= 4)  # the guard, epmd, Erlang and its first child
            started = descendants(user.pid)
        finally:
            user.send_signal(sign)
    assert user.returncode
    wait_until(lambda: not started & processes().keys())
    wait_until(lambda: not list(tmp_path.iterdir()))


def test_missing_rabbitmq_is_named_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(RabbitMQNotInstalled, match=r"not installed: .* apt-get install rabbitmq-server"):
        find_rabbitmq(str(tmp_path))


def test_packaged_script_without_its_rabbitmq_is_named(tmp_path: Path) -> None:
    script = tmp_path / "rabbitmq-server"
    script.touch(0o755)
    with pytest.raises(RabbitMQNotInstalled, match=f"{script} is there, but the RabbitMQ it belongs to was not"):
        find_rabbitmq(str(tmp_path))


def test_rabbitmq_is_found_through_links_and_behind_a_packaged_script(tmp_path: Path) -> None:
    for directory in ("sbin", "bin", "home/sbin", "home/plugins"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "sbin" / "rabbitmq-server").touch(0o755)
    (tmp_path / "home" / "sbin" / "rabbitmq-server").touch(0o755)
    (tmp_path / "home" / "sbin" / "rabbitmq-env").touch()
    (tmp_path / "bin" / "rabbitmq-server").symlink_to("../home/sbin/rabbitmq-server")
    assert find_rabbitmq(f"{tmp_path / 'sbin'}:{tmp_path / 'bin'}") == tmp_path / "home"


def stomp_answer(node: RabbitMQ) -> bytes:
    """What the plugin says to a client that introduces itself (STOMP 1.2, "Connecting")."""
    with socket.create_connection((node.host, node.ports["stomp"]), 10) as peer, peer.makefile("rb") as stream:
        peer.sendall(b"CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0")
        return stream.readline()


def test_plugins_listen_on_ports_of_the_nodes_own(rabbitmq_node: RabbitMQ) -> None:
    assert rabbitmq_node.ports == {}
    with rabbitmq(plugins=["rabbitmq_stomp", "rabbitmq_mqtt"]) as node:
        assert node.ports.keys() == {"stomp", "mqtt"}
        assert len({node.port, *node.ports.values()}) == 3
        assert stomp_answer(node) == b"CONNECTED\n"
        with socket.create_connection((node.host, node.ports["mqtt"]), 10) as peer:
            peer.sendall(b"\x10\x1a\0\x04MQTT\x04\xc2\0\0\0\0\0\x05guest\0\x05guest")
            assert peer.recv(4) == b"\x20\x02\0\0"  # CONNACK, accepted (MQTT 3.1.1, section 3.2)
        assert set(listening_addresses(node)) == {"127.0.0.1"}
        ports = dict(node.ports)
        node.stop()
        node.start()
        assert node.ports == ports
        assert stomp_answer(node) == b"CONNECTED\n"


def test_port_of_a_plugin_in_use_is_named(rabbitmq_node: RabbitMQ) -> None:
    node = RabbitMQ(plugins=["rabbitmq_stomp"])
    try:
        with (
            socket.create_server((node.host, node.ports["stomp"])),
            pytest.raises(RuntimeError, match=f"the port {node.ports['stomp']} is in use by another program"),
        ):
            node.start()
    finally:
        node.close()


def test_unknown_plugin_is_refused(rabbitmq_node: RabbitMQ) -> None:
    with pytest.raises(ValueError, match="has no plugin 'rabbitmq_nonsense'"):
        RabbitMQ(plugins=["rabbitmq_nonsense"])


def test_free_port_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass
