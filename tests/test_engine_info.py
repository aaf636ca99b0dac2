import dataclasses
import json

import pytest

from lfm_deploy.artifacts import Precision
from lfm_deploy.engine_info import EngineInfo, make_fingerprint, read_engine_info, sidecar_path
from lfm_deploy.errors import ArtifactError
from lfm_deploy.storage.sealed_values import seal_values


def as_old(values):
    """A sidecar as it was before there was a digest of its content."""
    later = ("content_sha256", "loads_in", "form", "kernels")
    return {key: value for key, value in values.items() if key not in later} | {"format": "lfm-deploy engine 2"}


def test_engine_info_round_trip(deployment):
    text = sidecar_path(deployment.engine(Precision.FP16, "sm86")).read_text()
    info = EngineInfo.from_json(text, "x")
    assert info.to_json() == text
    contract = dataclasses.replace(info.contract, size="native")
    native = dataclasses.replace(info, sides=(48, 256, 512), contract=contract)
    assert EngineInfo.from_json(native.to_json(), "x") == native
    old = as_old(json.loads(text))
    expected = dataclasses.replace(info, form="exported", kernels=None)
    assert EngineInfo.from_json(json.dumps(old), "x") == expected
    sealed = seal_values(old | {"format": "lfm-deploy engine 3"})
    assert EngineInfo.from_json(json.dumps(sealed), "x") == expected


def test_one_changed_digit_of_a_sidecar_is_damage(deployment):
    text = sidecar_path(deployment.engine(Precision.FP16, "sm86")).read_text()
    for old, new in (('"threshold": 0.0', '"threshold": 9.0'), ('"batch": [\n    1', '"batch": [\n    2')):
        assert old in text
        with pytest.raises(ArtifactError, match=r"x\.json: damaged or changed since it was made"):
            EngineInfo.from_json(text.replace(old, new), "x.json")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("v.update(format='lfm-deploy engine 9')", "of format 'lfm-deploy engine 9'"),
        ("v.update(surprise=1)", "unknown key 'surprise'"),
        ("v.pop('plan_bytes')", "has no plan_bytes"),
        ("v.update(precision='fp64')", "precision is 'fp64', expected fp32, fp16, bf16 or int8"),
        ("v.update(precision='int8')", "does not go with its quantisation"),
        ("v.update(batch=[1, 2])", "expected a list of length 3"),
        ("v.update(batch=[5, 3, -1])", r"batch\[2\] is -1, expected a whole number >= 1"),
        ("v.update(batch=[5, 3, 7])", "expected a smallest, an optimal and a largest size"),
        ("v.update(batch=[1, 2, 2**40])", r"batch\[2\] is 1099511627776"),
        ("v.update(sides=[48, 256, 512])", "does not go with the size 256"),
        ("v.update(gpu='sm86 ')", "expected a compute capability such as sm86"),
        ("v.update(runtime='abacus')", "expected tensorrt or tensorrt-rtx"),
        ("v.update(fingerprint='0' * 63)", "expected 64 hexadecimal digits"),
        ("v.update(plan_bytes=-1)", "plan_bytes is -1"),
        ("v.update(build_seconds=1e999)", "damaged, not JSON"),
        ("v.update(evidence=1)", "evidence is 1, expected true or false"),
        ("v.update(contract={})", "contract has no size"),
        ("v['contract'].update(threshold=9)", "threshold is 9.0, and engines of this format have 0"),
        ("v['contract'].update(threshold=1e300)", "expected a number <= 100000"),
        ("v['contract'].update(labels=['fake', 'real'])", r"labels\[0\] is 'fake', expected real"),
        ("v['contract'].update(size=255)", "size is 255, expected a whole number that's a multiple of 2"),
        ("v['contract'].update(size=2)", "contract.size is 2, and its network needs"),
        ("v['config'].update(k=16.5)", "k is 16.5, expected a whole number"),
        ("v['config'].update(widths=[2**40])", r"widths\[0\] is 1099511627776, expected a whole number <= 8192"),
        ("v['config'].update(widths=[8192] * 16)", "a network has up to 134,217,728 weights"),
        ("v['config'].update(backbone='resnet50', widths=[8, 8, 8])", "config.widths has 3 entries, expected 2"),
    ],
)
def test_a_sidecar_that_is_not_ours_is_refused(deployment, change, complaint):
    values = as_old(json.loads(sidecar_path(deployment.engine(Precision.FP16, "sm86")).read_text()))
    exec(change, {"v": values})  # noqa: S102
    with pytest.raises(ArtifactError, match=complaint) as caught:
        EngineInfo.from_json(json.dumps(values), "x.json")
    assert "\n" not in str(caught.value)


def test_a_plan_of_another_size_is_not_that_of_the_sidecar(own_deployment):
    engine = own_deployment.engine(Precision.FP16, "sm86")
    engine.write_bytes(engine.read_bytes() + b"x")
    with pytest.raises(ArtifactError, match=r"damaged, or .* belongs to another plan"):
        read_engine_info(engine)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "9" * 5000], ids=range(6))
def test_a_damaged_sidecar_is_refused(text):
    with pytest.raises(ArtifactError, match=r"x\.json"):
        EngineInfo.from_json(text, "x.json")


def test_fingerprints_depend_on_values_alone():
    assert make_fingerprint(a=1, b=(2, 3)) == make_fingerprint(b=[2, 3], a=1) != make_fingerprint(a=1, b=(2, 4))
