"""The benchmark: amqproxy beside its peers, over one RabbitMQ, in one run.

``python -m tests.bench`` (``make bench``) starts a caller process and a worker process for each contender
and measures them in turn. ``python -m tests.bench.soak`` looks for what a million calls leave behind.

How to read it
    - *window* is the number of calls in flight: 1 is a caller that waits for each answer, 64 and 500 are
      busy services.
    - Absolute figures belong to one machine on one day. Ratios are taken between measurements that were made
      seconds apart, in one round, and the median of the rounds is shown.
    - Every answer is checked; one wrong answer fails the contender, and the bench.

How it is built
    ``plan``        what is measured: sizes, windows, rounds, seconds
    ``broker``      which RabbitMQ
    ``peer``        one process of a contender, seen from the bench; ``control`` is the other end of that pipe
    ``load``        the calls that asyncio contenders make
    ``measure``     one measurement; ``rounds`` puts them in order
    ``summary``     samples to medians and ratios; ``report`` prints them
    ``contenders``  one module each
"""
