"""A session of ONNX Runtime on the simulated device: its memory is the host's, so a real session on the CPU runs there.

As on a GPU, a run that is given a number is captured the first time, and from then on the number alone says what is
read and written: a replay takes no notice of what is bound.
"""

from engines.ort import open_session


class SimulatedSession:
    """Stands where ``InferenceSession`` does on a CUDA device."""

    def __init__(self, path, runtime, *, captures, fails=frozenset()):
        """``captures``: whether CUDA graphs were asked for. ``fails``: numbers whose run raises."""
        self.real = open_session(path, str(path), threads=1)
        self.runtime, self.captures, self.fails = runtime, captures, fails
        self.captured, self.replays, self.plain = {}, 0, 0

    def io_binding(self):
        return SimulatedBinding(self)

    def run(self, outputs, feed, options):
        assert self.number_of(options) == -1, "a run from host memory must not be captured"
        return self.real.run(outputs, feed)

    def number_of(self, options):
        if not self.captures:
            assert options is None
            return -1
        return int(options.get_run_config_entry("gpu_graph_id"))

    def run_with_iobinding(self, binding, options):
        number = self.number_of(options)
        if number in self.fails:
            self.fails = frozenset()
            raise RuntimeError("CUDA failure 901: capture failed\nfile=somewhere.cc")
        if number == -1:
            self.plain += 1
        elif number in self.captured:
            self.replays += 1
            binding = self.captured[number]
        else:
            self.captured[number] = binding
        for nbytes, address in binding.places:
            assert self.runtime.owns("device", address, nbytes)
        self.real.run_with_iobinding(binding.real)


class SimulatedBinding:
    """Stands where ``IOBinding`` does; addresses of the device are those of a CPU to the real one."""

    def __init__(self, session):
        self.session, self.real, self.places = session, session.real.io_binding(), []

    def bind_input(self, name, device_type, device_id, element_type, shape, buffer_ptr):
        self._note(device_type, device_id, element_type, shape, buffer_ptr)
        self.real.bind_input(name, "cpu", 0, element_type, shape, buffer_ptr)

    def bind_output(self, name, device_type, device_id, element_type, shape, buffer_ptr):
        self._note(device_type, device_id, element_type, shape, buffer_ptr)
        self.real.bind_output(name, "cpu", 0, element_type, shape, buffer_ptr)

    def synchronize_outputs(self):
        self.real.synchronize_outputs()

    def _note(self, device_type, device_id, element_type, shape, address):
        assert (device_type, device_id) == ("cuda", 1)
        nbytes = element_type().itemsize
        for side in shape:
            nbytes *= side
        self.places.append((nbytes, address))
