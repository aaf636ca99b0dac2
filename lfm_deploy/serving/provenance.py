"""What stands beside every verdict: the engine and the contract that gave it, with their hashes."""

import json
from typing import Any

from lfm_deploy.prediction.judges import Judge, describe_run
from lfm_deploy.storage.atomic import sha256_of_bytes


def describe_judge(judge: Judge) -> dict[str, Any]:
    """Engine and contract as values for JSON.

    Args:
        judge: engine with its settings.
    """
    known = describe_run(judge)
    contract = known["contract"]
    return {
        "engine": {
            "name": judge.engine.name,
            "file": judge.path.name,
            "sha256": known["engine"],
            "runtime": judge.engine.runtime,
            "precision": judge.engine.precision,
            "device": judge.engine.device,
        },
        "contract": contract,
        "contract_sha256": sha256_of_bytes(json.dumps(contract, sort_keys=True).encode()),
        "threshold": judge.threshold,
        "version": known["lfm-deploy"],
    }
