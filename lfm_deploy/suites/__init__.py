"""Test data: a suite holds test sets, a test set holds pictures with their labels."""

from lfm_deploy.suites.catalogue import GROUPS, SuiteSpec, describe_suites, expected_tree
from lfm_deploy.suites.labelled import CLASS_FOLDERS, LabelledImage, Suite, TestSet
from lfm_deploy.suites.loading import DATA_VARIABLE, load_suites

__all__ = [
    "CLASS_FOLDERS",
    "DATA_VARIABLE",
    "GROUPS",
    "LabelledImage",
    "Suite",
    "SuiteSpec",
    "TestSet",
    "describe_suites",
    "expected_tree",
    "load_suites",
]
