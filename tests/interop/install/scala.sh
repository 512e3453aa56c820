#!/bin/sh
# Build examples/scala: sh tests/interop/install/scala.sh
#
# What is there already costs nothing. It ends with status 1 when it cannot; the tests of Scala are skipped then, but
# with CI=true they fail. Scala's compiler comes as a library, with Maven.
set -eu
cd "$(dirname "$0")/../../.."

done=examples/scala/target/installed
[ -e $done ] && [ -z "$(find examples/scala/*.scala examples/scala/pom.xml examples/scala/*.conf proto thrift -newer $done)" ] && exit

for tool in javac=default-jdk-headless mvn=maven thrift=thrift-compiler; do
    command -v "${tool%%=*}" >/dev/null || sh tests/apt-install.sh "${tool#*=}"
done
echo "amqproxy: building the programs in Scala" >&2
log=$(mktemp)
trap 'rm "$log"' EXIT
# From nothing: copies of libraries that are no longer wanted would stay in the class path.
if rm -rf examples/scala/target && mvn --batch-mode --file examples/scala/pom.xml compile </dev/null >"$log" 2>&1; then
    touch $done
else
    tail -n 25 "$log" >&2
    exit 1
fi
