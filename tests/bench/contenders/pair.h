/* What the two ends of the C pair share. Each includes it once; it is no library. */
#ifndef PAIR_H
#define PAIR_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <amqp.h>
#include <amqp_tcp_socket.h>

enum { CHANNEL = 1, FRAME_MAX = 131072, NO_HEARTBEAT = 0 };

/* {"text":"..."}: where the text begins, and what follows it */
#define ECHO_HEAD "{\"text\":\""
#define ECHO_TAIL "\"}"

/* Reports an error in the form that the bench reads, and ends the process. */
static void fail(const char *what, const char *why)
{
    char text[512];
    snprintf(text, sizeof text, "%s: %s", what, why);
    for (char *c = text; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
            *c = '\'';
    printf("{\"error\":\"%s\"}\n", text);
    fflush(stdout);
    exit(1);
}

static void check_status(int status, const char *what)
{
    if (status < 0)
        fail(what, amqp_error_string2(status));
}

static void check_reply(amqp_rpc_reply_t reply, const char *what)
{
    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return;
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
        fail(what, amqp_error_string2(reply.library_error));
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        amqp_channel_close_t *close = reply.reply.decoded;
        char why[256];
        snprintf(why, sizeof why, "%.*s", (int)close->reply_text.len, (char *)close->reply_text.bytes);
        fail(what, why);
    }
    fail(what, "the broker closed the connection");
}

/* Connects to AMQPROXY_URL (amqp:// only) and opens the one channel. */
static amqp_connection_state_t connect_to_broker(void)
{
    const char *environment = getenv("AMQPROXY_URL");
    struct amqp_connection_info broker;
    char *url;

    if (!environment || !(url = strdup(environment)))
        fail("connect", "AMQPROXY_URL is not set");
    check_status(amqp_parse_url(url, &broker), "AMQPROXY_URL");
    if (broker.ssl)
        fail("connect", "the C pair speaks amqp:// only, not amqps://");
    if (!*broker.vhost) /* amqp://host/ names the virtual host "" to the letter; Python's clients read "/" */
        broker.vhost = "/";

    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    if (!socket)
        fail("connect", "out of memory");
    check_status(amqp_socket_open(socket, broker.host, broker.port), "connect");
    check_reply(amqp_login(connection, broker.vhost, AMQP_DEFAULT_MAX_CHANNELS, FRAME_MAX, NO_HEARTBEAT,
                           AMQP_SASL_METHOD_PLAIN, broker.user, broker.password), "login");
    amqp_channel_open(connection, CHANNEL);
    check_reply(amqp_get_rpc_reply(connection), "channel.open");
    return connection;
}

static void consume(amqp_connection_state_t connection, amqp_bytes_t queue, amqp_boolean_t no_ack)
{
    amqp_basic_consume(connection, CHANNEL, queue, amqp_empty_bytes, 0, no_ack, 0, amqp_empty_table);
    check_reply(amqp_get_rpc_reply(connection), "basic.consume");
}

static void say_ready(void)
{
    printf("{\"ready\":\"%s\"}\n", amqp_version());
    fflush(stdout);
}

/* Reads the digits at the start of a byte string that has no terminator. Returns 0 if there are none. */
static int parse_long(const char *from, const char *end, long *value)
{
    const char *at = from;
    int negative = at < end && *at == '-';

    for (at += negative, from = at, *value = 0; at < end && *at >= '0' && *at <= '9'; at++)
        *value = *value * 10 + (*at - '0');
    if (negative)
        *value = -*value;
    return at > from;
}

/* Finds a number in a flat JSON object: the key is given as it is written, "x": with its quotes and colon. */
static int json_long(amqp_bytes_t body, const char *key, long *value)
{
    const char *start = body.bytes, *end = start + body.len;
    const char *found = memmem(start, body.len, key, strlen(key));

    return found && parse_long(found + strlen(key), end, value);
}

#endif
