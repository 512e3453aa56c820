"""A calculator for programs in any language: plain parameters in JSON, and messages in protobuf and in thrift.

amqproxy serve any_language:Calculator
"""

import calculator_pb2 as protobuf
import calculator_thrift.ttypes as thrift

import amqproxy

# A generated protobuf class knows its Java name; one of thrift must be told.
for struct in (thrift.AddRequest, thrift.AddResponse, thrift.DivideRequest, thrift.DivideResponse):
    amqproxy.message(f"com.github.sstone.amqp.proxy.calculator.{struct.__name__}")(struct)


@amqproxy.serve("calculator")
class Calculator:
    async def add(self, x: int, y: int) -> int:
        return x + y

    async def divide(self, x: int, y: int) -> float:
        return x / y

    async def add_message(self, request: protobuf.AddRequest) -> protobuf.AddResponse:
        return protobuf.AddResponse(x=request.x, y=request.y, sum=request.x + request.y)

    async def divide_message(self, request: protobuf.DivideRequest) -> protobuf.DivideResponse:
        return protobuf.DivideResponse(quotient=request.x / request.y)

    async def add_struct(self, request: thrift.AddRequest) -> thrift.AddResponse:
        return thrift.AddResponse(request.x, request.y, request.x + request.y)

    async def divide_struct(self, request: thrift.DivideRequest) -> thrift.DivideResponse:
        return thrift.DivideResponse(request.x / request.y)
