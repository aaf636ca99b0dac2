import pytest

from lfm_deploy.contract import Contract, ThresholdOrigin, check_contract, complete_contract, describe_threshold
from lfm_deploy.errors import ArtifactError, ContractError
from lfm_deploy.storage.values import Reader

READER = Reader(where="x", remedy="")

ORIGIN = ThresholdOrigin(
    checkpoint_sha256="0" * 64,
    pictures="wild",
    pictures_sha256="1" * 64,
    real=483,
    fake=482,
    rate=0.01,
    confidence=0.95,
    miss_rate=0.02,
    at="2026-11-27T15:00:00Z",
)


def test_round_trip():
    contract = Contract(size="native", threshold=0.5, uncertain_above=-1.5, chosen=ORIGIN)
    assert READER.convert(contract.as_dict(), Contract) == contract


def test_a_contract_from_before_it_named_its_decoder_is_the_one_of_then():
    values = Contract(size="native").as_dict()
    del values["decoder"]
    assert READER.convert(complete_contract(values), Contract) == Contract(size="native")
    whole = Contract(uncertain_above=-1, chosen=ORIGIN).as_dict()
    assert complete_contract(whole) == whole
    assert complete_contract([1]) == [1]


def test_a_contract_that_nobody_chose_a_threshold_for_reads_as_it_always_did():
    assert set(Contract().as_dict()) == {"size", "colour", "decoder", "resize", "threshold", "labels"}
    assert READER.convert(complete_contract(Contract().as_dict()), Contract) == Contract()


def test_a_threshold_says_where_it_came_from():
    text = describe_threshold(Contract(threshold=20.5, uncertain_above=-3.25, chosen=ORIGIN))
    assert text.startswith("20.5, uncertain above -3.25, chosen on 483 real and 482 fake pictures of wild")
    assert "at most 1 % of real pictures called fake, and 2 % of fakes called real" in text


@pytest.mark.parametrize("changes", [{"real": "many"}, {"more": 1}, {"checkpoint_sha256": None}])
def test_an_origin_with_bad_values(changes):
    values = Contract(chosen=ORIGIN).as_dict()
    with pytest.raises(ArtifactError, match="x: chosen"):
        READER.convert(values | {"uncertain_above": None, "chosen": values["chosen"] | changes}, Contract)


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
        ("labels", ("fake", "real")),
    ],
)
def test_every_difference_is_caught_and_named(field, value):
    with pytest.raises(ContractError, match=f"x.onnx.*{field} is"):
        check_contract(Contract(**{field: value}), Contract(), "x.onnx")


def test_a_threshold_is_no_matter_of_pictures():
    check_contract(Contract(threshold=20.5, uncertain_above=1, chosen=ORIGIN), Contract(), "x.onnx")


def test_native_artifacts_also_judge_resized_pictures_but_not_the_reverse():
    check_contract(Contract(size="native"), Contract(size=256), "x.onnx")
    with pytest.raises(ContractError, match="--dynamic-size"):
        check_contract(Contract(size=256), Contract(size="native"), "x.onnx")
