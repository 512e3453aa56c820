"""Imports inside amqproxy go down only: a table of layers, held against each import of each file."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "amqproxy"
TOP = "__init__"

# From the bottom to the top. A module may import modules of layers below, and of its own in one direction.
LAYERS: tuple[tuple[str, set[str]], ...] = (
    (
        "values",
        {
            *("addresses", "alive", "blob", "bounds", "codecs", "contract", "deadletter", "deadline"),
            *("deduplication", "errors", "fields", "messages", "options", "properties", "provided", "retry"),
            *("scope", "shown", "signature", "signing", "states", "topology", "trace", "url", "wire"),
        },
    ),
    (
        "pure machines",
        {
            *("acks", "calls", "circuit", "confirms", "flow", "frames", "memory", "scaling", "series"),
            *("shedding", "tally", "vigil"),
        },
    ),
    ("the link", {"backoff", "connection", "dial", "forgotten", "lane", "link", "reasons", "signed", "tls"}),
    (
        "what users call",
        {
            *("answer", "bars", "batch", "batching", "breaker", "broadcast", "caller", "confirming"),
            *("control", "conversation", "conversing", "deadqueue", "deduplicating", "fed", "handback", "handler"),
            *("heartbeat", "line", "lines", "middleware", "once", "outbox", "overload", "parking", "payload", "poll"),
            *("progress", "providers", "proxy", "publisher", "received", "redis", "remote", "replies"),
            *("retrying", "sender", "server", "session", "stream", "streaming", "surrounding", "threads"),
            *("timebox", "tracing", "turns"),
        },
    ),
    ("what connect() returns", {"client", "embedded", "sync"}),
    ("edges", {"cli", "generate", "pytest_plugin", "runner", "supervisor", "testing"}),
    ("the top", {TOP, "__main__"}),
)
LAYER_OF = {module: number for number, (_, modules) in enumerate(LAYERS) for module in modules}
PURE = LAYER_OF["calls"]
CLIENT = LAYER_OF["client"]
EDGES = LAYER_OF["cli"]

# The embedded broker stands beside the layers: it is built on values and pure machines alone. Who connects to RabbitMQ
# shall not pay for it: what may import it at all does so when it is needed, types excepted.
ISLAND = "broker"
KNOWN = LAYER_OF.keys() | {ISLAND}

# Two halves that meet in the wire format only.
CALLING = frozenset(
    {
        *("answer", "batch", "broadcast", "caller", "confirming", "conversation", "conversing", "line", "lines"),
        *("outbox", "payload", "poll", "progress", "proxy", "publisher", "received", "remote", "retrying"),
        *("sender",),
    }
)
SERVING = frozenset(
    {
        *("batching", "control", "deduplicating", "fed", "handback", "handler", "heartbeat", "once", "overload"),
        *("parking", "providers", "replies", "server", "session", "streaming", "surrounding", "threads", "turns"),
    }
)

# Written as a user would write it, and so with `import amqproxy`.
AS_USERS_DO = frozenset({"cli/demo_service.py"})

IMPURE = frozenset({"aio_pika", "aiormq", "asyncio", "pamqp", "time"})
COLD = frozenset({"aio_pika", "aiormq"})
MEDIATORS = frozenset({"dial", "link", "reasons"})


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name, seen from the directory of the package."""

    place: str
    importer: str
    imported: str
    """A module of ours, or the top-level name of somebody else's."""
    ours: bool
    at_once: bool
    """Whether importing the file imports it too: not so in a function, or for types only."""


def imports(path: str, source: str, modules: frozenset[str]) -> Iterator[Import]:
    """Yield what a file imports, wherever it does that: under TYPE_CHECKING and in functions too."""
    *directories, name = path.removesuffix(".py").split("/")
    importer = [*directories, name][0]
    tree = ast.parse(source, path)
    in_functions = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
    }
    for_types = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.If) and ast.unparse(outer.test) == "TYPE_CHECKING"
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            targets = list(from_targets(node, ["amqproxy", *directories]))
        else:
            continue
        for target in targets:
            ours = target[0] == "amqproxy"
            imported = own_module(target, modules) if ours else target[0]
            if imported == TOP and path in AS_USERS_DO:
                continue
            at_once = id(node) not in in_functions | for_types
            yield Import(f"amqproxy/{path}:{node.lineno}", importer, imported, ours, at_once)


def from_targets(node: ast.ImportFrom, package: list[str]) -> Iterator[list[str]]:
    """Yield the dotted name of each thing that a ``from`` statement names, whether module or not."""
    base = package[: len(package) - node.level + 1] if node.level else []
    if node.module:
        base = [*base, *node.module.split(".")]
    for alias in node.names:
        yield [*base, alias.name]


def own_module(target: list[str], modules: frozenset[str]) -> str:
    """Return the module right below the package, or the top for names that only ``__init__`` can define."""
    if len(target) == 1 or (len(target) == 2 and target[1] not in modules):
        return TOP
    return target[1]


def violations(sources: Mapping[str, str]) -> list[str]:
    """Return a sentence for each breach in `sources`, files by their path in the package."""
    modules = frozenset(path.removesuffix(".py").split("/")[0] for path in sources) | KNOWN
    found = [imported for path, source in sources.items() for imported in imports(path, source, modules)]
    unknown = sorted(modules - KNOWN)
    sentences = [f"{module} is in no layer: name it in LAYERS of tests/test_layers.py" for module in unknown]
    sentences += [f"{one.place} {breach}" for one in found if (breach := breach_of(one))]
    if circle := circle_among(found):
        sentences.append(f"these import each other in a circle: {' -> '.join(circle)}")
    return sentences


def breach_of(one: Import) -> str | None:
    """Return what is wrong with an import, to follow the place where it stands."""
    if one.importer not in KNOWN:
        return None  # reported once, as unknown
    if one.ours:
        return breach_inside(one)
    if one.imported in IMPURE and LAYER_OF.get(one.importer, EDGES) <= PURE:
        return f"imports {one.imported}: {one.importer} is pure, without event loop, clock and AMQP library"
    if one.imported in COLD and one.importer not in MEDIATORS:
        return f"imports {one.imported}: only {', '.join(sorted(MEDIATORS))} do"
    return None


def breach_inside(one: Import) -> str | None:
    importer, imported = one.importer, one.imported
    if importer == imported:
        return None
    if imported not in KNOWN:
        return f"imports {imported}, which is in no layer"
    if importer == ISLAND:
        above = LAYER_OF[imported] > PURE
        return f"imports {imported}: the broker imports values and pure machines only" if above else None
    if imported == ISLAND:
        allowed = LAYER_OF[importer] >= CLIENT and not one.at_once
        return None if allowed else "imports broker: only connect() and edges do, inside a function"
    if (importer in CALLING and imported in SERVING) or (importer in SERVING and imported in CALLING):
        return f"imports {imported}: the calling and the serving half never import each other"
    if LAYER_OF[imported] > LAYER_OF[importer]:
        return f"imports {imported} of a higher layer: {title(importer)} below {title(imported)}"
    return None


def title(module: str) -> str:
    return f"{module} ({LAYERS[LAYER_OF[module]][0]})"


def circle_among(found: list[Import]) -> list[str]:
    """Return modules of ours that import each other, the first one again at the end, or nothing."""
    graph: dict[str, set[str]] = {}
    for one in found:
        if one.ours and one.imported != one.importer:
            graph.setdefault(one.importer, set()).add(one.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_imports_go_down_only() -> None:
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert sources
    if found := violations(sources):
        pytest.fail("\n".join(found), pytrace=False)


@pytest.mark.parametrize(
    ("path", "source", "breach"),
    [
        (
            "errors.py",
            "from .proxy import Proxy",
            "imports proxy of a higher layer: errors (values) below proxy",
        ),
        ("errors.py", "from amqproxy.proxy import Proxy", "imports proxy of a higher layer"),
        ("errors.py", "import amqproxy.proxy", "imports proxy of a higher layer"),
        ("errors.py", "from . import proxy", "imports proxy of a higher layer"),
        ("errors.py", "def f():\n    from .lane import Lane", "errors.py:2 imports lane of a higher layer"),
        (
            "errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .calls import Calls",
            "errors.py:3 imports calls of a higher layer",
        ),
        (
            "codecs/json.py",
            "from ..server import Worker",
            "codecs/json.py:1 imports server of a higher layer",
        ),
        ("codecs/__init__.py", "from ..lane import Lane", "imports lane of a higher layer"),
        ("proxy.py", "from . import connect", "imports __init__ of a higher layer"),
        ("proxy.py", "import amqproxy", "imports __init__ of a higher layer"),
        ("client.py", "from .cli import main", "imports cli of a higher layer"),
        ("cli/demo.py", "import amqproxy", "imports __init__ of a higher layer"),
        ("cli/demo_service.py", "from ..broker import Broker", "imports broker: only connect() and edges do"),
        (
            "proxy.py",
            "from .server import Worker",
            "the calling and the serving half never import each other",
        ),
        (
            "server.py",
            "from .caller import Caller",
            "the calling and the serving half never import each other",
        ),
        ("calls.py", "import asyncio", "imports asyncio: calls is pure"),
        ("wire.py", "import pamqp.header", "imports pamqp: wire is pure"),
        ("deadline.py", "from time import monotonic", "imports time: deadline is pure"),
        ("codecs/json.py", "import aiormq", "imports aiormq: codecs is pure"),
        ("lane.py", "import aiormq.abc", "imports aiormq: only dial, link, reasons do"),
        ("cli/demo.py", "def f():\n    import aio_pika", "imports aio_pika: only dial, link, reasons do"),
        ("broker/server.py", "from ..lane import Lane", "the broker imports values and pure machines only"),
        (
            "cli/demo.py",
            "from ..broker import Broker",
            "imports broker: only connect() and edges do, inside a function",
        ),
        ("embedded.py", "from .broker import Broker", "imports broker: only connect() and edges do"),
        ("server.py", "def f():\n    from .broker import Broker", "imports broker: only connect() and edges do"),
        ("utils.py", "", "utils is in no layer: name it in LAYERS of tests/test_layers.py"),
        ("proxy.py", "from .nonsense import x", "imports nonsense, which is in no layer"),
    ],
)
def test_breach_is_found(path: str, source: str, breach: str) -> None:
    [found] = violations({path: source})
    assert breach in found


def test_circle_within_a_layer_is_found() -> None:
    sources = {
        "contract.py": "from .wire import a",
        "options.py": "from .contract import b",
        "wire.py": "from .options import c",
    }
    assert violations(sources) == [
        "these import each other in a circle: contract -> wire -> options -> contract",
    ]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("link.py", "import asyncio, time, aio_pika\nfrom aiormq.abc import X\nfrom .lane import Lane"),
        ("lane.py", "from pamqp import commands\nfrom .frames import a\nfrom .errors import b"),
        ("codecs/json.py", "import json\nfrom . import Codec\nfrom ..contract import Method"),
        ("client.py", "from .proxy import Proxy\nfrom .server import Worker\nfrom . import errors"),
        ("cli/demo.py", "from ..testing import rabbitmq\ndef f():\n    from ..broker import Broker"),
        ("client.py", "from .embedded import shared\ndef f():\n    from .broker import Broker"),
        ("embedded.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .broker import Broker"),
        ("testing/embedded.py", "from ..embedded import BrokerThread\ndef f():\n    from ..broker import Server"),
        ("cli/demo_service.py", "import amqproxy"),
        ("broker/server.py", "import asyncio, time, pamqp\nfrom ..frames import a\nfrom .queue import b"),
        ("__main__.py", "from amqproxy.cli import main\nimport amqproxy"),
    ],
)
def test_what_is_allowed_is_not_found(path: str, source: str) -> None:
    assert violations({path: source}) == []
