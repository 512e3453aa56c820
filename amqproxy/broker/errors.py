"""What a client did wrong, as AMQP 0-9-1 names it: a reply code and a text, and whether the channel or all ends.

The codes are those of the specification's section 1.2.4 (constants); the texts are RabbitMQ's, which clients and people
know.
"""

from __future__ import annotations

REPLY_NAMES = {
    311: "CONTENT_TOO_LARGE",
    312: "NO_ROUTE",
    313: "NO_CONSUMERS",
    320: "CONNECTION_FORCED",
    402: "INVALID_PATH",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    506: "RESOURCE_ERROR",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}
SOFT = frozenset({311, 313, 403, 404, 405, 406})
"""Errors that end a channel; all others end the connection."""
_LONGEST = 255


class ProtocolError(Exception):
    """The reason why a channel or a connection is closed."""

    def __init__(self, code: int, explanation: str) -> None:
        super().__init__(code, explanation)
        self.code = code
        self.explanation = explanation
        self.method: bytes | None = None
        """Class and method that failed; None if that is not known yet, empty where it was none."""

    @property
    def soft(self) -> bool:
        """Whether only the channel ends."""
        return self.code in SOFT

    @property
    def text(self) -> str:
        """The reply text, cut to what a short string holds."""
        text = f"{REPLY_NAMES[self.code]} - {self.explanation}" if self.explanation else REPLY_NAMES[self.code]
        raw = text.encode(errors="surrogateescape")
        if len(raw) <= _LONGEST:
            return text
        return raw[: _LONGEST - 3].decode(errors="ignore") + "..."


def refused(explanation: str) -> ProtocolError:
    """403, which ends the channel."""
    return ProtocolError(403, explanation)


def not_found(explanation: str) -> ProtocolError:
    """404, which ends the channel."""
    return ProtocolError(404, explanation)


def locked(explanation: str) -> ProtocolError:
    """405, which ends the channel."""
    return ProtocolError(405, explanation)


def precondition_failed(explanation: str) -> ProtocolError:
    """406, which ends the channel."""
    return ProtocolError(406, explanation)


def frame_error(explanation: str) -> ProtocolError:
    """501, which ends the connection."""
    return ProtocolError(501, explanation)


def command_invalid(explanation: str) -> ProtocolError:
    """503, which ends the connection."""
    return ProtocolError(503, explanation)


def channel_error(explanation: str) -> ProtocolError:
    """504, which ends the connection."""
    return ProtocolError(504, explanation)


def unexpected_frame(explanation: str) -> ProtocolError:
    """505, which ends the connection."""
    return ProtocolError(505, explanation)


def not_allowed(explanation: str) -> ProtocolError:
    """530, which ends the connection."""
    return ProtocolError(530, explanation)


def not_implemented(explanation: str) -> ProtocolError:
    """540, which ends the connection."""
    return ProtocolError(540, explanation)


def erlang_pair(before: str, name: str, value: int) -> str:
    """A pair as RabbitMQ's texts show it behind `before`: on two lines if it does not fit into 80 columns."""
    line = f"{before}{{{name},{value}}}"
    return line if len(line) < 80 else f"{before}{{{name},\n{' ' * (len(before) + 1)}{value}}}"


def erlang_binary(data: bytes) -> str:
    """Bytes as RabbitMQ's texts show them: as text where they are printable, else as numbers."""
    if data and all(32 <= byte < 127 for byte in data):
        escaped = data.decode().replace("\\", "\\\\").replace('"', '\\"')
        return f'<<"{escaped}">>'
    return f"<<{','.join(map(str, data))}>>"
