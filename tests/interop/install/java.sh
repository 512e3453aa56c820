#!/bin/sh
# Build examples/java: sh tests/interop/install/java.sh
#
# What is there already costs nothing. It ends with status 1 when it cannot; the tests of Java are skipped then, but
# with CI=true they fail.
set -eu
cd "$(dirname "$0")/../../.."

done=examples/java/target/installed
[ -e $done ] && [ -z "$(find examples/java/src examples/java/pom.xml proto thrift -newer $done)" ] && exit

for tool in javac=default-jdk-headless mvn=maven thrift=thrift-compiler; do
    command -v "${tool%%=*}" >/dev/null || sh tests/apt-install.sh "${tool#*=}"
done
echo "amqproxy: building the programs in Java" >&2
log=$(mktemp)
trap 'rm "$log"' EXIT
if mvn --batch-mode --file examples/java/pom.xml compile </dev/null >"$log" 2>&1; then
    touch $done
else
    tail -n 25 "$log" >&2
    exit 1
fi
