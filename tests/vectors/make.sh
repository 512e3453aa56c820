#!/bin/sh
# Make the golden vectors again: sh tests/vectors/make.sh [DIRECTORY]
#
# It writes vectors.json, streams.json and bodies/ into this directory, or into another one, to be compared with what is here. It
# needs Debian's default-jdk-headless, maven, protobuf-compiler, thrift-compiler, zstd, gzip and lz4. Java's libraries
# are pinned, so what they write is the same each time; what the three command line tools write may change with them.
set -eu
cd "$(dirname "$0")"

target=${1:-.}
lib=java/target/lib
if [ ! -e "$lib" ] || [ -n "$(find java/pom.xml -newer "$lib")" ]; then
    rm -rf "$lib"
    mvn --quiet --batch-mode --file java/pom.xml dependency:copy-dependencies -DoutputDirectory=target/lib
    touch "$lib"
fi

built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
mkdir "$built/src" "$built/classes"
for idl in calculator person; do
    protoc --proto_path ../../proto --java_out "$built/src" "../../proto/$idl.proto"
    thrift --gen java:generated_annotations=suppress -out "$built/src" "../../thrift/$idl.thrift"
done
find "$built/src" -name '*.java' -exec javac -encoding UTF-8 -nowarn -Xlint:-options -classpath "$lib/*" \
    -d "$built/classes" java/*.java {} + 2>"$built/errors" || { cat "$built/errors" >&2; exit 1; }
java -Dfile.encoding=UTF-8 -classpath "$built/classes:$lib/*" MakeVectors "$target"
