import pytest

from lfm_deploy.contract import Contract, check_contract
from lfm_deploy.errors import ArtifactError, ContractError
from lfm_deploy.storage.values import Reader

READER = Reader(where="x", remedy="")


def test_round_trip():
    contract = Contract(size="native", threshold=0.5)
    assert READER.convert(contract.as_dict(), Contract) == contract


@pytest.mark.parametrize("size", [255, 0, -2, "big", 256.0, 2**40])
def test_impossible_sizes(size):
    with pytest.raises(ContractError, match="even number"):
        Contract(size=size)


@pytest.mark.parametrize("values", [None, [], {"size": 256}, Contract().as_dict() | {"labels": ["real"]}])
def test_what_is_no_contract(values):
    with pytest.raises(ArtifactError):
        READER.convert(values, Contract)


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 224), ("colour", "BGR"), ("resize", "nearest"), ("threshold", 0.5), ("labels", ("fake", "real"))],
)
def test_every_difference_is_caught_and_named(field, value):
    with pytest.raises(ContractError, match=f"x.onnx.*{field} is"):
        check_contract(Contract(**{field: value}), Contract(), "x.onnx")


def test_native_artifacts_also_judge_resized_pictures_but_not_the_reverse():
    check_contract(Contract(size="native"), Contract(size=256), "x.onnx")
    with pytest.raises(ContractError, match="--dynamic-size"):
        check_contract(Contract(size=256), Contract(size="native"), "x.onnx")
