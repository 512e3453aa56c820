#!/bin/sh
# Install what examples/ruby and the Ruby sample in examples/akka need: sh tests/interop/install/ruby.sh
#
# What is there already costs nothing. It ends with status 1 when something could not be installed.
set -eu
cd "$(dirname "$0")"

ruby -rbunny -ramqp -rgoogle/protobuf -rthrift -e '' 2>/dev/null ||
    sh ../../apt-install.sh ruby ruby-bunny ruby-amqp ruby-google-protobuf ruby-thrift
