"""What a broker sent, in words that two brokers can share.

Names that a broker invents become placeholders by the order of their first appearance, times become `<now>`, and what
a broker says about itself is reduced to what clients act on.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

from tests.differential.fields import Typed
from tests.differential.wire import Method

RESERVED = {"ticket", "reserved", "out_of_band", "channel_id", "known_hosts", "cluster_id", "nowait"}
"""Arguments that mean nothing."""
INVENTED = {
    "reply": re.compile(r"amq\.rabbitmq\.reply-to\.[^\s'\"]+"),
    "queue": re.compile(r"amq\.gen-[A-Za-z0-9_-]+"),
    "tag": re.compile(r"amq\.ctag-[A-Za-z0-9_-]+"),
}
PLACEHOLDER = re.compile(r"<(?:queue|tag|reply) \d+>")
LONGEST_BODY = 60
ROOT = "/"
"""The virtual host in which scenarios play, unless they say otherwise."""


def show_method(method: Method) -> str:
    """Return the method with its arguments, those that have a meaning."""
    arguments = dict(method.arguments)
    if method.name == "connection.start":
        arguments = {
            "version": f"{arguments['version_major']}-{arguments['version_minor']}",
            "properties": sorted(arguments["server_properties"]),
            "capabilities": arguments["server_properties"].get("capabilities"),
            "mechanisms": sorted(arguments["mechanisms"].split()),
            "locales": arguments["locales"],
        }
    shown = " ".join(f"{name}={show(value)}" for name, value in arguments.items() if name not in RESERVED)
    return f"{method.name} {shown}".rstrip()


def show_message(method: Method, properties: Mapping[str, Any], body: bytes) -> str:
    return f"{show_method(method)} | {show(properties)} | {show_body(body)}"


def show_body(body: bytes) -> str:
    if len(body) > LONGEST_BODY:
        return f"<{len(body)} bytes, CRC {zlib.crc32(body):08x}>"
    return repr(body.decode("latin-1"))


def show(value: Any) -> str:
    """Return the value in Python's notation, with tables in the order of their keys."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_entry(key, value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(show, value)) + "]"
    return repr(value)


def _entry(key: str, value: Any) -> str:
    if key == "time" and isinstance(value, Typed) and value.kind == "T":  # of a dead letter
        return "T(<now>)"
    return show(value)


class Names:
    """The names that one broker invented in one transcript."""

    def __init__(self, vhost: str = ROOT) -> None:
        self._vhost = vhost
        """The virtual host that stands in for the root."""
        self._placeholders: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._counts = dict.fromkeys(INVENTED, 0)

    def normalise(self, text: str) -> str:
        """Return `text` with a placeholder for each invented name."""
        text = text.replace(f"vhost '{self._vhost}'", f"vhost '{ROOT}'")
        for kind, pattern in INVENTED.items():
            text = pattern.sub(lambda found, kind=kind: self._placeholder(kind, found[0]), text)  # type: ignore[misc]
        return text

    def resolve(self, value: Any) -> Any:
        """Return `value` with the names that its placeholders stand for; a placeholder of no name stays."""
        if isinstance(value, str):
            return PLACEHOLDER.sub(lambda found: self._names.get(found[0], found[0]), value)
        if isinstance(value, Mapping):
            return {key: self.resolve(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.resolve(inner) for inner in value]
        return value

    def _placeholder(self, kind: str, name: str) -> str:
        if name not in self._placeholders:
            self._counts[kind] += 1
            self._placeholders[name] = f"<{kind} {self._counts[kind]}>"
            self._names[self._placeholders[name]] = name
        return self._placeholders[name]
