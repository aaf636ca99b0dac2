import subprocess
import sys

CHECK = """
import resource, sys
import numpy as np
from engines.host import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
np.ones(50 << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(50 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(how):
    return int(subprocess.run([sys.executable, "-c", CHECK, how], capture_output=True, text=True, check=True).stdout)


def test_freed_buffers_are_not_mapped_in_anew():
    # 500 MiB are 128,000 pages of 4 KiB, or 250 of 2 MiB where the system uses huge ones.
    assert count_faults("kept") < 0.1 * count_faults("returned")
