"""Where the broker is: an AMQP URL, taken apart and checked (https://www.rabbitmq.com/docs/uri-spec)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from urllib.parse import parse_qs, quote, unquote, urlsplit

DEFAULT_URL = "amqp://guest:guest@localhost/"
EMBEDDED = "embedded:"
"""In place of a URL: the broker that all of this process shares, and nobody else."""
_PORTS = {"amqp": 5672, "amqps": 5671}
_ALLOWED_QUERY = frozenset(("heartbeat", "name", "cafile", "capath", "cadata", "certfile", "keyfile", "auth"))


@dataclass(frozen=True, slots=True)
class BrokerURL:
    """An AMQP URL, of one broker or of the several hosts of a cluster. Printing it never shows the password."""

    scheme: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    virtual_host: str
    query: tuple[tuple[str, str], ...] = ()
    others: tuple[tuple[str, int], ...] = ()
    """Further hosts with their ports, which have the same users and virtual hosts."""

    @classmethod
    def parse(cls, text: str) -> BrokerURL:
        """Read `amqp://user:password@host:port,host:port/vhost` or `embedded:`.

        ValueError says why not, without the password.
        """
        if text.lower() == EMBEDDED:
            return cls(scheme="embedded", host="", port=0, user="", password="", virtual_host="/")
        first, *others = [cls._of_one(each) for each in _of_each_host(text)]
        return replace(first, others=tuple((other.host, other.port) for other in others))

    @classmethod
    def _of_one(cls, text: str) -> BrokerURL:
        try:
            parts = urlsplit(text)
        except ValueError:  # its text quotes the URL, password and all
            raise ValueError("the broker URL does not parse; it is like amqp://user:password@host:5672/vhost") from None
        if parts.scheme == "embedded":
            raise ValueError("embedded: is the whole URL of the broker inside of this process; nothing comes behind it")
        if parts.scheme not in _PORTS:
            raise ValueError("a broker URL starts with amqp:// or amqps://, like amqp://user:password@host:5672/vhost")
        try:
            port = _PORTS[parts.scheme] if parts.port is None else parts.port
            if port == 0:
                raise ValueError
        except ValueError:
            raise ValueError("the port in the broker URL is not a number from 1 to 65535") from None
        if not parts.hostname:
            raise ValueError("the broker URL names no host, like amqp://user:password@host:5672/vhost")
        if "#" in text:
            raise ValueError("the broker URL has a #, which cuts off what is behind it; write %23 for it")
        user, password, query = parts.username, parts.password, _query(parts.query)
        if not user and not password and _is_external(query):
            user = ""  # the certificate says who it is
        elif not user:
            if password or not is_loopback(parts.hostname):
                raise ValueError(
                    f"the broker URL for {parts.hostname} names no user; write amqp://user:password@{parts.hostname}/"
                )
            user, password = "guest", "guest"
        return cls(
            scheme=parts.scheme,
            host=parts.hostname,
            port=port,
            user=unquote(user),
            password=unquote(password or ""),
            virtual_host=unquote(parts.path[1:]) or "/",
            query=query,
        )

    @property
    def embedded(self) -> bool:
        """Whether it is the broker inside of this process, which has an address only while it runs."""
        return self.scheme == "embedded"

    @property
    def hosts(self) -> tuple[BrokerURL, ...]:
        """The same URL for each host alone."""
        return tuple(replace(self, host=host, port=port, others=()) for host, port in self._places)

    @property
    def external(self) -> bool:
        """Whether a certificate says who connects, and no password."""
        return _is_external(self.query)

    @property
    def address(self) -> str:
        """Host and port, as people write them; with commas between several."""
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self._places)

    @property
    def _places(self) -> tuple[tuple[str, int], ...]:
        return ((self.host, self.port), *self.others)

    def __str__(self) -> str:
        if self.embedded:
            return EMBEDDED
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        return f"{self.scheme}://{user}{self.address}/{quote(self.virtual_host, safe='')}"


def is_loopback(host: str) -> bool:
    """True for names and addresses of this machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _of_each_host(text: str) -> list[str]:
    """The URL of each host, where one names several."""
    found = re.match(r"([^:/?#]*://)([^/?#]*@)?([^/?#@]*)(.*)", text, re.DOTALL)
    if found is None:
        return [text]
    scheme, login, hosts, rest = found.groups("")
    if re.search("@.*,", login, re.DOTALL):
        raise ValueError(
            "the broker URL names a login with each host, and there is one for all: write "
            "amqp://user:password@host,host/; in a user or password, write %40 for @ and %2C for a comma"
        )
    return [f"{scheme}{login}{host}{rest}" for host in hosts.split(",")]


def _is_external(query: tuple[tuple[str, str], ...]) -> bool:
    return dict(query).get("auth", "").lower() == "external"


def _query(text: str) -> tuple[tuple[str, str], ...]:
    query = []
    for name, values in parse_qs(text, keep_blank_values=True).items():
        if name not in _ALLOWED_QUERY:
            known = ", ".join(sorted(_ALLOWED_QUERY))
            if "@" in text:  # then it is the end of a password
                raise ValueError(f"the broker URL has a ? ahead of its @; write %3F for it; options are {known}")
            raise ValueError(f"the broker URL has the unknown option {name!r}; there are: {known}")
        query.append((name, values[-1]))
    heartbeat = dict(query).get("heartbeat", "0")
    if not heartbeat.isdecimal() or int(heartbeat) > 65535:
        raise ValueError("heartbeat in the broker URL is a whole number of seconds, from 0 (off) to 65535")
    return tuple(query)
