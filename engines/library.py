"""The TensorRT libraries that are installed: ``tensorrt``, ``tensorrt-rtx`` and the runtimes share one interface."""

import importlib
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

from lfm_deploy.engine_info import EngineInfo
from lfm_deploy.errors import UnavailableError, missing_library
from lfm_deploy.interrupts import hold_interrupts

_MODULES = {
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
    "tensorrt-lean": "tensorrt_lean",
    "tensorrt-dispatch": "tensorrt_dispatch",
}
_OLDEST = {"tensorrt": (10, 12), "tensorrt-rtx": (1, 2), "tensorrt-lean": (10, 12), "tensorrt-dispatch": (10, 12)}
_EXTRAS = {"tensorrt": "gpu", "tensorrt-rtx": "rtx", "tensorrt-lean": "lean", "tensorrt-dispatch": "lean"}
RUNTIMES = ("tensorrt-lean", "tensorrt-dispatch")
"""Those that run version-compatible engines and build none; lean first, which needs nothing from the plan."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One message of the library: severity such as ``"WARNING"``, and its text.

    Attributes:
        severity: severity, such as ``"WARNING"``.
        text: text of the message.
    """

    severity: str
    text: str


@dataclass(slots=True)
class LogSink:
    """Where the library's messages go at present.

    Attributes:
        lines: messages so far, in order.
    """

    lines: list[LogLine] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Library:
    """An installed TensorRT library.

    Attributes:
        name: ``"tensorrt"``, ``"tensorrt-rtx"``, or a runtime alone: ``"tensorrt-lean"``, ``"tensorrt-dispatch"``.
        version: version of the library, such as ``"11.4.0"``.
        module: Python module of the library.
        logger: the one logger of this process; the library keeps the first that it is given.
        sink: object that the logger writes to; clear ``sink.lines`` before a build.
    """

    name: str
    version: str
    module: ModuleType
    logger: Any
    sink: LogSink

    @property
    def is_rtx(self) -> bool:
        """Whether engines are built ahead of time for GPUs that need not be here."""
        return self.name == "tensorrt-rtx"


@cache
def load_library(name: str) -> Library:
    """Import one of the libraries.

    Args:
        name: name of the library, as ``Library.name`` has it.

    Raises:
        UnavailableError: the library is not installed, is too old, or its shared objects cannot be loaded.
    """
    install = f"run 'pip install lfm-deploy[{_EXTRAS[name]}]'"
    try:
        with hold_interrupts():  # in the midst of an import it becomes an ImportError, or a crash
            module = importlib.import_module(_MODULES[name])
    except ImportError as error:
        raise missing_library(error, name, f"pip install lfm-deploy[{_EXTRAS[name]}]") from None
    version = getattr(module, "__version__", None)
    if version is None or not hasattr(module, "Runtime" if name in RUNTIMES else "Builder"):
        # A folder of type stubs imports as an empty module.
        raise UnavailableError(f"{name}: not run: only its type stubs are installed; {install}")
    if _number(version) < _OLDEST[name]:
        oldest = ".".join(map(str, _OLDEST[name]))
        raise UnavailableError(f"{name}: not run: version {version} is older than {oldest}; {install}")
    sink = LogSink()
    return Library(name, version, module, _make_logger(module, sink), sink)


def load_runtime_for(info: EngineInfo) -> Library:
    """The library that runs an engine: the one that built it, or for a version-compatible engine a runtime alone.

    Args:
        info: contents of the engine's sidecar.

    Raises:
        UnavailableError: no library that runs the engine is installed.
    """
    try:
        return load_library(info.runtime)
    except UnavailableError as error:
        missing = error
    if not info.version_compatible:
        raise missing
    for name in RUNTIMES:
        with suppress(UnavailableError):
            return load_library(name)
    raise UnavailableError(
        f"{missing}, or for this version-compatible engine 'pip install lfm-deploy[{_EXTRAS[RUNTIMES[0]]}]', 45 MB"
    )


def parse_version(version: str) -> tuple[int, ...]:
    """The numbers of a version, to be compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _number(version: str) -> tuple[int, int]:
    major, minor = parse_version(version)[:2]
    return major, minor


def _make_logger(module: Any, sink: LogSink) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]  # its base is only known at run time
        """Keeps every message; nothing is printed."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            """Take one message from the library."""
            sink.lines.append(LogLine(severity.name, text))

    return Logger()
