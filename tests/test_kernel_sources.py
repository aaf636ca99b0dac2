from engines import kernel_sources
from engines.kernel_sources import hash_kernels


def test_it_changes_with_any_source_of_the_folder_and_with_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "amx").mkdir()
    source = tmp_path / "amx" / "units.py"
    source.write_text("ROWS = 16\n")
    (tmp_path / "amx" / "notes.txt").write_text("not code")
    monkeypatch.setattr(kernel_sources, "__file__", str(tmp_path / "kernel_sources.py"))
    hash_kernels.cache_clear()
    before = hash_kernels("amx")
    (tmp_path / "amx" / "notes.txt").write_text("still not code")
    hash_kernels.cache_clear()
    assert hash_kernels("amx") == before
    source.write_text("ROWS = 32\n")
    hash_kernels.cache_clear()
    assert hash_kernels("amx") != before
    hash_kernels.cache_clear()


def test_logits_of_kernels_are_kept_under_their_sources(own_calibrated, monkeypatch):
    from engines.cpu_settings import CHOICES, CpuSettings, describe_place
    from engines.way_choice import Choice
    from lfm_deploy.artifacts import Precision
    from lfm_deploy.deployment.lineup import find_candidates
    from lfm_deploy.quantisation import Recipe
    from lfm_deploy.scoring.identities import identify

    graph = own_calibrated.graph(Precision.INT8, Recipe.CPU)
    way = CpuSettings(runtime="amx", streams=1, threads=1, piece=1)
    CHOICES.write(own_calibrated.path, Choice(graph=graph, chosen=way, why="a test", tried=()), describe_place())
    (candidate,) = [one for one in find_candidates(own_calibrated, "cpu") if one.path == graph]
    assert candidate.name == "amx int8 cpu"
    identity = identify(candidate)
    assert (identity["runtime"], identity["kernels"]) == ("amx", hash_kernels("amx"))
