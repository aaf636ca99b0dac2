from lfm_deploy.deployment.lineup import find_candidates


def test_on_a_gpu_autocast_is_an_engine_of_its_own(deployment):
    on_gpu, on_cpu = find_candidates(deployment, "cuda:1"), find_candidates(deployment, "cpu")
    assert [(one.name, one.asked_precision) for one in on_gpu[:3]] == [
        ("pytorch fp32 cuda:1", "fp32"),
        ("pytorch fp16 cuda:1", "fp16"),
        ("onnxruntime fp32 cuda:1", None),
    ]
    assert not any("pytorch fp16" in one.name for one in on_cpu)
