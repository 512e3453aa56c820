#!/bin/sh
# Generate the classes of proto/ and thrift/, in Python and Ruby, beside their users: sh tests/generate_idl.sh [DIRECTORY]
#
# With a directory, everything is written there instead, for the test that what is here is up to date. protoc and thrift
# are Debian's protobuf-compiler and thrift-compiler: code of an old protoc runs with each newer protobuf library.
set -eu
cd "$(dirname "$0")/.."

root=${1:-.}

python() {
    mkdir -p "$root/$2"
    case $1 in
        *.proto) protoc --proto_path "$(dirname "$1")" --python_out "$root/$2" --pyi_out "$root/$2" "$1" ;;
        *.thrift) thrift --gen py -out "$root/$2" "$1" && rm -f "$root/$2/__init__.py" ;;
    esac
}

ruby() {
    mkdir -p "$root/examples/ruby"
    protoc --proto_path proto --ruby_out "$root/examples/ruby" "proto/$1.proto"
    thrift --gen rb -out "$root/examples/ruby" "thrift/$1.thrift"
    rm "$root/examples/ruby/$1_constants.rb"
}

ruby calculator
python proto/calculator.proto examples
python thrift/calculator.thrift examples
python proto/person.proto tests/idl
python thrift/person.thrift tests/idl
for file in tests/idl/*.proto tests/idl/*.thrift; do
    [ ! -e "$file" ] || python "$file" tests/idl
done
