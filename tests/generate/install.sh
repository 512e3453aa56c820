#!/bin/sh
# Install what generated clients need besides the libraries of tests/clients: sh tests/generate/install.sh
#
# What is there already costs nothing. It ends with status 1 when Jackson could not be installed; the tests of Java are
# skipped then, but with CI=true they fail.
set -eu
cd "$(dirname "$0")"

[ -e java/lib ] && [ -z "$(find java/pom.xml -newer java/lib)" ] && exit

sh ../apt-install.sh maven
echo "amqproxy: fetching Jackson for Java" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! mvn --batch-mode --file java/pom.xml dependency:copy-dependencies -DoutputDirectory=lib </dev/null >"$log" 2>&1
then
    tail -n 15 "$log" >&2
    exit 1
fi
touch java/lib
