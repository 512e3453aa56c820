"""aio-pika's RPC pattern without publisher confirms, for those who ask what the confirms cost."""

from functools import partial

from .. import control
from .aio_pika_peer import caller, worker

if __name__ == "__main__":
    control.async_main(partial(caller, confirms=False), partial(worker, confirms=False))
