// The messages of the calculator, in Thrift.
namespace java com.github.sstone.amqp.proxy.calculator
namespace py calculator_thrift

struct AddRequest {
  1: required i32 x,
  2: required i32 y
}

struct AddResponse {
  1: required i32 x,
  2: required i32 y,
  3: required i32 sum
}

struct DivideRequest {
  1: required i32 x,
  2: required i32 y
}

struct DivideResponse {
  1: required double quotient
}
