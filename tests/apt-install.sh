#!/bin/sh
# Install Debian packages that `make` needs: sh tests/apt-install.sh PACKAGE...
#
# What is there already costs nothing. It asks no questions, starts no service, and says what to do, with status 1,
# where it cannot install: when this is no Debian (or Ubuntu), or we are not root.
set -eu

say() {
    echo "amqproxy: $*" >&2
}

is_there() {
    case $1 in
        # Also without Debian's package manager; a normal user's PATH lacks the sbin directories.
        rabbitmq-server) (PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/opt/homebrew/sbin"; command -v "$1") ;;
        redis-server) command -v redis-server ;;
        gcc) command -v cc || command -v gcc ;;
        protobuf-compiler) command -v protoc ;;
        thrift-compiler) command -v thrift ;;
        maven) command -v mvn ;;
        *) dpkg-query --show --showformat='${Status}' "$1" | grep ' ok installed$' ;;
    esac >/dev/null 2>&1
}

install() {
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null >"$log" 2>&1
}

missing=
for package in "$@"; do
    is_there "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    say "please install what Debian calls$missing; this is no Debian, so make does not know how."
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    say "please install$missing: sudo apt-get install --no-install-recommends$missing"
    exit 1
fi

log=$(mktemp)
policy=
# Packages start their service on installation, unless this program forbids it: make needs the programs only.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
fi
trap 'rm -f "$log" $policy' EXIT
trap 'exit 1' HUP INT TERM

say "installing$missing"
# The lists of packages are fetched only when they are missing or too old to install from.
# shellcheck disable=SC2086  # one word for each package
if ! install $missing; then
    { apt-get -o DPkg::Lock::Timeout=300 update </dev/null >"$log" 2>&1 && install $missing; } || {
        tail -n 15 "$log" >&2
        say "apt-get could not install$missing; its last words are above."
        exit 1
    }
fi
