"""Names of Python as names of other languages."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_OTHER = re.compile(r"[\W_]+")


def words(name: str) -> list[str]:
    """What a name is made of: `max_items`, `maxItems` and `max.items` are two words each."""
    return [word for part in _OTHER.split(name) for word in _BOUNDARY.split(part) if word]


def snake(name: str) -> str:
    """`max_items`."""
    return _begun("_".join(word.lower() for word in words(name)), "x")


def kebab(name: str) -> str:
    """`max-items`."""
    return snake(name).replace("_", "-")


def pascal(name: str, initialisms: frozenset[str] = frozenset()) -> str:
    """`MaxItems`, and `HTTPServer` as it is; words among the initialisms become capitals."""
    joined = _begun("".join(_capitalised(word, initialisms) for word in words(name)), "X")
    return joined if joined[0].isupper() else f"X{joined}"


def camel(name: str, initialisms: frozenset[str] = frozenset()) -> str:
    """`maxItems`; words among the initialisms become capitals, but for the first."""
    first, *others = words(name) or [""]
    return _begun(first.lower() + "".join(_capitalised(word, initialisms) for word in others), "x")


def _capitalised(word: str, initialisms: frozenset[str]) -> str:
    return word.upper() if word.lower() in initialisms else word[0].upper() + word[1:]


def _begun(name: str, letter: str) -> str:
    """With a letter ahead where there would be a digit or nothing."""
    return name if name and not name[0].isdigit() else letter + name


def vocabulary(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


class Names:
    """The names of one scope: each is given out once, and those that mean something else there never."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._reserved = frozenset(reserved)
        self._taken: set[str] = set()

    def take(self, wanted: str) -> str:
        """The name, changed as little as it must be."""
        name = base = f"{wanted}_" if wanted in self._reserved else wanted
        number = 2
        while name in self._taken or name in self._reserved:
            name = f"{base}{number}"
            number += 1
        self._taken.add(name)
        return name
