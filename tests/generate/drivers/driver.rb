# frozen_string_literal: true

# Calls methods of the generated client. Usage: driver.rb URL MODE [COUNT]; prints what came of each as JSON.

require "json"

require_relative "tests_gallery_client"
require_relative "tests_gallery_nobody_client"

url, mode, count = ARGV

SIZE = {"fullWidth" => 3, "height" => 4}.freeze
PICTURE = {
  "id" => "12345678-1234-5678-1234-567812345678",
  "frame" => {"colour" => "red", "size" => SIZE},
  "at" => [1.0, 2.0],
  "labels" => [{"text" => "a"}, {"text" => "b", "lang" => "de"}]
}.freeze

def report(name)
  puts JSON.generate([name, outcome { yield }])
  $stdout.flush
end

def outcome
  yield
rescue TestsGalleryClient::RemoteError => e
  [e.code, e.type, e.message, e.retryable?, e.details, e.executed]
rescue TestsGalleryClient::CallTimeout => e
  ["timeout", e.executed]
rescue TestsGalleryNobodyClient::Unroutable => e
  ["unroutable", e.executed]
rescue TestsGalleryClient::ConnectionLost => e
  ["lost", e.message]
rescue TestsGalleryClient::CallError => e
  [e.executed == "no" ? "unencoded no" : "undecoded #{e.executed}", e.message]
end

def call_all(gallery, nobody)
  report("add") { gallery.add(1, -2) }
  report("greet") { gallery.greet("Ann") }
  report("greet with options") { gallery.greet("Ann", title: "Dr", times: 2, mark: "?") }
  report("end") { gallery.end_("x", true, nil, {"a" => 1}) }
  report("reverse") { gallery.reverse([0, 200, 3].pack("C*")).bytes }
  report("reverse with options") { gallery.reverse("ab", more: "c").bytes }
  report("sort") { gallery.sort([2, 1, 3], [1, "one"], "down", "1.10") }
  report("sort with options") { gallery.sort([2, 1], [1, "one"], "up", "1.10", anything: [1, {"a" => nil}]) }
  report("paint") { gallery.paint(PICTURE, "dark-green", "2024-05-06T07:08:09Z") }
  report("move") { gallery.move({"picture" => PICTURE, "to" => [4.0, 0.0]}) }
  report("check") { gallery.check(1) }
  report("check of a wrong value") { gallery.check(-1) }
  report("find") { gallery.find(7) }
  report("sleep") { gallery.sleep }
  report("nobody") { nobody.nothing }
  report("many") { (0...200).map { |n| Thread.new { gallery.add(n, n) } }.map(&:value) }
end

def lose(gallery)
  gallery.add(1, 2)
  report("ready") { true }
  report("lost") { gallery.sleep }
  $stdin.gets
  report("still lost") { gallery.add(1, 2) }
  $stdin.gets
  report("found again") { gallery.add(1, 2) }
end

def wait(gallery)
  report("wait") { Array.new(4) { Thread.new { outcome { gallery.add(1, 2) } } }.map(&:value) }
  $stdin.gets
  report("found awake") { find_awake(gallery) }
end

# The broker is awake, and what was begun before is about to end.
def find_awake(gallery)
  gallery.add(1, 2)
rescue TestsGalleryClient::ConnectionLost
  retry
end

def close(gallery)
  pending = Thread.new { outcome { gallery.add(1, 2) } }
  $stdin.gets
  gallery.close
  report("close") { pending.value }
end

def decode(gallery, count)
  count.times { |n| report("find #{n}") { gallery.find(n) } }
  report("reverse") { gallery.reverse("a") }
  report("add") { gallery.add(1, 2) }
  report("check") { gallery.check(1) }
  report("not a number") { gallery.end_("x", true, Float::NAN, {}) }
end

gallery = TestsGalleryClient.new(url, **{"call" => {}, "wait" => {timeout: 1}}.fetch(mode, {timeout: 60}))
nobody = TestsGalleryNobodyClient.new(url)
case mode
when "call" then call_all(gallery, nobody)
when "lose" then lose(gallery)
when "wait" then wait(gallery)
when "close" then close(gallery)
when "garbage" then decode(gallery, Integer(count))
when "add" then report("add") { gallery.add(1, 2) }
end
gallery.close
nobody.close
