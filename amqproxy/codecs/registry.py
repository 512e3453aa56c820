"""Which codecs there are, by content encoding: a fixed list, to which users add their own by options."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec

from . import Codec
from .compression import COMPRESSIONS, Compressed
from .json import JSON
from .protobuf import Protobuf
from .thrift import Thrift

OWN: tuple[Codec, ...] = (JSON(), Protobuf(), Thrift(), Thrift("thrift-compact", compact=True))

EXTRAS = {
    "protobuf": ("protobuf", "google.protobuf"),
    "thrift": ("thrift", "thrift"),
    "thrift-compact": ("thrift", "thrift"),
}
"""The extra that an encoding needs, and the package that it installs."""


@lru_cache(maxsize=64)
def codecs(limit: int, further: tuple[Codec, ...] = ()) -> Mapping[str, Codec]:
    """All codecs by content encoding, each also within each compression; `limit` bounds what is decompressed, in bytes.

    ValueError if one of the further codecs has a name that is taken.
    """
    plain = {codec.name: codec for codec in OWN}
    for codec in further:
        if plain.setdefault(codec.name, codec) is not codec:
            raise ValueError(f"there is an encoding {codec.name!r} already")
    compressed = [Compressed(c, compression, limit) for compression in COMPRESSIONS.values() for c in plain.values()]
    return plain | {codec.name: codec for codec in compressed}


def missing_extra(encoding: str) -> str | None:
    """What to do about an encoding whose library is not installed; None if nothing is missing."""
    prefix, _, rest = encoding.partition("-")
    extra, package = EXTRAS.get(rest if prefix in COMPRESSIONS else encoding, (None, None))
    if extra is None or package is None or _is_installed(package):
        return None
    return f"the encoding {encoding} needs a library that is not installed: pip install 'amqproxy[{extra}]'"


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
