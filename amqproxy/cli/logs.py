"""Logging for people who watch a terminal, or for the file or collector that stderr leads to."""

from __future__ import annotations

import logging
import sys

PLAIN = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
FOREIGN = ("aio_pika", "aiormq")


def configure(*, verbose: bool) -> None:
    """Send warnings, and what amqproxy does, to stderr."""
    logging.basicConfig(level=logging.WARNING, handlers=[_handler()], force=True)
    show_progress(verbose=verbose)
    for name in FOREIGN:  # what they report, we report as well, and with what to do about it
        logging.getLogger(name).setLevel(logging.WARNING if verbose else logging.CRITICAL)


def show_progress(*, verbose: bool = False) -> None:
    """Let amqproxy say what it does, and not only what goes wrong."""
    logging.getLogger("amqproxy").setLevel(logging.DEBUG if verbose else logging.INFO)


def hide_progress() -> None:
    """Let amqproxy say only what goes wrong."""
    logging.getLogger("amqproxy").setLevel(logging.WARNING)


def _handler() -> logging.Handler:
    if not sys.stderr.isatty():
        handler: logging.Handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(PLAIN))
        return handler
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%X", rich_tracebacks=False)
    handler.setFormatter(logging.Formatter("%(message)s"))
    return handler
