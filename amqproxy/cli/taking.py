"""How a command takes many parameters as one value: typer makes a command line of a signature, and of nothing else."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def taking(kind: type[Any], *, behind: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command have the parameters of a dataclass, whose instance it is given as its first argument.

    Its own parameters come in the command line behind the one named.
    """
    shared = inspect.signature(kind, eval_str=True)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        place = list(shared.parameters).index(behind) + 1
        parameters = list(shared.parameters.values())
        parameters[place:place] = own

        @functools.wraps(command)
        def run(**given: Any) -> None:
            command(kind(**{name: given.pop(name) for name in shared.parameters}), **given)

        run.__signature__ = shared.replace(parameters=parameters)  # type: ignore[attr-defined]  # as functions may have
        return run

    return decorate
