"""What stands beside every verdict: the engine and the contract that gave it, with their hashes."""

from typing import Any

from calib.ranges import hash_contract
from lfm_deploy.prediction.judges import Judge, describe_run


def describe_judge(judge: Judge) -> dict[str, Any]:
    """Engine and contract as values for JSON.

    Args:
        judge: engine with its settings.
    """
    known = describe_run(judge)
    return {
        "engine": {
            "name": judge.engine.name,
            "file": judge.path.name,
            "sha256": known["engine"],
            "runtime": judge.engine.runtime,
            "precision": judge.engine.precision,
            "device": judge.engine.device,
        },
        "contract": known["contract"],
        "contract_sha256": hash_contract(judge.engine.contract),
        "threshold": judge.threshold,
        "version": known["lfm-deploy"],
    }
