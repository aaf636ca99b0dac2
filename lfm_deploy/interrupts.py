"""Ctrl-C at moments when an exception would break the process: in native code that calls back into Python.

Python raises KeyboardInterrupt in whatever Python code runs next. Where that code was called by C++, as a logger is by
TensorRT or the set-up of a module by the import of onnx or torch, the exception can end the process with a crash.
"""

import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"
_AGAIN_SECONDS = 0.05


@contextmanager
def hold_interrupts() -> Iterator[threading.Event]:
    """Turn Ctrl-C into a request, the event; KeyboardInterrupt follows when the block ends, also by another exception.

    It does nothing where Ctrl-C is ignored, as in a shell's background, and outside the main thread, which alone gets
    signals from Python.
    """
    asked = threading.Event()
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not callable(before := signal.getsignal(signal.SIGINT)):
        yield asked
        return
    signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
        if asked.is_set():
            raise KeyboardInterrupt


def let_imports_finish() -> None:
    """From now on Ctrl-C waits while modules are imported, wherever that is; for the main program alone.

    It changes nothing where Ctrl-C is not an exception: ignored, as by a shell in the background, or handled by others.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, unless an import is under way; then come again soon."""
    inner = frame
    while inner is not None:
        if inner.f_code.co_filename == _IMPORT_SYSTEM:
            again = threading.Timer(_AGAIN_SECONDS, signal.raise_signal, [number])
            again.daemon = True
            again.start()
            return
        inner = inner.f_back
    signal.default_int_handler(number, frame)


class _SignalStack(ctypes.Structure):
    """``stack_t`` of sigaltstack(2)."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def keep_signal_stack() -> Iterator[None]:
    """Leave this thread's stack for signal handlers as it was, whatever native code in the block does with it.

    OpenVINO gives the thread that compiles a graph its own stack, and puts back the former one when the graph goes.
    Of two graphs that go in the order in which they came, the second puts back that of the first, which is freed by
    then: the next Ctrl-C is handled in memory that belongs to somebody else, and the process crashes.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    library, before = ctypes.CDLL(None), _SignalStack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)
