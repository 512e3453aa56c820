/* The worker of the C pair: usage AMQPROXY_URL=amqp://... ./pair_worker QUEUE PREFETCH
 *
 * The yardstick, so it does what a good C program would do and no more: one channel, one reply and one
 * acknowledgement for each request, in that order, no batching beyond what the kernel does.
 */
#define _GNU_SOURCE
#include "pair.h"

#include <fcntl.h>
#include <unistd.h>

/* Calculates the reply into `space`, or points into the request. Returns the reply's body. */
static amqp_bytes_t reply_to_add(amqp_bytes_t request, char *space, size_t room)
{
    amqp_bytes_t reply;
    long x, y;

    if (!json_long(request, "\"x\":", &x) || !json_long(request, "\"y\":", &y))
        fail("add", "no x or no y in the request");
    reply.bytes = space;
    reply.len = snprintf(space, room, "{\"x\":%ld,\"y\":%ld,\"sum\":%ld}", x, y, x + y);
    return reply;
}

/* {"text":"abc"} is answered with "abc", which the request already contains, quotes included. */
static amqp_bytes_t reply_to_echo(amqp_bytes_t request)
{
    const size_t head = strlen(ECHO_HEAD), tail = strlen(ECHO_TAIL);
    const char *text = (const char *)request.bytes + head;
    amqp_bytes_t reply;

    if (request.len < head + tail || memcmp(request.bytes, ECHO_HEAD, head) != 0)
        fail("echo", "no text in the request");
    const char *quote = memchr(text, '"', request.len - head);
    if (!quote || quote + tail != (const char *)request.bytes + request.len)
        fail("echo", "the text does not end where the request does");
    reply.bytes = (char *)text - 1;
    reply.len = quote - text + 2;
    return reply;
}

static int equals(amqp_bytes_t bytes, const char *text)
{
    return bytes.len == strlen(text) && memcmp(bytes.bytes, text, bytes.len) == 0;
}

static void answer(amqp_connection_state_t connection, const amqp_envelope_t *delivery)
{
    const amqp_basic_properties_t *asked = &delivery->message.properties;
    amqp_bytes_t request = delivery->message.body, body;
    amqp_basic_properties_t properties;
    char space[128];

    properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
                        AMQP_BASIC_CORRELATION_ID_FLAG;
    properties.content_encoding = amqp_cstring_bytes("json");
    properties.correlation_id = asked->correlation_id;
    if (equals(asked->content_type, "EchoRequest")) {
        properties.content_type = amqp_cstring_bytes("EchoResponse");
        body = reply_to_echo(request);
    } else {
        properties.content_type = amqp_cstring_bytes("AddResponse");
        body = reply_to_add(request, space, sizeof space);
    }
    check_status(amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, asked->reply_to, 0, 0, &properties,
                                    body), "basic.publish");
    check_status(amqp_basic_ack(connection, CHANNEL, delivery->delivery_tag, 0), "basic.ack");
}

/* Nobody writes to the input; when the bench closes it, or dies, SIGIO ends this process. */
static void end_with_input(void)
{
    fcntl(STDIN_FILENO, F_SETOWN, getpid());
    fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_ASYNC);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        fail("usage", "pair_worker QUEUE PREFETCH");
    end_with_input();
    amqp_connection_state_t connection = connect_to_broker();
    amqp_bytes_t queue = amqp_cstring_bytes(argv[1]);

    amqp_queue_declare(connection, CHANNEL, queue, 0, 0, 0, 1, amqp_empty_table);
    check_reply(amqp_get_rpc_reply(connection), "queue.declare");
    amqp_basic_qos(connection, CHANNEL, 0, (uint16_t)atoi(argv[2]), 0);
    check_reply(amqp_get_rpc_reply(connection), "basic.qos");
    consume(connection, queue, 0);
    say_ready();

    for (;;) {
        amqp_envelope_t delivery;
        amqp_maybe_release_buffers(connection);
        check_reply(amqp_consume_message(connection, &delivery, NULL, 0), "consume");
        answer(connection, &delivery);
        amqp_destroy_envelope(&delivery);
    }
}
