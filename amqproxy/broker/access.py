"""Who may come in, and what they may do: users, passwords and permissions.

https://www.rabbitmq.com/docs/access-control; the patterns are searched for, not matched as a whole, as RabbitMQ does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from .errors import refused

_ALGORITHMS = {
    "rabbit_password_hashing_sha256": "sha256",
    "rabbit_password_hashing_sha512": "sha512",
    "rabbit_password_hashing_md5": "md5",
}


@dataclass(frozen=True, slots=True)
class Permissions:
    """Regular expressions of the names that a user may configure, write to and read from."""

    configure: str = ".*"
    write: str = ".*"
    read: str = ".*"

    def __post_init__(self) -> None:
        for pattern in (self.configure, self.write, self.read):
            _compiled(pattern)

    def allow(self, kind: str, name: str) -> bool:
        """Whether `kind`, which is "configure", "write" or "read", is permitted on a name."""
        return _compiled(getattr(self, kind)).search(name) is not None


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern or "^$")  # the empty pattern grants nothing but the empty name
    except re.error as error:
        raise ValueError(f"a permission is a regular expression; {pattern!r} is none: {error}") from error


@dataclass(slots=True)
class User:
    """One who may connect."""

    name: str
    password_hash: bytes = field(repr=False)
    """Four bytes of salt, then the digest of salt and password."""
    algorithm: str = "rabbit_password_hashing_sha256"
    tags: tuple[str, ...] = ()
    permissions: dict[str, Permissions] = field(default_factory=dict)
    """By virtual host."""
    topic_permissions: dict[tuple[str, str], Permissions] = field(default_factory=dict)
    """By virtual host and exchange: which routing keys may be written and read."""

    def knows(self, password: str) -> bool:
        """Whether that is the password."""
        salt, digest = self.password_hash[:4], self.password_hash[4:]
        return hmac.compare_digest(_digest(self.algorithm, salt, password), digest)

    def check(self, kind: str, vhost: str, resource: str, name: str) -> None:
        """Refuse what is not permitted; `resource` is "queue" or "exchange"."""
        granted = self.permissions.get(vhost)
        shown = name if resource != "exchange" or name else "amq.default"
        if granted is None or not granted.allow(kind, shown):
            raise refused(f"{kind} access to {resource} '{shown}' in vhost '{vhost}' refused for user '{self.name}'")

    def check_topic(self, kind: str, vhost: str, exchange: str, key: str) -> None:
        """Refuse a routing key that is not permitted on a topic exchange."""
        granted = self.topic_permissions.get((vhost, exchange))
        if granted is not None and not granted.allow(kind, key):
            raise refused(
                f"{kind} access to topic '{key}' in exchange '{exchange}' in vhost '{vhost}' "
                f"refused for user '{self.name}'"
            )


def hash_password(password: str, algorithm: str = "rabbit_password_hashing_sha256") -> bytes:
    """What is kept instead of a password."""
    salt = secrets.token_bytes(4)
    return salt + _digest(algorithm, salt, password)


def decode_hash(text: str, algorithm: str) -> bytes:
    """The hash in RabbitMQ's definitions; ValueError if it is none, or of an unknown algorithm."""
    if algorithm not in _ALGORITHMS:
        raise ValueError(f"the hashing algorithm {algorithm!r} is not one of {', '.join(_ALGORITHMS)}")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"a password hash is base64: {error}") from error


def _digest(algorithm: str, salt: bytes, password: str) -> bytes:
    raw = salt + password.encode(errors="surrogateescape")
    return hashlib.new(_ALGORITHMS[algorithm], raw, usedforsecurity=False).digest()
