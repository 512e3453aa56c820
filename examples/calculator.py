import amqproxy


@amqproxy.serve("calculator")
class Calculator:
    async def add(self, x: int, y: int) -> int:
        return x + y

    def divide(self, x: int, y: int) -> float:  # a plain function runs in a thread
        return x / y
