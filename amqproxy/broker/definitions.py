"""RabbitMQ's definitions: users, virtual hosts, permissions, policies, exchanges, queues and bindings as JSON.

https://www.rabbitmq.com/docs/definitions. What `rabbitmqctl export_definitions` or the management pages write is loaded
here, and what can be loaded here can be imported there. As in RabbitMQ, sections that nobody knows are passed over, and
so are bindings of what is not there.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from .access import Permissions, User, decode_hash, hash_password
from .arguments import CLASSIC, QUORUM
from .errors import ProtocolError
from .exchange import TYPES
from .policies import KNOWN, Policies, Policy, check_setting
from .tables import Table, array, long_integer, long_string, nested

if TYPE_CHECKING:
    from .broker import Broker
    from .vhost import VirtualHost

log = logging.getLogger("amqproxy.broker")

Item = TypeVar("Item")


class DefinitionsError(ValueError):
    """Definitions that cannot be loaded; the text ends with the JSON path to what is wrong."""

    def __init__(self, what: str, path: str) -> None:
        super().__init__(f"{what} - at `{path}`")


# The sections, as far as they have a meaning here; msgspec checks types and names the path to what is wrong.


class _User(msgspec.Struct, kw_only=True):
    name: str
    tags: list[str] | str
    password: str | None = None
    password_hash: str | None = None
    hashing_algorithm: str = "rabbit_password_hashing_sha256"


class _VirtualHost(msgspec.Struct, kw_only=True):
    name: str
    default_queue_type: str | None = None
    metadata: dict[str, Any] = {}


class _Permissions(msgspec.Struct, kw_only=True):
    user: str
    vhost: str = "/"
    configure: str
    write: str
    read: str


class _TopicPermissions(msgspec.Struct, kw_only=True):
    user: str
    vhost: str = "/"
    exchange: str
    write: str
    read: str


class _PolicyRule(msgspec.Struct, rename={"apply_to": "apply-to"}, kw_only=True):
    pattern: str
    definition: dict[str, Any] | list[tuple[str, Any]]  # rabbitmqctl writes those of operator policies as pairs
    priority: int = 0
    apply_to: str = "all"


class _Policy(_PolicyRule, kw_only=True):
    name: str
    vhost: str = "/"


class _Parameter(msgspec.Struct, kw_only=True):
    component: str
    name: str = ""
    vhost: str = "/"
    value: Any = None


class _Exchange(msgspec.Struct, kw_only=True):
    name: str
    vhost: str = "/"
    type: str
    durable: bool
    auto_delete: bool
    internal: bool = False
    arguments: dict[str, Any] = {}


class _Queue(msgspec.Struct, kw_only=True):
    name: str
    vhost: str = "/"
    durable: bool
    auto_delete: bool
    type: str | None = None
    arguments: dict[str, Any] = {}


class _Binding(msgspec.Struct, kw_only=True):
    source: str
    vhost: str = "/"
    destination: str
    destination_type: str
    routing_key: str
    arguments: dict[str, Any] = {}


class _Definitions(msgspec.Struct, kw_only=True):
    users: list[_User] = []
    vhosts: list[_VirtualHost] = []
    permissions: list[_Permissions] = []
    topic_permissions: list[_TopicPermissions] = []
    parameters: list[_Parameter] = []
    policies: list[_Policy] = []
    exchanges: list[_Exchange] = []
    queues: list[_Queue] = []
    bindings: list[_Binding] = []


_WITHOUT_EFFECT = frozenset(
    {
        "description",
        "explanation",
        "global_parameters",
        "metadata",
        "original_cluster_name",
        "original_vhost_name",
        "product_name",
        "product_version",
        "rabbit_version",
        "rabbitmq_definition_format",
        "rabbitmq_version",
    }
)
_OPERATOR_POLICY = "operator_policy"


def load(broker: Broker, definitions: Mapping[str, Any]) -> None:
    """Add to a broker what parsed definitions hold; what they do not name stays as it is.

    Policies hold for queues and exchanges that are declared from then on, by the definitions themselves or by clients.
    Raises DefinitionsError; what comes before the error is loaded then.
    """
    for section in definitions:
        if section not in _Definitions.__struct_fields__ and section not in _WITHOUT_EFFECT:
            log.warning("the definitions have a section %r, which means nothing to a broker: passed over", section)
    found = _converted(definitions, _Definitions, "$")
    for path, user in _numbered("users", found.users):
        _load_user(broker, user, path)
    for path, host in _numbered("vhosts", found.vhosts):
        _load_vhost(broker, host, path)
    _load_permissions(broker, found)
    _load_policies(broker, found)
    for path, exchange in _numbered("exchanges", found.exchanges):
        _load_exchange(_vhost(broker, exchange.vhost, path), exchange, path)
    for path, queue in _numbered("queues", found.queues):
        _load_queue(_vhost(broker, queue.vhost, path), queue, path)
    for path, binding in _numbered("bindings", found.bindings):
        _load_binding(_vhost(broker, binding.vhost, path), binding, path)


def _converted(data: Any, kind: type[Item], path: str) -> Item:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        what, at, inner = str(error).rpartition(" - at `$")
        raise DefinitionsError(what or inner, path + inner.removesuffix("`") if at else path) from None


def _numbered(section: str, items: Iterable[Item]) -> Iterator[tuple[str, Item]]:
    return ((f"$.{section}[{number}]", item) for number, item in enumerate(items))


@contextmanager
def _at(path: str) -> Iterator[None]:
    """Name the place in the definitions that the broker has something against."""
    try:
        yield
    except ProtocolError as error:
        raise DefinitionsError(error.explanation, path) from error
    except ValueError as error:
        raise DefinitionsError(str(error), path) from error


def _vhost(broker: Broker, name: str, path: str) -> VirtualHost:
    if name not in broker.vhosts:
        raise DefinitionsError(f"there is no virtual host {name!r}; name it among the vhosts", f"{path}.vhost")
    return broker.vhosts[name]


# Users and virtual hosts.


def _load_user(broker: Broker, user: _User, path: str) -> None:
    with _at(f"{path}.password_hash"):
        if user.password_hash is not None:
            raw = decode_hash(user.password_hash, user.hashing_algorithm)
        elif user.password is not None:
            raw = hash_password(user.password, user.hashing_algorithm)
        else:
            raise ValueError("a user has a password or a password_hash")
    names = user.tags.split(",") if isinstance(user.tags, str) else user.tags
    tags = tuple(name.strip() for name in names if name.strip())
    known = broker.users.get(user.name)
    permissions, topics = (known.permissions, known.topic_permissions) if known else ({}, {})
    broker.users[user.name] = User(user.name, raw, user.hashing_algorithm, tags, permissions, topics)


def _load_vhost(broker: Broker, host: _VirtualHost, path: str) -> None:
    wanted = host.default_queue_type or host.metadata.get("default_queue_type")
    if wanted in (None, "undefined"):
        wanted = CLASSIC
    if wanted not in (CLASSIC, QUORUM):
        raise DefinitionsError(f"the default queue type {wanted!r} is not to be had here", path)
    broker.add_vhost(host.name).default_queue_type = wanted


def _load_permissions(broker: Broker, found: _Definitions) -> None:
    for path, one in _numbered("permissions", found.permissions):
        user, vhost = _user(broker, one.user, path), _vhost(broker, one.vhost, path)
        with _at(path):
            user.permissions[vhost.name] = Permissions(one.configure, one.write, one.read)
    for path, topic in _numbered("topic_permissions", found.topic_permissions):
        user, vhost = _user(broker, topic.user, path), _vhost(broker, topic.vhost, path)
        with _at(path):
            user.topic_permissions[vhost.name, topic.exchange] = Permissions(write=topic.write, read=topic.read)


def _user(broker: Broker, name: str, path: str) -> User:
    if name not in broker.users:
        raise DefinitionsError(f"there is no user {name!r}; name it among the users", f"{path}.user")
    return broker.users[name]


# Exchanges, queues and bindings.


def _load_exchange(vhost: VirtualHost, exchange: _Exchange, path: str) -> None:
    if exchange.type not in TYPES:
        raise DefinitionsError(
            f"there is no exchange type {exchange.type!r} here, only {', '.join(TYPES)}", f"{path}.type"
        )
    with _at(path):
        vhost.declare_exchange(
            exchange.name,
            exchange.type,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            internal=exchange.internal,
            arguments=_table(exchange.arguments),
        )


def _load_queue(vhost: VirtualHost, queue: _Queue, path: str) -> None:
    if queue.name.startswith("amq."):
        log.warning("the queue %r of the definitions has a name that a broker gave: passed over", queue.name)
        return
    with _at(path):
        arguments = _table(queue.arguments)
        if "x-queue-type" not in arguments and queue.type not in (None, vhost.default_queue_type):
            arguments.fields["x-queue-type"] = long_string(str(queue.type))
        vhost.declare_queue(queue.name, durable=queue.durable, auto_delete=queue.auto_delete, arguments=arguments)


def _load_binding(vhost: VirtualHost, binding: _Binding, path: str) -> None:
    if binding.destination_type not in ("queue", "exchange"):
        raise DefinitionsError(
            f"a binding leads to a queue or an exchange, not to a {binding.destination_type!r}",
            f"{path}.destination_type",
        )
    there = vhost.queues if binding.destination_type == "queue" else vhost.exchanges
    if not binding.source:
        return  # every queue is bound to the default exchange
    if binding.source not in vhost.exchanges or binding.destination not in there:
        log.warning("the definitions bind %r to %r: one is not there", binding.destination, binding.source)
        return
    with _at(path):
        vhost.bind(
            binding.source,
            binding.destination_type,
            binding.destination,
            binding.routing_key,
            _table(binding.arguments),
            None,
        )


def _table(arguments: Mapping[str, Any]) -> Table:
    return Table({name: _field(value) for name, value in arguments.items()})


def _field(value: Any) -> bytes:
    """A JSON value with its AMQP type, which is the one that RabbitMQ chooses when it imports."""
    match value:
        case None:
            return b"V"
        case bool():
            return b"t\x01" if value else b"t\x00"
        case int():
            if not -(2**63) <= value < 2**63:
                raise ValueError(f"an argument holds 64-bit integers; {value} is larger")
            return long_integer(value)
        case float():
            return struct.pack(">cd", b"d", value)
        case str():
            return long_string(value)
        case list():
            return array([_field(item) for item in value])
    return nested(_table(value))


# Policies.


def _load_policies(broker: Broker, found: _Definitions) -> None:
    rules: dict[str, tuple[list[Policy], list[Policy]]] = {}
    for path, policy in _numbered("policies", found.policies):
        vhost = _vhost(broker, policy.vhost, path)
        rules.setdefault(vhost.name, ([], []))[0].append(_policy(policy, path))
    for path, parameter in _numbered("parameters", found.parameters):
        if parameter.component == _OPERATOR_POLICY:
            vhost = _vhost(broker, parameter.vhost, path)
            rule = _converted(parameter.value, _PolicyRule, f"{path}.value")
            rules.setdefault(vhost.name, ([], []))[1].append(_policy(rule, f"{path}.value"))
    for name, (policies, operator_policies) in rules.items():
        broker.vhosts[name].policies = Policies(policies, operator_policies)


def _policy(rule: _PolicyRule, path: str) -> Policy:
    settings = dict(rule.definition)
    for setting in settings.keys() - KNOWN:
        log.warning("a policy of the definitions sets %r, which has no effect here", setting)
        del settings[setting]
    for setting, value in settings.items():
        with _at(f"{path}.definition.{setting}"):
            check_setting(setting, value)
    with _at(f"{path}.pattern"):
        return Policy.of(rule.pattern, settings, rule.priority, rule.apply_to)
