// The person of the Akka AMQP proxies' tests.
namespace java com.github.sstone.amqp.proxy.thrifttest
namespace py person_thrift

struct Person {
  1: required i32 id,
  2: required string name,
  3: optional string email
}
