#!/bin/sh
# Install what examples/shell needs: sh tests/interop/install/shell.sh
#
# What is there already costs nothing. It ends with status 1 when something could not be installed.
set -eu
cd "$(dirname "$0")"

for tool in amqp-publish=amqp-tools jq=jq; do
    command -v "${tool%%=*}" >/dev/null || sh ../../apt-install.sh "${tool#*=}"
done
