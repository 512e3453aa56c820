#!/bin/sh
# Build examples/go: sh tests/interop/install/go.sh
#
# What is there already costs nothing. It ends with status 1 when it cannot; the tests of Go are skipped then, but with
# CI=true they fail. Without Go it does nothing: Debian's own may be too old.
set -eu
cd "$(dirname "$0")/../../../examples/go"

sources="go.mod go.sum caller worker wire calculatorpb"
# shellcheck disable=SC2086  # one word for each source
[ -e bin/worker ] && [ -z "$(find $sources -newer bin/worker)" ] && exit

command -v go >/dev/null || { echo "amqproxy: there is no Go here: its programs are left out" >&2; exit 0; }
echo "amqproxy: building the programs in Go" >&2
log=$(mktemp)
trap 'rm "$log"' EXIT
if go build -o bin/ ./caller ./worker </dev/null >"$log" 2>&1; then
    touch bin/worker
else
    tail -n 15 "$log" >&2
    exit 1
fi
