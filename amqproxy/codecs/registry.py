"""Which codecs there are, by content encoding: a fixed list, to which users add their own by options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.util import find_spec

from . import Codec
from .compression import COMPRESSIONS, Compressed
from .guarded import Guarded
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


def codecs(limit: int, further: Iterable[Codec] = ()) -> Mapping[str, Codec]:
    """All codecs by content encoding, each also within each compression; `limit` bounds what is decompressed, in bytes.

    ValueError if one of the further codecs has a name that is taken.
    """
    known = _own(limit)
    for codec in further:
        if codec.name in known:
            raise ValueError(f"there is an encoding {codec.name!r} already")
        known = {**known, **_within_compressions(Guarded(codec), limit)}
    return known


@lru_cache(maxsize=64)
def _own(limit: int) -> Mapping[str, Codec]:
    return {name: codec for own in OWN for name, codec in _within_compressions(own, limit).items()}


def _within_compressions(codec: Codec, limit: int) -> dict[str, Codec]:
    """A codec as it is, and within each compression."""
    all_forms = [codec, *(Compressed(codec, compression, limit) for compression in COMPRESSIONS.values())]
    return {one.name: one for one in all_forms}


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
