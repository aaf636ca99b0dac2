"""What a foreign detector answers to files, by the same way as in a verification, without a cache."""

import numpy as np

from lfm_deploy.detectors.foreign_scores import detector_reading, make_detector_scorer
from lfm_deploy.scoring.scorers import Task, plan_tasks, run_tasks


def score(detector, paths, *, batch=32):
    """Logits float64 ``(N,)``, not a number where there is none, and the reasons for that by index."""
    task = Task(what="scoring", paths=paths, prints=[None] * len(paths), reading=detector_reading(detector, batch))
    scorer = make_detector_scorer(detector)
    plan_tasks([task], [scorer], None)
    run_tasks([task], [scorer], None, lambda *_: None)
    answers = task.found[detector.name]
    logits = [np.nan if isinstance(answer, str) else answer for answer in answers]
    return np.array(logits, dtype=np.float64), task.reasons
