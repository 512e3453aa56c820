"""A private RabbitMQ for tests and demonstrations, made from an installed ``rabbitmq-server``.

    with rabbitmq() as node:
        async with amqproxy.connect(node.url) as mq: ...

The node has a temporary directory, a name, ports and an Erlang port mapper (epmd) of its own, listens on the
loopback interface only, and shares nothing with the machine's own broker: no service is started, stopped or
read. Several nodes may run at once. What was started is ended and what was written is removed when the block
is left, and also when this process dies without a chance to clean up.

Only the standard library is used, and importing this module starts nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HOST = "127.0.0.1"
START_TIMEOUT = 60.0
"""Seconds within which a node must accept AMQP connections; on an idle two-core machine it takes three."""
STOP_TIMEOUT = 30.0
"""Seconds that an orderly shutdown may take before the node is killed; it takes about one."""
CTL_TIMEOUT = 60.0
"""Seconds that a `rabbitmqctl` command may take."""

# The listeners of plugins, by what their settings begin with. Left alone they listen on every interface, and two nodes
# would want the same port.
_LISTENERS = {"rabbitmq_stomp": "stomp", "rabbitmq_mqtt": "mqtt"}

_POLL_INTERVAL = 0.02
_GREETING_TIMEOUT = 5.0
_GUARD_TIMEOUT = 3.0
_EXCERPT_LINES = 20

# Below the ephemeral ranges of Linux (from 32768) and macOS (from 49152): no outgoing connection can take the
# port of a node that is stopped.
_PORTS = range(20000, 32000)

# Where packages and Homebrew put rabbitmq-server, besides $PATH: that of a normal user lacks the sbin ones.
_USUAL_PLACES = (
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/opt/homebrew/sbin",
    "/opt/homebrew/bin",
    "/usr/lib/rabbitmq/bin",
)

_CURE = (
    "install it (Debian and Ubuntu: apt-get install rabbitmq-server; Fedora: dnf install rabbitmq-server; "
    "macOS: brew install rabbitmq), or name a running broker by its URL instead"
)

# Outlives this process, however that ends, to end what it started. Its input says which processes have started
# (+) and ended (-); when no more can come, it kills those that are left.
_GUARD = """\
running=
while read -r change pid; do
    others=
    for known in $running; do [ "$known" = "$pid" ] || others="$others $known"; done
    running=$others
    [ "$change" = - ] || running="$running $pid"
done
[ -z "$running" ] || kill -KILL $running
rm -rf "$1" || { sleep 1; rm -rf "$1"; }
"""

# A process tells the guard of itself, over its first standard input: there is no moment at which it runs and
# only we, who may be interrupted or killed, know of it.
_GUARDED = 'echo "+ $$" >&0 && exec "$@" </dev/null'


class RabbitMQNotInstalled(RuntimeError):
    """No usable ``rabbitmq-server`` was found on this machine. The message names the cure."""


class RabbitMQ:
    """One private node: started and stopped as often as a test needs, with one name, port and database.

    Args:
        config: Lines of ``rabbitmq.conf`` (https://www.rabbitmq.com/docs/configure#config-file), such as
            ``{"channel_max": 8, "heartbeat": 1}``. Changes of `config` count from the next `start`.
        plugins: Plugins to enable, such as ``rabbitmq_stomp``. None is enabled otherwise.

    Raises:
        RabbitMQNotInstalled: There is no ``rabbitmq-server``, or no Erlang to run it.
        ValueError: The installed RabbitMQ has no plugin of that name.
    """

    config: dict[str, str | int | bool]
    """Lines of ``rabbitmq.conf`` beside the node's own; read by each `start`."""
    host = HOST
    port: int
    """The AMQP port; the same for every start."""
    ports: dict[str, int]
    """The ports of plugins with a protocol of their own, as in ``ports["stomp"]``; the same for every start."""
    name: str
    """The Erlang node name, as `rabbitmqctl` wants it."""
    directory: Path
    """All that the node writes; removed by `close`."""
    version: str
    """The version that the broker names in its greeting; empty until it was started."""

    def __init__(self, *, config: Mapping[str, str | int | bool] | None = None, plugins: Iterable[str] = ()) -> None:
        self.config = dict(config or {})
        self.version = ""
        self.name = f"amqproxy-{secrets.token_hex(4)}@localhost"
        self._plugins = tuple(plugins)
        protocols = [_LISTENERS[plugin] for plugin in self._plugins if plugin in _LISTENERS]
        self.port, self._dist_port, self._epmd_port, *others = _distinct_ports(3 + len(protocols))
        self.ports = dict(zip(protocols, others, strict=True))
        home = find_rabbitmq()
        self._epmd_command = _find_epmd()
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self.directory = Path(tempfile.mkdtemp(prefix="amqproxy-rabbitmq-"))
        self._logs = (self.directory / "output.txt", self.directory / "rabbit.log")
        try:
            self._start_guard()
            self._furnish(home)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        """Return the address and the state, as in ``<RabbitMQ 127.0.0.1:25672 running>``."""
        return f"<RabbitMQ {self.host}:{self.port} {'running' if self.running else 'stopped'}>"

    @property
    def url(self) -> str:
        """The AMQP URL, with the user guest, which RabbitMQ lets in from the loopback interface only."""
        return f"amqp://guest:guest@{self.host}:{self.port}/"

    @property
    def running(self) -> bool:
        """Whether the node's process is there."""
        return self._node is not None and self._node.poll() is None

    @property
    def pid(self) -> int:
        """The Erlang machine's process, for signals and its CPU time. RuntimeError when it does not run."""
        if self._node is None or not self.running:
            raise RuntimeError("this RabbitMQ node does not run; start() it first")
        return self._node.pid

    @property
    def log(self) -> str:
        """All that the node has printed and logged since it was last started."""
        return "".join(file.read_text(errors="replace") for file in self._logs if file.exists())

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start the node, again too, and return when it answers an AMQP handshake. Does nothing when it runs.

        Raises:
            RuntimeError: It ended, or did not answer within `timeout` seconds; with what its log says.
        """
        if self.running:
            return
        self.kill()  # it may have ended by itself
        deadline = time.monotonic() + timeout
        try:
            self._write_config()
            for file in self._logs:
                file.unlink(missing_ok=True)
            self._start_epmd(deadline)
            self._start_node()
            self._wait_until_ready(deadline)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Shut the node down in order: connections end with 320 CONNECTION_FORCED, durable data stays."""
        if self._node is None:
            return
        self._node.terminate()
        try:
            self._node.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """End the node at once by SIGKILL, as a crash or a power cut does. What it had on disk stays."""
        if self._node is not None:
            self._end(self._node)
            self._node = None

    def close(self) -> None:
        """End the node and its port mapper, and remove all they wrote. The node cannot be started again."""
        self.kill()
        if self._epmd is not None:
            self._end(self._epmd)
            self._epmd = None
        if self._guard is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # a process forked from us holds its input open
                self._guard.communicate(timeout=_GUARD_TIMEOUT)
            self._guard.kill()
            self._guard.wait()
            self._guard = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def ctl(self, *arguments: str, timeout: float = CTL_TIMEOUT) -> str:
        """Run ``rabbitmqctl`` on this node and return what it printed, without its headings.

        Raises:
            RuntimeError: The command failed; with its own words.
            subprocess.TimeoutExpired: It took longer than `timeout` seconds.
        """
        done = subprocess.run(
            [self._home / "sbin" / "rabbitmqctl", "--silent", "--node", self.name, *arguments],
            env=self._environment(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            said = "\n".join((done.stderr or done.stdout).strip().splitlines()[:_EXCERPT_LINES])
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)} failed ({done.returncode}): {said}")
        return done.stdout

    def _furnish(self, home: Path) -> None:
        """Write what stays the same for every start."""
        (self.directory / "home").mkdir()
        cookie = self.directory / "home" / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)  # Erlang refuses a cookie that others may read
        (self.directory / "environment.conf").touch()
        (self.directory / "advanced.config").write_text("[].\n")
        (self.directory / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        self._home = _lean_home(home, self.directory / "rabbitmq", self._plugins)

    def _write_config(self) -> None:
        listeners = {f"{protocol}.listeners.tcp.1": f"{self.host}:{port}" for protocol, port in self.ports.items()}
        lines = {"listeners.tcp.1": f"{self.host}:{self.port}", **listeners, "log.console": False, **self.config}
        text = "".join(f"{key} = {_conf_value(value)}\n" for key, value in lines.items())
        (self.directory / "rabbitmq.conf").write_text(text)

    def _environment(self) -> dict[str, str]:
        """Return the node's whole environment, and rabbitmqctl's: nothing of the machine's own leaks in."""
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        dist_ports = f"inet_dist_listen_min {self._dist_port} inet_dist_listen_max {self._dist_port}"
        return {
            "PATH": _search_path(),
            "LANG": "C.UTF-8",
            "HOME": str(self.directory / "home"),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_SCRIPTS_DIR": str(self._home / "sbin"),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "environment.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.directory / "conf.d" / "*.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "database"),
            "RABBITMQ_LOG_BASE": str(self.directory),  # of the log of upgrades
            "RABBITMQ_LOGS": str(self.directory / "rabbit.log"),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            # The name is given to Erlang itself, not only to RabbitMQ, which would start a second Erlang
            # machine to make sure of an epmd. "+B i": Ctrl-C is not for the node.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-sname {self.name} {loopback} {dist_ports} +B i",
            "RABBITMQ_CTL_ERL_ARGS": loopback,
            # Neither Erlang nor RabbitMQ, which tries every minute, may start an epmd: it would outlive us.
            "ERL_FLAGS": "-start_epmd false",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_CRASH_DUMP": str(self.directory / "erl_crash.dump"),
            "ERL_CRASH_DUMP_SECONDS": "0",
            # The script then becomes the Erlang machine instead of waiting for it: signals reach the node.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _start_epmd(self, deadline: float) -> None:
        if self._epmd is not None and self._epmd.poll() is None:
            return
        command = [self._epmd_command, "-port", str(self._epmd_port), "-address", self.host]
        self._epmd = self._spawn(command)
        while not _epmd_answers(self.host, self._epmd_port):
            self._give_up_if(self._epmd.poll() is not None, "its port mapper (epmd) ended")
            self._give_up_if(time.monotonic() > deadline, "its port mapper (epmd) did not answer")
            time.sleep(_POLL_INTERVAL / 4)

    def _start_node(self) -> None:
        self._node = self._spawn([self._home / "sbin" / "rabbitmq-server"])

    def _start_guard(self) -> None:
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", self.directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def _spawn(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start a process under guard, which no Ctrl-C of ours reaches."""
        if self._guard is None or self._guard.poll() is not None:
            self._start_guard()
        assert self._guard is not None
        with (self.directory / "output.txt").open("ab") as output:
            return subprocess.Popen(
                ["/bin/sh", "-c", _GUARDED, "guarded", *command],
                env=self._environment(),
                cwd=self.directory,
                stdin=self._guard.stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        if self._guard is not None and self._guard.stdin is not None:
            # Without the guard, should somebody have killed it, all works but the clean-up after a hard end.
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.write(b"- %d\n" % process.pid)
                self._guard.stdin.flush()

    def _wait_until_ready(self, deadline: float) -> None:
        while not (greeting := _greeting(self.host, self.port)):
            self._give_up_if(not self.running, "it ended")
            self._give_up_if(time.monotonic() > deadline, "it did not answer in time")
            time.sleep(_POLL_INTERVAL)
        self.version = _server_property(greeting, b"version")
        while self._plugins and "Server startup complete" not in self.log:  # plugins start after the listener
            self._give_up_if(not self.running, "it ended")
            self._give_up_if(time.monotonic() > deadline, "its plugins did not start in time")
            time.sleep(_POLL_INTERVAL)

    def _give_up_if(self, hopeless: bool, reason: str) -> None:
        if hopeless:
            if taken := re.search(r"acceptor,\{[\d,]+\},(\d+)\},eaddrinuse", self.log):
                raise RuntimeError(
                    f"the private RabbitMQ node did not start: the port {taken[1]} is in use by another program; "
                    "end that, or let this node have another port"
                )
            raise RuntimeError(
                f"the private RabbitMQ node did not start: {reason}. Its log says:\n"
                + "\n".join(_excerpt(self.log.splitlines()))
            )


@contextmanager
def rabbitmq(
    *, config: Mapping[str, str | int | bool] | None = None, plugins: Iterable[str] = ()
) -> Iterator[RabbitMQ]:
    """Start a private node, give it to the block, remove every trace after. Arguments as for `RabbitMQ`.

    Raises:
        RabbitMQNotInstalled: There is no ``rabbitmq-server``, or no Erlang to run it.
        RuntimeError: The node did not come up; with what its log says about it.
    """
    node = RabbitMQ(config=config, plugins=plugins)
    try:
        node.start()
        yield node
    finally:
        node.close()


def find_rabbitmq(search: str | None = None) -> Path:
    """Return the directory of the installed RabbitMQ: the one with ``sbin`` and ``plugins`` in it.

    Args:
        search: Directories to look in, as in ``$PATH``; that and the usual places unless given.

    Raises:
        RabbitMQNotInstalled: Nothing there, or something that is no complete RabbitMQ.
    """
    found = None
    for place in (_search_path() if search is None else search).split(os.pathsep):
        server = Path(place) / "rabbitmq-server"
        if not os.access(server, os.X_OK):
            continue
        # Packages put a script on $PATH that changes user to "rabbitmq", and the real one elsewhere; only the
        # real one has rabbitmq-env beside it and can be run by anybody.
        found = found or server
        home = server.resolve().parent.parent
        if (home / "sbin" / "rabbitmq-env").exists() and (home / "plugins").is_dir():
            return home
    if found is None:
        raise RabbitMQNotInstalled(f"RabbitMQ is not installed: no rabbitmq-server was found; {_CURE}")
    raise RabbitMQNotInstalled(f"{found} is there, but the RabbitMQ it belongs to was not found; {_CURE}")


def free_port() -> int:
    """Return a TCP port that nobody listens on at the loopback interface, and that no connection is given."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            # As servers do: a port with connections in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise RuntimeError(f"no port of {_PORTS.start} to {_PORTS.stop - 1} is free on {HOST}")


def broker_product(host: str, port: int) -> str:
    """Return what the broker at `host` and `port` calls itself, as in ``RabbitMQ 3.10.8``; it needs no login.

    Raises:
        ConnectionError: Nobody there speaks AMQP 0-9-1 without TLS.
    """
    greeting = _greeting(host, port)
    if not greeting:
        raise ConnectionError(f"no AMQP 0-9-1 broker answers at {host}:{port}")
    return f"{_server_property(greeting, b'product')} {_server_property(greeting, b'version')}".strip()


def _search_path() -> str:
    return os.pathsep.join([*os.environ.get("PATH", "").split(os.pathsep), *_USUAL_PLACES])


def _find_epmd() -> str:
    """Return Erlang's port mapper: on $PATH with most packages, and always beside the Erlang machine."""
    path = _search_path()
    if epmd := shutil.which("epmd", path=path):
        return epmd
    erl = shutil.which("erl", path=path)
    if erl is not None:
        for beside in sorted(Path(erl).resolve().parent.parent.glob("erts-*/bin/epmd")):
            return str(beside)
    raise RabbitMQNotInstalled(f"RabbitMQ is installed, but not the Erlang that runs it; {_CURE}")


def _distinct_ports(count: int) -> list[int]:
    ports: dict[int, None] = {}
    while len(ports) < count:
        ports[free_port()] = None
    return list(ports)


def _lean_home(home: Path, lean: Path, plugins: tuple[str, ...]) -> Path:
    """Make a RabbitMQ directory of links that holds only what the node needs, and return it.

    Erlang looks for each of a thousand modules in every directory of its path, and RabbitMQ puts all plugins
    there, enabled or not: without them a start takes three seconds where it took six.
    """
    directories = (entry for entry in (home / "plugins").iterdir() if entry.is_dir())
    available = {directory.name.rsplit("-", 1)[0]: directory for directory in directories}
    if "rabbit" not in available:
        return home  # plugins packed as archives: an old or unusual layout
    for plugin in plugins:
        if plugin not in available:
            raise ValueError(f"the installed RabbitMQ has no plugin {plugin!r} in {home / 'plugins'}")
    (lean / "plugins").mkdir(parents=True)
    for entry in home.iterdir():
        if entry.name != "plugins":
            (lean / entry.name).symlink_to(entry)
    for application in _with_dependencies({"rabbit", *plugins}, available):
        directory = available[application]
        (lean / "plugins" / directory.name).symlink_to(directory)
    return lean


def _with_dependencies(wanted: set[str], available: dict[str, Path]) -> set[str]:
    """Return `wanted` and all they need by their .app files (https://www.erlang.org/doc/apps/kernel/app)."""
    needed: set[str] = set()
    while wanted:
        application = wanted.pop()
        needed.add(application)
        description = (available[application] / "ebin" / f"{application}.app").read_text()
        dependencies = re.search(r"{\s*applications\s*,\s*\[([^\]]*)\]", description)
        names = re.findall(r"[\w.]+", dependencies[1]) if dependencies else ()
        wanted |= {name for name in names if name in available} - needed
    return needed


def _conf_value(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _excerpt(lines: list[str]) -> list[str]:
    """Return where the trouble begins, which is what to read, or else the end of a log."""
    first = next((number for number, line in enumerate(lines) if "[error]" in line), -_EXCERPT_LINES)
    return lines[first:][:_EXCERPT_LINES]


def _epmd_answers(host: str, port: int) -> bool:
    """Say whether a port mapper answers (NAMES_REQ, https://www.erlang.org/doc/apps/erts/erl_dist_protocol)."""
    try:
        with socket.create_connection((host, port), _GREETING_TIMEOUT) as peer:
            peer.sendall(b"\x00\x01n")
            return peer.recv(4) == port.to_bytes(4)
    except OSError:
        return False


def _greeting(host: str, port: int) -> bytes:
    """Return the broker's answer to a protocol header, its connection.start frame, or nothing without one.

    See AMQP 0-9-1, 2.2.4 and 4.2.2. A listening socket alone would not prove that the broker speaks.
    """
    try:
        with socket.create_connection((host, port), _GREETING_TIMEOUT) as peer, peer.makefile("rb") as stream:
            peer.sendall(b"AMQP\x00\x00\x09\x01")
            header = stream.read(7)
            if header[:3] != b"\x01\x00\x00":
                return b""
            return header + stream.read(int.from_bytes(header[3:7]) + 1)
    except OSError:
        return b""


def _server_property(greeting: bytes, name: bytes) -> str:
    """Return a text among the server properties of a connection.start frame, or an empty one."""
    key = bytes([len(name)]) + name + b"S"
    _, found, value = greeting.partition(key)
    length = int.from_bytes(value[:4])
    return value[4 : 4 + length].decode(errors="replace") if found else ""
