#!/bin/sh
# Install what the programs of tests/clients need beside Python: sh tests/clients/install.sh
#
# What is there already costs nothing. It ends with status 1 when a client could not be installed; the tests of that
# client are skipped then, but with CI=true they fail.
set -eu
cd "$(dirname "$0")"

say() {
    echo "amqproxy: $*" >&2
}

# fresh TARGET SOURCE...: whether TARGET is there, and no older than any SOURCE.
fresh() {
    target=$1
    shift
    [ -e "$target" ] && [ -z "$(find "$@" -newer "$target")" ]
}

# quietly COMMAND...: what it says is shown only when it fails.
quietly() {
    log=$(mktemp)
    "$@" </dev/null >"$log" 2>&1 && rm "$log" && return
    tail -n 15 "$log" >&2
    rm "$log"
    return 1
}

# tools PROGRAM=PACKAGE...: install the packages of those programs that are not there.
tools() {
    for tool in "$@"; do
        command -v "${tool%%=*}" >/dev/null || sh ../apt-install.sh "${tool#*=}" || return 1
    done
}

install_amqplib() {
    fresh node/node_modules/amqplib node/package-lock.json && return
    tools node=nodejs npm=npm && say "fetching amqplib for Node" &&
        quietly npm ci --prefix node --ignore-scripts --no-audit --no-fund && touch node/node_modules/amqplib
}

install_java() {
    fresh java/lib/Scenarios.class java/Scenarios.java java/pom.xml && return
    tools javac=default-jdk-headless mvn=maven && say "fetching RabbitMQ's client for Java" &&
        quietly mvn --batch-mode --file java/pom.xml dependency:copy-dependencies -DoutputDirectory=lib &&
        quietly javac -encoding UTF-8 -classpath 'java/lib/*' -d java/lib java/Scenarios.java
}

install_go() {
    fresh go/client go/main.go go/go.mod && return
    # Debian's own Go is too old for the client.
    command -v go >/dev/null || { say "there is no Go here: amqp091-go is left out"; return; }
    say "building the program of amqp091-go" && quietly go build -C go -o client .
}

install_bunny() {
    ruby -rbunny -e '' 2>/dev/null && return
    tools ruby=ruby && sh ../apt-install.sh ruby-bunny
}

status=0
install_amqplib || status=1
install_java || status=1
install_go || status=1
install_bunny || status=1
exit $status
