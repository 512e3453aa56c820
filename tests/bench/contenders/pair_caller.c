/* The caller of the C pair: usage AMQPROXY_URL=amqp://... ./pair_caller QUEUE, then orders on standard input:
 * {"size":0,"window":64,"count":1000}
 *
 * Replies come by direct reply-to, and in order, since there is one worker: the n-th reply must be the n-th
 * answer.
 */
#define _GNU_SOURCE
#include "pair.h"

#include <time.h>

enum { Y = 2, DIGITS = 12 };

struct run {
    size_t size; /* 0: add; else echo of a text so long */
    long window, count;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* Writes the number of a call into its text: 12 digits, no terminator. */
static void write_number(char *text, long number)
{
    char digits[DIGITS + 12];
    snprintf(digits, sizeof digits, "%0*ld", DIGITS, number);
    memcpy(text, digits, DIGITS);
}

/* The request with its text; only the number in front of the text changes from call to call. */
static amqp_bytes_t make_echo(size_t size)
{
    const size_t head = strlen(ECHO_HEAD), tail = strlen(ECHO_TAIL);
    amqp_bytes_t body = amqp_bytes_malloc(head + size + tail);

    if (!body.bytes)
        fail("echo", "out of memory");
    memcpy(body.bytes, ECHO_HEAD, head);
    memset((char *)body.bytes + head, 'a', size);
    memcpy((char *)body.bytes + head + size, ECHO_TAIL, tail);
    return body;
}

static void send_call(amqp_connection_state_t connection, amqp_bytes_t queue, long number, amqp_bytes_t echo)
{
    amqp_basic_properties_t properties;
    amqp_bytes_t body = echo;
    char id[24], add[64];

    properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
                        AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_REPLY_TO_FLAG;
    properties.content_encoding = amqp_cstring_bytes("json");
    properties.reply_to = amqp_cstring_bytes("amq.rabbitmq.reply-to");
    properties.correlation_id.bytes = id;
    properties.correlation_id.len = snprintf(id, sizeof id, "%ld", number);
    if (echo.len) {
        properties.content_type = amqp_cstring_bytes("EchoRequest");
        write_number((char *)echo.bytes + strlen(ECHO_HEAD), number);
    } else {
        properties.content_type = amqp_cstring_bytes("AddRequest");
        body.bytes = add;
        body.len = snprintf(add, sizeof add, "{\"x\":%ld,\"y\":%d}", number, Y);
    }
    check_status(amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, queue, 1, 0, &properties, body),
                 "basic.publish");
}

static void check_answer(const amqp_message_t *reply, long number, amqp_bytes_t echo)
{
    const char *id = reply->properties.correlation_id.bytes;
    long answered, sum;

    if (!(reply->properties._flags & AMQP_BASIC_CORRELATION_ID_FLAG) ||
        !parse_long(id, id + reply->properties.correlation_id.len, &answered) || answered != number)
        fail("WrongAnswer", "another call's correlation id");
    if (!echo.len) {
        if (!json_long(reply->body, "\"sum\":", &sum) || sum != number + Y)
            fail("WrongAnswer", "the sum is wrong");
        return;
    }
    /* Without {"text": and }, and with this call's number, the request is what must come back. */
    char *expected = (char *)echo.bytes + strlen(ECHO_HEAD) - 1;
    write_number(expected + 1, number);
    size_t length = echo.len - strlen(ECHO_HEAD);
    if (reply->body.len != length || memcmp(reply->body.bytes, expected, length) != 0)
        fail("WrongAnswer", "the echo came back as something else");
}

static double make_calls(amqp_connection_state_t connection, amqp_bytes_t queue, struct run run)
{
    amqp_bytes_t echo = run.size ? make_echo(run.size) : amqp_empty_bytes;
    long sent = 0, answered = 0;
    double start = now();

    while (answered < run.count) {
        for (; sent < run.count && sent - answered < run.window; sent++)
            send_call(connection, queue, sent, echo);
        amqp_envelope_t reply;
        amqp_maybe_release_buffers(connection);
        check_reply(amqp_consume_message(connection, &reply, NULL, 0), "consume");
        check_answer(&reply.message, answered++, echo);
        amqp_destroy_envelope(&reply);
    }
    double seconds = now() - start;
    if (run.size)
        amqp_bytes_free(echo);
    return seconds;
}

int main(int argc, char **argv)
{
    char line[256];
    const char *order = "{\"size\":%zu,\"window\":%ld,\"count\":%ld}";
    struct run run;

    if (argc != 2)
        fail("usage", "pair_caller QUEUE");
    amqp_connection_state_t connection = connect_to_broker();
    consume(connection, amqp_cstring_bytes("amq.rabbitmq.reply-to"), 1);
    say_ready();

    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, order, &run.size, &run.window, &run.count) != 3)
            fail("order", line);
        if (run.size && run.size < DIGITS)
            fail("order", "an echo needs room for its number");
        printf("{\"seconds\":%.9f}\n", make_calls(connection, amqp_cstring_bytes(argv[1]), run));
        fflush(stdout);
    }
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
    return 0;
}
