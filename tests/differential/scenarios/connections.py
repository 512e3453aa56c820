"""Connections and channels: the handshake, who may come in, permissions, and the ends of both."""

from __future__ import annotations

from tests.differential.judge import User
from tests.differential.language import (
    A0,
    A1,
    A2,
    A3,
    B0,
    B1,
    At,
    BindExchange,
    BindQueue,
    CloseChannel,
    CloseConnection,
    Consume,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    Flow,
    Get,
    OpenChannel,
    OpenConnection,
    Publish,
    PurgeQueue,
    SendBytes,
    SendFrame,
    SendMethod,
    Together,
    UnbindExchange,
    UnbindQueue,
    UpdateSecret,
    Wait,
)
from tests.differential.scenarios.scenario import Scenario, beside, scenario

HANDSHAKE = "handshake and tuning"
AUTHENTICATION = "authentication"
VHOST = "virtual hosts"
PERMISSIONS = "permissions"
CHANNEL = "channels"
CLOSE = "closing"
HEARTBEAT = "heartbeats"
SECRET = "connection.update-secret"

OTHER_VHOST = "other"
VHOSTS = (OTHER_VHOST,)
LIMITED = User(
    "limited", "secret", {"/": ("^mine", "^(mine|yours|amq\\.direct)", "^(mine|theirs)"), OTHER_VHOST: ("", "", "")}
)
STRANGER = User("stranger", "secret", {})
USERS = (LIMITED, STRANGER)
NO_CAPABILITIES: tuple[str, ...] = ()
AS_LIMITED = OpenConnection(2, user=LIMITED.name, password=LIMITED.password)


def limited(name: str, *operations: object) -> Scenario:
    """Do things as a user who may not do all of them."""
    return scenario(
        PERMISSIONS,
        name,
        DeclareQueue("mine"),
        DeclareQueue("yours"),
        DeclareQueue("theirs"),
        DeclareExchange("mine.x", "fanout"),
        DeclareExchange("yours.x", "fanout"),
        DeclareExchange("theirs.x", "fanout"),
        AS_LIMITED,
        *operations,  # type: ignore[arg-type]
    )


SCENARIOS = (
    scenario(HANDSHAKE, "handshake shows what the broker is", OpenConnection(), CloseConnection()),
    scenario(
        HANDSHAKE,
        "tuning takes what the client asks for",
        OpenConnection(channel_max=5, frame_max=4096),
        OpenChannel(at=At(1, 5)),
        DeclareQueue("q"),
        Publish("", "q", b"x" * 10000),
        Get("q"),
        OpenChannel(at=At(1, 6)),
    ),
    *beside(
        *(
            scenario(HANDSHAKE, f"tuning to {name}", OpenConnection(**tuned), DeclareQueue("q"))  # type: ignore[arg-type]
            for name, tuned in {
                "a small frame": {"frame_max": 4095},
                "a frame of 1 byte": {"frame_max": 1},
                "a large frame": {"frame_max": 131073},
                "frames without a limit": {"frame_max": 0},
                "many channels": {"channel_max": 2048},
                "channels without a limit": {"channel_max": 0},
                "one channel": {"channel_max": 1},
            }.items()
        )
    ),
    scenario(
        AUTHENTICATION,
        "wrong password",
        OpenConnection(password="wrong"),
        OpenConnection(password="wrong", mechanism="AMQPLAIN"),
    ),
    scenario(AUTHENTICATION, "unknown user", OpenConnection(user="nobody"), OpenConnection(user="", password="")),
    scenario(AUTHENTICATION, "empty password", OpenConnection(password="")),
    scenario(AUTHENTICATION, "AMQPLAIN", OpenConnection(mechanism="AMQPLAIN"), DeclareQueue("q")),
    *beside(
        *(
            scenario(AUTHENTICATION, f"mechanism {name}", OpenConnection(mechanism=mechanism, response=response))
            for name, mechanism, response in (
                ("unknown", "NONSENSE", ""),
                ("empty", "", ""),
                ("in lower case", "plain", None),
                ("EXTERNAL", "EXTERNAL", "guest"),
                ("PLAIN with a malformed response", "PLAIN", "guest"),
                ("PLAIN with an empty response", "PLAIN", ""),
                ("PLAIN with an authorization id", "PLAIN", "guest\0guest\0guest"),
                ("PLAIN with too many parts", "PLAIN", "\0guest\0guest\0guest"),
            )
        )
    ),
    *beside(
        scenario(
            AUTHENTICATION,
            "wrong password without the capability",
            OpenConnection(password="wrong", capabilities=NO_CAPABILITIES),
        )
    ),
    scenario(VHOST, "vhost that is not there", OpenConnection(vhost="nowhere")),
    scenario(VHOST, "vhost of an empty name", OpenConnection(vhost="")),
    scenario(VHOST, "vhost that the user may not enter", OpenConnection(user="stranger", password="secret")),
    scenario(VHOST, "vhost that is not there without capabilities", OpenConnection(vhost="n", capabilities=())),
    scenario(
        VHOST,
        "vhosts share nothing",
        DeclareQueue("q"),
        OpenConnection(2, user=LIMITED.name, password=LIMITED.password, vhost=OTHER_VHOST),
        Get("q", at=B1),
    ),
    limited("user may configure what it may", DeclareQueue("mine.q", at=B1), DeleteQueue("mine.q", at=B1)),
    limited("user may not declare a queue", DeclareQueue("q", at=B1), DeclareQueue("yours", at=B1)),
    limited("user may declare any queue passively", DeclareQueue("yours", passive=True, at=B1)),
    limited("user may not have a queue named", DeclareQueue("", at=B1), DeclareQueue("", exclusive=True, at=B1)),
    limited("user may not delete a queue", DeleteQueue("yours", at=B1), DeleteQueue("nothing", at=B1)),
    limited("user may not declare an exchange", DeclareExchange("yours.x", at=B1), DeclareExchange("new", at=B1)),
    limited("user may declare any exchange passively", DeclareExchange("yours.x", passive=True, at=B1)),
    limited("user may not delete an exchange", DeleteExchange("yours.x", at=B1), DeleteExchange("nothing", at=B1)),
    limited("user may not purge", PurgeQueue("yours", at=B1), PurgeQueue("theirs", at=B1)),
    limited("user may not get", Get("yours", at=B1), Get("theirs", at=B1), Get("nothing", at=B1)),
    limited("user may not consume", Consume("yours", "t", at=B1), Consume("theirs", "t", at=B1)),
    limited(
        "user may not publish",
        Publish("theirs.x", "k", "b", at=B1),
        Publish("", "mine", "b", at=B1),
        Publish("amq.direct", "k", "b", at=B1),
        Publish("amq.topic", "k", "b", at=B1),
        Publish("nothing", "k", "b", at=B1),
    ),
    limited(
        "user may not bind",
        BindQueue("theirs", "mine.x", at=B1),
        BindQueue("mine", "yours.x", at=B1),
        BindQueue("mine", "theirs.x", at=B1),
        BindQueue("nothing", "theirs.x", at=B1),
        UnbindQueue("theirs", "mine.x", at=B1),
        UnbindQueue("mine", "yours.x", at=B1),
    ),
    limited(
        "user may not bind exchanges",
        BindExchange("theirs.x", "mine.x", at=B1),
        BindExchange("mine.x", "yours.x", at=B1),
        BindExchange("yours.x", "theirs.x", at=B1),
        UnbindExchange("theirs.x", "mine.x", at=B1),
    ),
    limited(
        "user may not dead-letter where it may not write",
        DeclareQueue("mine.q", arguments={"x-dead-letter-exchange": "theirs.x"}, at=B1),
        DeclareQueue("mine.q", arguments={"x-dead-letter-exchange": "yours.x"}, at=B1),
        DeclareQueue("theirs.q", arguments={"x-dead-letter-exchange": "theirs.x"}, at=B1),
    ),
    limited(
        "user may not have an alternate where it may not write",
        DeclareExchange("mine.y", arguments={"alternate-exchange": "theirs.x"}, at=B1),
        DeclareExchange("mine.y", arguments={"alternate-exchange": "yours.x"}, at=B1),
    ),
    scenario(
        CHANNEL,
        "channel is opened twice",
        OpenChannel(),
        SendMethod("channel.open", {"out_of_band": ""}),
    ),
    scenario(CHANNEL, "channel is closed and opened again", OpenChannel(), CloseChannel(), OpenChannel()),
    scenario(
        CHANNEL,
        "channel is closed with words",
        CloseChannel(320, "my own words", 60, 40),
        DeclareQueue("q"),
    ),
    scenario(CHANNEL, "flow on a channel never opened", SendMethod("channel.flow", {"active": True}, opens=False)),
    scenario(CHANNEL, "close of a channel never opened", SendMethod("channel.close-ok", {}, opens=False)),
    scenario(
        CHANNEL,
        "ack on a channel never opened",
        SendMethod("basic.ack", {"delivery_tag": 1, "multiple": False}, opens=False),
    ),
    scenario(
        CHANNEL,
        "channels beyond channel_max",
        OpenConnection(channel_max=3),
        OpenChannel(),
        OpenChannel(at=A2),
        OpenChannel(at=A3),
        OpenChannel(at=At(1, 4)),
    ),
    scenario(
        CHANNEL,
        "errors of one channel leave the others alone",
        DeclareQueue("q", at=A2),
        Consume("q", "t", at=A2),
        Get("nothing"),
        Publish("", "q", "still here", at=A2),
        OpenChannel(),
        Get("q"),
    ),
    scenario(
        CHANNEL,
        "error of a connection ends all its channels",
        DeclareQueue("q"),
        Consume("q", "t", at=B1),
        SendMethod("basic.qos", {"prefetch_size": 1, "prefetch_count": 0, "global_": False}, at=At(2, 2)),
        DeclareQueue("q", passive=True),
        DeclareQueue("q", passive=True, at=B1),
    ),
    scenario(CLOSE, "connection is closed with words", CloseConnection(320, "my own words", 10, 40), OpenChannel()),
    scenario(
        CLOSE,
        "what follows an error of the connection is ignored",
        Together(
            (
                Publish("", "q", "refused", immediate=True),
                DeclareQueue("q"),
                DeclareQueue("p", at=A2),
            )
        ),
        DeclareQueue("q", passive=True),
        DeclareQueue("p", passive=True),
    ),
    scenario(CLOSE, "connection is closed while consumers wait", DeclareQueue("q"), Consume("q"), CloseConnection()),
    *beside(
        scenario(
            HEARTBEAT,
            "silent client is dropped",
            OpenConnection(2, heartbeat=1),
            OpenChannel(at=B1),
            Wait(3500),
        )
    ),
    *beside(
        scenario(
            HEARTBEAT,
            "client that sends heartbeats stays",
            OpenConnection(heartbeat=1),
            *(step for _ in range(5) for step in (Wait(700), SendFrame(8, b"", answered=False, at=A0))),
            DeclareQueue("q"),
        ),
        scenario(
            HEARTBEAT,
            "client that sends anything stays",
            OpenConnection(heartbeat=1),
            *(step for _ in range(5) for step in (Wait(700), Flow())),
            DeclareQueue("q"),
        ),
    ),
    scenario(
        HEARTBEAT,
        "heartbeat on a channel is an error",
        OpenChannel(),
        SendFrame(8, b"", at=A1),
    ),
    scenario(HEARTBEAT, "heartbeat on channel 0 is welcome", SendFrame(8, b"", at=A0, answered=False), OpenChannel()),
    scenario(HEARTBEAT, "heartbeat with a payload", SendFrame(8, b"abc", at=A0), OpenChannel()),
    scenario(SECRET, "secret is renewed", UpdateSecret("guest", "why not"), DeclareQueue("q")),
    scenario(SECRET, "secret is renewed wrongly", UpdateSecret("wrong", "why not"), DeclareQueue("q")),
    scenario(
        HANDSHAKE,
        "bytes before a handshake",
        SendBytes(b"GET / HTTP/1.1\r\n\r\n", greeted=False),
        SendBytes(b"AMQP\0\0\x09\0", 2, greeted=False),
        SendBytes(b"AMQP\0\x01\0\0", 3, greeted=False),
        SendBytes(b"AMQP\1\1\0\x09", 4, greeted=False),
        SendBytes(b"AMQP\3\1\0\0", 5, greeted=False),
        SendBytes(b"\0" * 8, 6, greeted=False),
    ),
    scenario(
        HANDSHAKE,
        "AMQP 0-9-1 header in two parts",
        SendBytes(b"AMQP", greeted=False, answered=False),
        SendBytes(b"\0\0\x09\x01", greeted=False),
    ),
    scenario(
        HANDSHAKE,
        "other versions that RabbitMQ takes",
        SendBytes(b"AMQP\1\1\x08\0", greeted=False),
        SendBytes(b"AMQP\1\1\x09\x01", 2, greeted=False),
        SendBytes(b"AMQP\0\0\x09\0", 3, greeted=False),
    ),
    scenario(
        CLOSE,
        "closed connection frees its exclusive queues before it says so",
        DeclareQueue("q", exclusive=True, at=B1),
        CloseConnection(at=B0),
        DeclareQueue("q", exclusive=True),
    ),
)
