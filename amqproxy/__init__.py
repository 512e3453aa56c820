"""Call objects in other processes over RabbitMQ as if they were local."""

from . import sync
from .alive import Progress
from .batch import gather
from .blob import Blob
from .breaker import breaker
from .broadcast import Answers, Broadcast
from .client import Client, connect
from .contract import method, serve
from .deduplication import Deduplication, Store
from .errors import (
    AccessRefused,
    AMQProxyError,
    BadReply,
    BrokerUnavailable,
    CallError,
    CallTimeout,
    Closed,
    ConnectionLost,
    ContractError,
    EncodingFailed,
    MessageTooLarge,
    Overloaded,
    RemoteError,
    TopologyConflict,
    Unroutable,
    WorkerLost,
)
from .handler import Call, current
from .messages import message
from .middleware import Next, OutgoingCall
from .poll import WorkerAnswer
from .progress import progress, track
from .provided import provided
from .proxy import Proxy, options
from .received import Stream
from .retry import Retry, RetryBudget
from .runner import run
from .sender import Sender
from .signing import Signing
from .states import State
from .timebox import deadline
from .tracing import tracing

__version__ = "0.1.0"

__all__ = [
    "AMQProxyError",
    "AccessRefused",
    "Answers",
    "BadReply",
    "Blob",
    "Broadcast",
    "BrokerUnavailable",
    "Call",
    "CallError",
    "CallTimeout",
    "Client",
    "Closed",
    "ConnectionLost",
    "ContractError",
    "Deduplication",
    "EncodingFailed",
    "MessageTooLarge",
    "Next",
    "OutgoingCall",
    "Overloaded",
    "Progress",
    "Proxy",
    "RemoteError",
    "Retry",
    "RetryBudget",
    "Sender",
    "Signing",
    "State",
    "Store",
    "Stream",
    "TopologyConflict",
    "Unroutable",
    "WorkerAnswer",
    "WorkerLost",
    "breaker",
    "connect",
    "current",
    "deadline",
    "gather",
    "message",
    "method",
    "options",
    "progress",
    "provided",
    "run",
    "serve",
    "sync",
    "tracing",
    "track",
]
