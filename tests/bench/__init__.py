"""The benchmark: amqproxy beside its peers, over one RabbitMQ, and on the embedded broker beside it, in one run.

``python -m tests.bench`` (``make bench``) starts a caller process and a worker process for each contender
and measures them in turn. ``python -m tests.bench.traffic`` does so for plain messages, on both brokers.
``python -m tests.bench.soak`` looks for what a million calls leave behind, ``python -m tests.bench.cancels`` for what
10,000 leave that are cancelled, and ``python -m tests.bench.broker_soak``
for what messages and clients cost the embedded broker.

How to read it
    - *window* is the number of calls in flight: 1 is a caller that waits for each answer, 64 and 500 are
      busy services.
    - Absolute figures belong to one machine on one day. Ratios are taken between measurements that were made
      seconds apart, in one round, and the median of the rounds is shown.
    - Every answer is checked; one wrong answer fails the contender, and the bench.

How it is built
    ``plan``        what is measured: sizes, windows, rounds, seconds
    ``broker``      which RabbitMQ, and the embedded broker, whose process is ``embedded``
    ``peer``        one process of a contender, seen from the bench; ``control`` is the other end of that pipe
    ``load``        the calls that asyncio contenders make
    ``raw``         the client that plain messages are published and consumed with
    ``measure``     one measurement; ``rounds`` puts them in order
    ``course``      all of that in one run, from ``arguments`` to the file of figures
    ``summary``     samples to medians and ratios; ``report`` prints them
    ``contenders``  one module each
"""
