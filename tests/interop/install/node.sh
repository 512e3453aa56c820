#!/bin/sh
# Fetch what examples/node needs: sh tests/interop/install/node.sh
#
# What is there already costs nothing. It ends with status 1 when it cannot; the tests of Node are skipped then, but
# with CI=true they fail.
set -eu
cd "$(dirname "$0")/../../.."

# npm writes this one last.
done=examples/node/node_modules/.package-lock.json
[ -e $done ] && [ -z "$(find examples/node/package-lock.json -newer $done)" ] && exit

for tool in node=nodejs npm=npm; do
    command -v "${tool%%=*}" >/dev/null || sh tests/apt-install.sh "${tool#*=}"
done
echo "amqproxy: fetching the libraries of the programs in Node" >&2
log=$(mktemp)
trap 'rm "$log"' EXIT
if ! npm ci --prefix examples/node --ignore-scripts --no-audit --no-fund </dev/null >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    exit 1
fi
