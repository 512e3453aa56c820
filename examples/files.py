"""Files of any size, to a worker and from it, a chunk at a time."""

import asyncio
import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import amqproxy


@amqproxy.serve("archive", auto_delete=True)
class Archive:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def store(self, name: str, content: amqproxy.Blob) -> int:
        return await content.save(self._directory / Path(name).name)

    async def fetch(self, name: str) -> amqproxy.Blob:
        return amqproxy.Blob(self._directory / Path(name).name)


async def main() -> None:
    with TemporaryDirectory() as directory:
        source = Path(directory) / "source"
        source.write_bytes(bytes(range(256)) * 40_000)
        async with amqproxy.connect() as mq, mq.serve(Archive(Path(directory))):
            archive = mq.proxy(Archive)
            print(await archive.store("stored", amqproxy.Blob(source)), "bytes are stored")

            digest = hashlib.sha256()
            async for chunk in await archive.fetch("stored"):  # or .read() for all bytes, or .save(path)
                digest.update(chunk)
            print(digest.hexdigest() == hashlib.sha256(source.read_bytes()).hexdigest())


if __name__ == "__main__":
    asyncio.run(main())
