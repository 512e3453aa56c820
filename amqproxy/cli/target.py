"""MODULE:OBJECT on the command line, and the object that it means."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from difflib import get_close_matches
from types import FrameType, ModuleType, TracebackType
from typing import Any

from .failure import UsageError

_LAST_FRAMES = 3


def load(text: str, *, verbose: bool = False) -> Any:
    """Import the module and return the object; UsageError says which of them is not there, and what is."""
    module_name, _, path = text.partition(":")
    if module_name.endswith(".py") or os.sep in module_name:
        module_name = module_name.removesuffix(".py").removeprefix("./").replace(os.sep, ".")
        raise UsageError(f"{text} is a file; name the module: {module_name}:{path or 'OBJECT'}")
    if not module_name or not path:
        raise UsageError(f"{text} is not MODULE:OBJECT, like calculator:Calculator")
    found = _import(module_name, text, verbose)
    for depth, part in enumerate(path.split(".")):
        try:
            found = getattr(found, part)
        except AttributeError:
            owner = ":".join(filter(None, (module_name, ".".join(path.split(".")[:depth]))))
            raise UsageError(f"{owner} has no {part!r}{_instead(found, part)}") from None
    return found


def _import(name: str, text: str, verbose: bool) -> ModuleType:
    """Import as a script in the current directory would."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UsageError(_import_failure(name, error, verbose)) from error
        raise UsageError(
            f"there is no module {error.name!r} for {text}, neither in {os.getcwd()} nor on Python's path"
        ) from error
    except (Exception, SystemExit) as error:
        raise UsageError(_import_failure(name, error, verbose)) from error


def _import_failure(name: str, error: BaseException, verbose: bool) -> str:
    """The error in the user's module with its last frames; all frames if `verbose`."""
    frames = error.__traceback__
    if not verbose:
        frames = _last(_without_ours(frames))
    lines = traceback.format_exception(type(error), error, frames, chain=verbose)
    more = "" if verbose else "\n(-v shows the whole traceback)"
    return f"importing {name} failed:\n{''.join(lines).rstrip()}{more}"


def _without_ours(frames: TracebackType | None) -> TracebackType | None:
    """Leave out how the import got to the user's module."""
    while frames is not None and _is_machinery(frames.tb_frame):
        frames = frames.tb_next
    return frames


def _is_machinery(frame: FrameType) -> bool:
    return frame.f_code.co_filename in (__file__, importlib.__file__) or frame.f_code.co_filename.startswith("<frozen")


def _last(frames: TracebackType | None) -> TracebackType | None:
    chain = []
    while frames is not None:
        chain.append(frames)
        frames = frames.tb_next
    return chain[-_LAST_FRAMES:][0] if chain else None


def _instead(owner: Any, name: str) -> str:
    """What the user may have meant."""
    known = (
        [each for each, value in vars(owner).items() if _could_be_served(each, value, owner)]
        if _has_names(owner)
        else []
    )
    close = get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; it has {', '.join(known)}" if known else ""


def _has_names(owner: Any) -> bool:
    return hasattr(owner, "__dict__")


def _could_be_served(name: str, value: Any, owner: Any) -> bool:
    if name.startswith("_"):
        return False
    if inspect.isclass(value) or inspect.isfunction(value):
        return not isinstance(owner, ModuleType) or value.__module__ == owner.__name__
    return type(value).__module__.partition(".")[0] not in sys.stdlib_module_names
