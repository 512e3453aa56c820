"""`python -m amqproxy`: the same as the command `amqproxy`."""

from .cli import main

main()
