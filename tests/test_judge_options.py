from click import Option

from lfm_deploy.cli.judge_options import judge_options
from lfm_deploy.cli.predict import command as predict
from lfm_deploy.cli.serve import command as serve


def options_of(command):
    return {one.name: one.to_info_dict() for one in command.params if isinstance(one, Option)}


def test_predict_and_serve_choose_an_engine_by_the_same_options():
    def nothing():
        """A command without options."""

    shared = {one.name for one in judge_options(nothing).__click_params__}
    assert shared == {"engine", "precision", "device", "gpus", "threshold", "decoder"}
    for name in shared:
        assert options_of(predict)[name] == options_of(serve)[name]


def test_every_precision_can_be_asked_for():
    from lfm_deploy.artifacts import Precision

    assert set(options_of(predict)["precision"]["type"]["choices"]) == {str(one) for one in Precision}
