"""The languages, and who writes each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from . import go, java, node, ruby
from .source import Order, Source

LANGUAGES: Mapping[str, Callable[[Order], Source]] = {
    "ruby": ruby.source,
    "java": java.source,
    "node": node.source,
    "go": go.source,
}

_PACKAGES = {
    "java": (re.compile(r"[a-z_]\w*(\.[a-z_]\w*)*"), java.KEYWORDS, "com.example.sums"),
    "go": (re.compile(r"[a-z]\w*"), go.KEYWORDS, "sums"),
}


def check_package(language: str, package: str | None) -> None:
    """ValueError if this language has no packages, or none that could have this name."""
    if package is None:
        return
    if language not in _PACKAGES:
        raise ValueError(f"--package is for java and go; a client in {language} is in none")
    form, keywords, example = _PACKAGES[language]
    if not form.fullmatch(package) or keywords & set(package.split(".")):
        raise ValueError(f"{package!r} cannot be the name of a package in {language}; {example} could")
