"""What goes wrong with TLS, in words that name the cure; and a warning for who turned its checks off."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator

from .errors import AccessRefused, AMQProxyError, BrokerUnavailable
from .url import BrokerURL

log = logging.getLogger("amqproxy.connection")


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
