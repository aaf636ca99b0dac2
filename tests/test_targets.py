from types import SimpleNamespace

import pytest

from engines.library import load_library
from engines.targets import check_targets, list_targets
from lfm_deploy.errors import UnavailableError


@pytest.fixture(scope="module")
def library():
    return load_library("tensorrt-rtx")


def test_the_list_is_the_librarys_own(library):
    targets = list_targets(library)
    assert targets["sm86"] == library.module.ComputeCapability.SM86
    assert not {"none", "current", "sm90", "sm100"} & set(targets)


def test_every_gpu_of_the_list_is_served(library):
    check_targets(library, list(list_targets(library)))


@pytest.mark.parametrize("gpu", ["sm90", "sm100", "sm130"])
def test_another_gpu_is_exit_3_with_the_way_that_works(library, gpu):
    with pytest.raises(
        UnavailableError, match=rf"cannot build for {gpu}; it builds for sm75, .*--target cuda"
    ) as caught:
        check_targets(library, ["sm86", gpu])
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_tensorrt_takes_whatever_gpu_is_in_the_machine():
    check_targets(SimpleNamespace(is_rtx=False), ["sm90"])
