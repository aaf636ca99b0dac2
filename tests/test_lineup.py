from lfm_deploy.deployment.lineup import find_candidates


def test_on_a_gpu_autocast_is_an_engine_of_its_own(deployment):
    on_gpu, on_cpu = find_candidates(deployment, "cuda:1"), find_candidates(deployment, "cpu")
    assert [(one.name, one.form) for one in on_gpu[:3]] == [
        ("pytorch fp32 cuda:1", {"precision": "fp32"}),
        ("pytorch fp16 cuda:1", {"precision": "fp16"}),
        ("onnxruntime fp32 cuda:1", {}),
    ]
    assert not any("pytorch fp16" in one.name for one in on_cpu)


def test_a_compiled_checkpoint_is_there_when_asked_for(deployment):
    on_gpu = find_candidates(deployment, "cuda:0", compiled=True)
    assert [(one.name, one.form) for one in on_gpu[2:4]] == [
        ("pytorch fp32 compiled cuda:0", {"precision": "fp32", "compiled": True}),
        ("pytorch fp16 compiled cuda:0", {"precision": "fp16", "compiled": True}),
    ]
    assert [one.name for one in find_candidates(deployment, "cpu", compiled=True)[:2]] == [
        "pytorch fp32", "pytorch fp32 compiled",
    ]  # fmt: skip
    assert not any(one.compiled for one in find_candidates(deployment, "cpu"))
