"""What goes wrong with TLS, in words that name the cure; and a warning for who turned its checks off."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterator

from .errors import AccessRefused, AMQProxyError, BrokerUnavailable
from .url import BrokerURL

log = logging.getLogger("amqproxy.connection")

_TRUST = ("cafile", "capath", "cadata")
_FILES = ("cafile", "certfile", "keyfile")


def check_tls(context: ssl.SSLContext | None, url: BrokerURL) -> None:
    """ValueError if somebody who asks for TLS would not get it, or not what he asks for."""
    if url.scheme == "amqps":
        if context is None:
            context_of(url)
        else:
            _check_unnamed(url)
        return
    if context is not None:
        raise ValueError(
            f"ssl_context is for amqps:// URLs, and that of the broker is {url.scheme}: without TLS, the password and "
            "all messages would go in the clear; write amqps://, or leave ssl_context out"
        )
    for name, _ in url.query:
        if name in (*_TRUST, *_FILES):
            raise ValueError(f"{name}= in the broker URL is for TLS, and the URL begins with amqp://; write amqps://")


def _check_unnamed(url: BrokerURL) -> None:
    for name, _ in url.query:
        if name in (*_TRUST, *_FILES):
            raise ValueError(
                f"{name}= in the broker URL would mean nothing, since there is an ssl_context; load it into that "
                f"context and leave {name}= out, or leave ssl_context out"
            )


def context_of(url: BrokerURL) -> ssl.SSLContext:
    """A context that verifies, with what an amqps:// URL names; ValueError says which file is not what it should be.

    It reads files, and never asks anybody for the password of a key.
    """
    given = dict(url.query)
    for name in _FILES:
        if name in given:
            _check_readable(name, given[name])
    if "capath" in given and not os.path.isdir(given["capath"]):
        raise ValueError(f"capath={given['capath']} in the broker URL is no directory")
    if "keyfile" in given and "certfile" not in given:
        raise ValueError("keyfile= in the broker URL is for a certificate, and certfile= is missing")
    return _with_certificate(_trusting(given), given)


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ValueError(f"{name}={path} in the broker URL cannot be read: {error.strerror}") from error


def _trusting(given: dict[str, str]) -> ssl.SSLContext:
    trust = {name: given[name] for name in _TRUST if name in given}
    if not trust.get("cadata", "a certificate").strip():  # which would mean: trust whom the system trusts
        raise ValueError("cadata= in the broker URL is empty; give certificates in PEM, or leave it out")
    try:
        return ssl.create_default_context(**trust)  # type: ignore[arg-type]  # whose names these are
    except (OSError, TypeError, ValueError) as error:
        places = " or ".join("cadata" if name == "cadata" else f"{name}={path}" for name, path in trust.items())
        raise ValueError(f"{places} in the broker URL holds no certificates in PEM: {_reason(error)}") from error


def _with_certificate(context: ssl.SSLContext, given: dict[str, str]) -> ssl.SSLContext:
    if "certfile" not in given:
        return context
    key = f"keyfile={given['keyfile']}" if "keyfile" in given else f"certfile={given['certfile']}"

    def password() -> str:  # without it, OpenSSL asks on the terminal, in a thread that nobody can end
        raise ValueError(
            f"the key in {key} of the broker URL is encrypted, and nobody is asked for its password; decrypt it "
            "(openssl pkey -in KEY -out NEW), or give an ssl_context that has loaded it"
        )

    try:
        context.load_cert_chain(given["certfile"], given.get("keyfile"), password)
    except OSError as error:
        files = " and ".join(f"{name}={given[name]}" for name in ("certfile", "keyfile") if name in given)
        raise ValueError(f"{files} in the broker URL: no certificate with its key in PEM: {_reason(error)}") from error
    return context


def _reason(error: Exception) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else None) or str(error)


def warn_if_unverified(context: ssl.SSLContext | None, url: BrokerURL) -> None:
    """Say so where anybody could be taken for the broker."""
    if context is None or url.scheme != "amqps":
        return
    if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
        what = "the host name" if context.verify_mode is ssl.CERT_REQUIRED else "the certificate"
        log.warning("anybody may pose as %s: its ssl_context does not verify %s", url.address, what)


def tls_error(error: Exception, url: BrokerURL) -> AMQProxyError | None:
    """What a failed attempt to connect means, if it is TLS that failed."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return BrokerUnavailable(
                f"no TLS connection to {url.address}: CERTIFICATE_VERIFY_FAILED, {cause.verify_message.rstrip('.')}; "
                "the broker's certificate must be for this host, and of an authority that is trusted (see ?cafile=)"
            )
        if isinstance(cause, ssl.SSLError):
            return _failed(cause, url)
    if url.scheme == "amqps" and any(isinstance(cause, ConnectionResetError | EOFError) for cause in causes):
        return BrokerUnavailable(
            f"no TLS connection to {url.address}: it ended the connection without a word; does this port speak TLS, "
            "version 1.2 or later, and does the broker trust our certificate, if it wants one (?certfile=, keyfile=)?"
        )
    return None


def is_untrusted(error: BaseException) -> bool:
    """Whether it is the broker's certificate that was refused, which no waiting mends."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def _failed(error: ssl.SSLError, url: BrokerURL) -> AMQProxyError:
    reason = error.reason or str(error)
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return AccessRefused(
            f"{url.address} refused our certificate ({reason}); ?certfile= and keyfile= name one of an authority that "
            "the broker trusts"
        )
    return BrokerUnavailable(
        f"no TLS connection to {url.address}: {reason}; does this port speak TLS, version 1.2 or later?"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it came from, and what that came from."""
    seen = 0
    while error is not None and seen < 8:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
