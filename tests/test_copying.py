import numpy as np
import pytest

from engines.copying import Copier


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_every_byte_is_copied_once(threads, n):
    source = np.random.default_rng(n).integers(0, 256, (2 * n, 1 << 20), dtype=np.uint8)[::2]  # not contiguous
    into = np.zeros(source.shape, np.uint8)
    copier = Copier(threads)
    copier.start(into, source)()
    copier.close()
    np.testing.assert_array_equal(into, source)


def test_a_failure_is_the_callers():
    copier = Copier(2)
    with pytest.raises(ValueError, match="broadcast"):
        copier.start(np.zeros((4, 1 << 20), np.uint8), np.zeros((4, 1 << 21), np.uint8))()
    copier.close()
