# ruff: noqa: N802, N815 - the names are CUDA's
"""A device made of threads: the calls of cuda-python that the engines use, with CUDA's order of events.

Streams are threads that work off their queues, so copies and compute really overlap and really arrive late; memory is
host memory with guards on its lifetime; capturing records instead of running. It shows that buffers, events and
graphs are used in a right order. It says nothing of a GPU.
"""

import ctypes
import itertools
import queue
import threading
import time
from types import SimpleNamespace

SUCCESS, INVALID, OUT_OF_MEMORY, CAPTURE_FAILED = 0, 1, 2, 901


class SimulatedRuntime:
    """Stands where ``cuda.bindings.runtime`` does."""

    cudaEventDefault, cudaEventDisableTiming, cudaStreamNonBlocking = 0, 2, 1
    cudaError_t = SimpleNamespace(
        cudaSuccess=SUCCESS, cudaErrorMemoryAllocation=OUT_OF_MEMORY, cudaErrorInsufficientDriver=35
    )
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaDeviceAttr = SimpleNamespace(
        cudaDevAttrComputeCapabilityMajor="major", cudaDevAttrComputeCapabilityMinor="minor"
    )

    def __init__(self, total=8 << 30, copy_seconds=0.0, can_capture=True):
        self.total, self.copy_seconds, self.can_capture = total, copy_seconds, can_capture
        self.numbers = itertools.count(100)
        self.memory, self.streams, self.events, self.graphs = {}, {}, {}, {}
        self.launches = 0
        self.failures = []

    @property
    def held(self):
        """Bytes of device memory that are allocated."""
        return sum(nbytes for kind, nbytes, _ in self.memory.values() if kind == "device")

    def cudaGetErrorString(self, error):
        return SUCCESS, f"simulated failure {error}".encode()

    def cudaGetLastError(self):
        return (SUCCESS,)

    def cudaGetDeviceCount(self):
        return SUCCESS, 2

    def cudaDeviceGetAttribute(self, attribute, index):
        return SUCCESS, {"major": 8, "minor": 6}[attribute]

    def cudaGetDeviceProperties(self, index):
        return SUCCESS, SimpleNamespace(name=b"Simulated")

    def cudaSetDevice(self, index):
        return (SUCCESS,)

    def cudaMemGetInfo(self):
        return SUCCESS, self.total - self.held, self.total

    def _allocate(self, kind, nbytes):
        assert nbytes > 0
        if kind == "device" and nbytes > self.total - self.held:
            return OUT_OF_MEMORY, None
        buffer = (ctypes.c_uint8 * nbytes)()
        self.memory[ctypes.addressof(buffer)] = kind, nbytes, buffer
        return SUCCESS, ctypes.addressof(buffer)

    def cudaMalloc(self, nbytes):
        return self._allocate("device", nbytes)

    def cudaMallocHost(self, nbytes):
        return self._allocate("host", nbytes)

    def cudaFree(self, address):
        for stream in self.streams.values():  # as CUDA does, it waits for the device
            stream.join()
        return (SUCCESS,) if self.memory.pop(address, (None,))[0] == "device" else (INVALID,)

    def cudaFreeHost(self, address):
        return (SUCCESS,) if self.memory.pop(address, (None,))[0] == "host" else (INVALID,)

    def owns(self, kind, address, nbytes):
        """Whether a range lies in one piece of live memory of a kind."""
        return any(
            held == kind and start <= address and address + nbytes <= start + size
            for start, (held, size, _) in list(self.memory.items())
        )

    def cudaStreamCreateWithFlags(self, flags):
        number = next(self.numbers)
        self.streams[number] = SimulatedStream(self)
        return SUCCESS, number

    def cudaStreamSynchronize(self, handle):
        self.streams[handle].join()
        return (SUCCESS,)

    def cudaDeviceSynchronize(self):
        for stream in self.streams.values():
            stream.join()
        return (SUCCESS,)

    def cudaStreamDestroy(self, handle):
        self.streams.pop(handle).stop()
        return (SUCCESS,)

    def cudaMemcpyAsync(self, target, source, nbytes, kind, handle):
        kinds = ("device", "host") if kind == 1 else ("host", "device")
        assert all(self.owns(name, at, nbytes) for name, at in zip(kinds, (target, source), strict=True))

        stream = self.streams[handle]

        def copy():
            time.sleep(self.copy_seconds)
            stream.clock_seconds += self.copy_seconds
            ctypes.memmove(target, source, nbytes)

        stream.put(copy)
        return (SUCCESS,)

    def cudaEventCreateWithFlags(self, flags):
        number = next(self.numbers)
        self.events[number] = SimpleNamespace(done=threading.Event(), at=0.0, timed=flags == 0)
        self.events[number].done.set()
        return SUCCESS, number

    def cudaEventRecord(self, handle, stream):
        event, work = self.events[handle], self.streams[stream]
        event.done = done = threading.Event()

        def mark():
            event.at = work.clock_seconds
            done.set()

        work.put(mark)
        return (SUCCESS,)

    def cudaEventSynchronize(self, handle):
        self.events[handle].done.wait()
        return (SUCCESS,)

    def cudaStreamWaitEvent(self, stream, handle, flags):
        self.streams[stream].put(self.events[handle].done.wait)
        return (SUCCESS,)

    def cudaEventElapsedTime(self, first, second):
        assert self.events[first].timed
        assert self.events[second].timed
        return SUCCESS, (self.events[second].at - self.events[first].at) * 1e3

    def cudaEventDestroy(self, handle):
        del self.events[handle]
        return (SUCCESS,)

    def cudaStreamBeginCapture(self, handle, mode):
        self.streams[handle].recording = []
        return (SUCCESS,)

    def cudaStreamEndCapture(self, handle):
        stream = self.streams[handle]
        work, stream.recording = stream.recording, None
        if not self.can_capture:
            return CAPTURE_FAILED, None
        number = next(self.numbers)
        self.graphs[number] = work
        return SUCCESS, number

    def cudaGraphInstantiate(self, graph, flags):
        number = next(self.numbers)
        self.graphs[number] = self.graphs[graph]
        return SUCCESS, number

    def cudaGraphDestroy(self, graph):
        del self.graphs[graph]
        return (SUCCESS,)

    cudaGraphExecDestroy = cudaGraphDestroy

    def cudaGraphLaunch(self, graph, handle):
        self.launches += 1
        for work in self.graphs[graph]:
            self.streams[handle].put(work)
        return (SUCCESS,)


class SimulatedStream:
    """A thread that works off a queue; while it is captured, it records instead. It counts the time it was told."""

    def __init__(self, runtime):
        self.clock_seconds = 0.0
        self.runtime, self.recording, self.tasks = runtime, None, queue.Queue()
        threading.Thread(target=self._work, daemon=True).start()

    def put(self, task):
        if self.recording is None:
            self.tasks.put(task)
        else:
            self.recording.append(task)

    def join(self):
        assert self.recording is None, "waiting for a stream that is being captured"
        self.tasks.join()

    def stop(self):
        self.tasks.put(None)

    def _work(self):
        while (task := self.tasks.get()) is not None:
            try:
                task()
            except BaseException as error:
                self.runtime.failures.append(error)
            finally:
                self.tasks.task_done()
