"""What the figures depend on besides the code: the machine, the Python, the versions of what is measured."""

import os
import platform
from pathlib import Path

from .control import version_of

PACKAGES = ("amqproxy", "aio-pika", "aiormq", "pamqp", "pika", "orjson", "msgspec")


def machine() -> dict[str, object]:
    """Processor, cores, load and system, as far as the system tells."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """Installed versions of the Python packages involved."""
    return {package: version_of(package) for package in PACKAGES}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
