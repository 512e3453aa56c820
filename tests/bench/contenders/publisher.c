/* A publisher with confirms: usage AMQPROXY_URL=amqp://... ./publisher QUEUE, then orders on standard input:
 * {"size":0,"window":64,"count":1000}
 *
 * The yardstick for one-way messages, so it does what a good C program would do and no more: one channel, as many
 * messages out as the window allows, and more as soon as some are confirmed. The messages are as amqproxy writes them:
 * mandatory, persistent, with a message id.
 */
#define _GNU_SOURCE
#include "pair.h"

#include <time.h>

enum { Y = 2, DIGITS = 12, PERSISTENT = 2 };

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

/* The body with its text; only the number in front of the text changes from message to message. */
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

static void publish(amqp_connection_state_t connection, amqp_bytes_t queue, long number, amqp_bytes_t echo)
{
    amqp_basic_properties_t properties;
    amqp_bytes_t body = echo;
    char id[32], add[64], digits[DIGITS + 12];

    properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
                        AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG;
    properties.content_encoding = amqp_cstring_bytes("json");
    properties.delivery_mode = PERSISTENT;
    properties.message_id.bytes = id;
    properties.message_id.len = snprintf(id, sizeof id, "publisher-in-c--%010lx", number);
    if (echo.len) {
        properties.content_type = amqp_cstring_bytes("bench.diary.echo");
        snprintf(digits, sizeof digits, "%0*ld", DIGITS, number);
        memcpy((char *)echo.bytes + strlen(ECHO_HEAD), digits, DIGITS);
    } else {
        properties.content_type = amqp_cstring_bytes("bench.diary.add");
        body.bytes = add;
        body.len = snprintf(add, sizeof add, "{\"x\":%ld,\"y\":%d}", number, Y);
    }
    check_status(amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, queue, 1, 0, &properties, body),
                 "basic.publish");
}

/* The messages of one run, by their numbers on the channel: those up to `first` belong to runs before. */
struct progress {
    uint64_t first, all_up_to;
    char *settled;
};

static long settle(struct progress *run, uint64_t number)
{
    char *mark = run->settled + (number - run->first - 1);
    return *mark ? 0 : (*mark = 1);
}

/* Waits for one confirmation, and returns how many messages that settles. */
static long confirmed(amqp_connection_state_t connection, struct progress *run)
{
    amqp_frame_t frame;
    long count = 0;

    amqp_maybe_release_buffers(connection);
    check_status(amqp_simple_wait_frame(connection, &frame), "confirm");
    if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
        fail("confirm", "something else than basic.ack came");
    amqp_basic_ack_t *ack = frame.payload.method.decoded;
    if (!ack->multiple)
        return settle(run, ack->delivery_tag);
    for (; run->all_up_to < ack->delivery_tag; run->all_up_to++)
        count += settle(run, run->all_up_to + 1);
    return count;
}

/* `before` messages were published on the channel already. */
static double send_messages(amqp_connection_state_t connection, amqp_bytes_t queue, struct run run, uint64_t before)
{
    amqp_bytes_t echo = run.size ? make_echo(run.size) : amqp_empty_bytes;
    struct progress progress = {before, before, calloc(run.count, 1)};
    long sent = 0, settled = 0;

    if (!progress.settled)
        fail("confirm", "out of memory");
    double start = now();
    while (settled < run.count) {
        for (; sent < run.count && sent - settled < run.window; sent++)
            publish(connection, queue, sent, echo);
        settled += confirmed(connection, &progress);
    }
    double seconds = now() - start;
    free(progress.settled);
    if (run.size)
        amqp_bytes_free(echo);
    return seconds;
}

static void empty(amqp_connection_state_t connection, amqp_bytes_t queue)
{
    amqp_queue_purge(connection, CHANNEL, queue);
    check_reply(amqp_get_rpc_reply(connection), "queue.purge");
}

/* Every message is in the queue, which was empty before. */
static void check_queue(amqp_connection_state_t connection, amqp_bytes_t queue, long count)
{
    amqp_queue_declare_ok_t *found = amqp_queue_declare(connection, CHANNEL, queue, 1, 0, 0, 0, amqp_empty_table);
    check_reply(amqp_get_rpc_reply(connection), "queue.declare");
    if (!found || found->message_count != (uint32_t)count)
        fail("WrongAnswer", "the queue does not hold what was confirmed");
}

int main(int argc, char **argv)
{
    char line[256];
    const char *order = "{\"size\":%zu,\"window\":%ld,\"count\":%ld}";
    struct run run;
    uint64_t before = 0;

    if (argc != 2)
        fail("usage", "publisher QUEUE");
    amqp_connection_state_t connection = connect_to_broker();
    amqp_bytes_t queue = amqp_cstring_bytes(argv[1]);
    amqp_confirm_select(connection, CHANNEL);
    check_reply(amqp_get_rpc_reply(connection), "confirm.select");
    say_ready();

    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, order, &run.size, &run.window, &run.count) != 3)
            fail("order", line);
        if (run.size && run.size < DIGITS)
            fail("order", "an echo needs room for its number");
        empty(connection, queue);
        double seconds = send_messages(connection, queue, run, before);
        before += run.count;
        check_queue(connection, queue, run.count);
        printf("{\"seconds\":%.9f}\n", seconds);
        fflush(stdout);
    }
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
    return 0;
}
