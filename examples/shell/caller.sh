#!/bin/sh
# Calls a calculator through RabbitMQ with amqp-tools and jq, in JSON.
#
# Usage: caller.sh [URL [SERVICE]]
set -eu

url=${1:-${AMQPROXY_URL:-amqp://guest:guest@localhost/}}
url=${url%/} # with the slash, the tools ask for a virtual host without a name
service=${2:-calculator}
seconds=10

if [ "${3:-json}" != json ]; then
    echo "the shell speaks JSON only" >&2
    exit 1
fi

# call METHOD BODY: print the result. With status 1 it printed why the call failed; with 2 there was no answer.
#
# Each call has a reply queue of its own, because amqp-publish sets no correlation id to tell replies apart by. The
# queue is deleted by hand: an exclusive one would go with the connection of the tool that declares it.
call() (
    replies=$(amqp-declare-queue --url="$url" --durable --queue="") || exit 2
    trap 'amqp-delete-queue --url="$url" --queue="$replies" >/dev/null' EXIT
    trap 'exit 2' HUP INT TERM
    amqp-publish --url="$url" --routing-key="$service" --content-type="$service.$1" --content-encoding=json \
        --reply-to="$replies" --body="$2" || exit 2
    # In the foreground, where Ctrl-C reaches it too.
    reply=$(timeout --foreground "$seconds" amqp-consume --url="$url" --queue="$replies" --count=1 cat) || {
        echo "$service did not answer within $seconds s; perhaps nobody serves it" >&2
        exit 2
    }
    # Only a failure has this field. Its content type would say so too, but amqp-consume passes on nothing but bodies.
    if printf %s "$reply" | jq -e 'objects | has("throwableAsString")' >/dev/null; then
        printf %s "$reply" | jq -r .message
        exit 1
    fi
    printf '%s\n' "$reply"
)

sum=$(call add '{"x": 1, "y": 2}') || {
    echo "$sum" >&2
    exit 1
}
echo "1 + 2 = $sum"

failure=$(call divide '{"x": 1, "y": 0}') && status=0 || status=$?
[ "$status" -eq 1 ] || exit 1
echo "1 / 0: $failure"
