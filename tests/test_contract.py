import pytest

from lfm_deploy.contract import Contract, check_contract, complete_contract
from lfm_deploy.errors import ArtifactError, ContractError
from lfm_deploy.storage.values import Reader

READER = Reader(where="x", remedy="")


def test_round_trip():
    contract = Contract(size="native", threshold=0.5)
    assert READER.convert(contract.as_dict(), Contract) == contract


def test_a_contract_from_before_it_named_its_decoder_is_the_one_of_then():
    values = Contract(size="native").as_dict()
    del values["decoder"]
    assert READER.convert(complete_contract(values), Contract) == Contract(size="native")
    assert complete_contract(Contract().as_dict()) == Contract().as_dict()
    assert complete_contract([1]) == [1]


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
    [
        ("size", 224),
        ("colour", "BGR"),
        ("decoder", "nearest chroma"),
        ("resize", "nearest"),
        ("threshold", 0.5),
        ("labels", ("fake", "real")),
    ],
)
def test_every_difference_is_caught_and_named(field, value):
    with pytest.raises(ContractError, match=f"x.onnx.*{field} is"):
        check_contract(Contract(**{field: value}), Contract(), "x.onnx")


def test_native_artifacts_also_judge_resized_pictures_but_not_the_reverse():
    check_contract(Contract(size="native"), Contract(size=256), "x.onnx")
    with pytest.raises(ContractError, match="--dynamic-size"):
        check_contract(Contract(size=256), Contract(size="native"), "x.onnx")
