"""Shares of a list: as they are named, and as Slurm and Kubernetes tell them."""

import re
import shlex

import pytest
import yaml
from documentation import find_code

from lfm_deploy.errors import ConfigError, InputError, UnavailableError
from lfm_deploy.prediction.shares import Share, find_share


def slurm(number, count, first=1, step=1):
    named = {"ID": number, "COUNT": count, "MIN": first, "MAX": first + step * (count - 1), "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in named.items()}


@pytest.mark.parametrize("count", [1, 3, 64])
def test_every_part_belongs_to_one_share(count):
    shares = [find_share(f"{number}/{count}", {}) for number in range(1, count + 1)]
    assert all(sum(share.holds(position) for share in shares) == 1 for position in range(200))
    assert [share.count_of(200) for share in shares] == [sum(map(share.holds, range(200))) for share in shares]


@pytest.mark.parametrize(("first", "step"), [(0, 1), (1, 1), (100, 1), (1, 2), (0, 4)])
def test_slurm_arrays_that_begin_anywhere_give_every_share_once(first, step):
    shares = [find_share(None, slurm(first + step * index, 8, first, step)) for index in range(8)]
    assert [(share.number, share.count) for share in shares] == [(number, 8) for number in range(1, 9)]


def test_kubernetes_counts_from_zero():
    environment = {"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "4"}
    share = find_share(None, environment)
    assert (share.number, share.count, share.origin) == (1, 4, "JOB_COMPLETION_INDEX")
    assert find_share(None, environment | {"JOB_COMPLETION_INDEX": "3"}).number == 4


def test_what_is_named_comes_before_the_scheduler_and_all_behind_it():
    assert find_share("2/3", slurm(1, 8)).count == 3
    assert find_share(None, {}) == Share()
    assert Share().holds(0)
    assert Share().holds(7)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "1", "1/", "a/b", "-1/4", "1/4/5", "1.5/4", " 1/4", ""])
def test_no_share_is_refused(text):
    with pytest.raises(ConfigError, match="--part") as caught:
        find_share(text, {})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"JOB_COMPLETION_INDEX": "3"}, "JOB_COMPLETIONS: is not set"),
        ({"JOB_COMPLETION_INDEX": "4", "JOB_COMPLETIONS": "4"}, "part 5 of 4"),
        ({"JOB_COMPLETION_INDEX": "x", "JOB_COMPLETIONS": "4"}, "'x', expected a number"),
        ({"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_COUNT: is not set"),
        (slurm(9, 3), "without gaps"),
        (slurm(2, 3, first=1, step=2), "without gaps"),
        (slurm(0, 3, first=1), "without gaps"),
    ],
)
def test_a_scheduler_that_leaves_it_open_is_refused(environment, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        find_share(None, environment)


def test_the_kubernetes_job_of_the_documentation_gives_every_share_once_and_tries_no_bad_input_again():
    (text,) = find_code("docs/shards.md", "yaml")
    job = yaml.safe_load(text)["spec"]
    (container,) = job["template"]["spec"]["containers"]
    told = {variable["name"]: variable["value"] for variable in container["env"]}
    shares = [
        find_share(None, told | {"JOB_COMPLETION_INDEX": str(index)}).number for index in range(job["completions"])
    ]
    assert shares == list(range(1, job["completions"] + 1))
    (rule,) = [rule for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert rule["action"] == "FailIndex"
    assert rule["onExitCodes"]["values"] == [InputError.exit_code, UnavailableError.exit_code]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    # What Kubernetes demands of both: https://kubernetes.io/docs/concepts/workloads/controllers/job/
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    assert job["completionMode"] == "Indexed"


def test_the_commands_of_all_scripts_can_be_typed():
    import click

    from lfm_deploy.cli import commands

    scripts = "\n".join(find_code("docs/shards.md", "bash"))
    typed = [shlex.split(words) for words in re.findall(r"lfm-deploy ((?:predict|collect) [^'\n]+)", scripts)]
    (job,) = find_code("docs/shards.md", "yaml")
    (container,) = yaml.safe_load(job)["spec"]["template"]["spec"]["containers"]
    assert len(typed) == 4  # Slurm's two, Ray's, and the trial of a hundred million
    for words in [*typed, container["command"][1:]]:
        commands.get_command(click.Context(commands), words[0]).make_context(words[0], words[1:])
