"""Fuzz the embedded broker for as long as it is told to: python -m tests.fuzz --seconds 600.

With atheris installed (pip install atheris), coverage leads the way; without it, hypothesis does what `make test` does,
until the time is over.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long to look (60)")
    parser.add_argument("--hypothesis", action="store_true", help="without atheris, even if it is installed")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if not options.hypothesis and importlib.util.find_spec("atheris") is not None:
        from tests.fuzz import atheris_session  # the broker is imported there, and not before: see `run`

        atheris_session.run(options.seconds)
        return
    if not options.hypothesis:
        print("atheris is not installed (pip install atheris), so this is hypothesis", file=sys.stderr)
    from tests.fuzz import rounds

    rounds.run(options.seconds)


if __name__ == "__main__":
    main()
