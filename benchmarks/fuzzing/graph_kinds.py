"""Bad graphs and engines: damaged files, metadata and sidecars that can't be, graphs that no runtime takes."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.damage import damage
from fuzzing.misvalues import spoil_json, to_json
from fuzzing.rows import Wanted, judge_rows
from fuzzing.seeds import Seeds, rewrite
from fuzzing.trial import Answer, Result, Trial


def make_graph(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A graph with damage to its bytes, alone or in a workdir."""
    content, what = damage(rng, (seeds.deploy / "lfm.onnx").read_bytes())
    return _try_graph(rng, seeds, folder, content, what)


def make_metadata(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A graph whose metadata says what cannot be, sealed again: the seal is no reason to believe it."""
    import onnx

    from lfm_deploy.artifacts import METADATA_KEY
    from lfm_deploy.storage.graph_file import seal_graph

    model = onnx.load(seeds.deploy / "lfm.onnx")
    entry = next(entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    spoilt, what = spoil_json(rng, json.loads(entry.value), indent=None)
    entry.value = spoilt.decode(errors="replace")
    return _try_graph(rng, seeds, folder, seal_graph(model), f"metadata: {what}")


def make_structure(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """A sealed graph that is another than its metadata says: parts are missing, renamed, or of another type."""
    import onnx

    from lfm_deploy.storage.graph_file import seal_graph

    model = onnx.load(seeds.deploy / "lfm.onnx")
    what = _spoil_graph(rng, model.graph)
    trial = _try_graph(rng, seeds, folder, seal_graph(model), what)
    # It is another network now, which nobody but its maker can tell: whatever it answers, it answers in rows.
    return replace(trial, judge=_judge_any)


def _judge_any(answer: Answer) -> tuple[Result, str]:
    for text in [answer.out, *answer.out.splitlines()]:
        try:
            json.loads(text)
        except ValueError:
            continue
        return Result.RIGHT, ""
    return Result.WRONG, f"prints no JSON: {answer.out[:100]!r}"


def _spoil_graph(rng: Random, graph: Any) -> str:
    from onnx import TensorProto

    kind = rng.randrange(9)
    node = rng.choice(list(graph.node))
    if kind == 0:
        graph.node.remove(node)
        return f"without node {node.name}"
    if kind == 1:
        graph.output[0].name = graph.node[-1].output[0] = "x"
        return "the output is called x"
    if kind == 2:
        graph.input[0].name = "x"
        return "the input is called x"
    if kind == 3:
        node.op_type = rng.choice(["NoSuchOperator", "Relu", "Identity", "TopK", "Reshape"])
        return f"{node.name} is a {node.op_type}"
    if kind == 4:
        weight = rng.choice(list(graph.initializer))
        weight.data_type = rng.choice([TensorProto.INT64, TensorProto.DOUBLE, TensorProto.STRING, 77])
        return f"{weight.name} is of type {weight.data_type}"
    if kind == 5:
        weight = rng.choice(list(graph.initializer))
        weight.dims.append(rng.choice([2, 0, -1, 2**40]))
        return f"{weight.name} has the shape {list(weight.dims)}"
    if kind == 6:
        elem = graph.input[0].type.tensor_type
        elem.elem_type = rng.choice([TensorProto.FLOAT, TensorProto.INT8, TensorProto.STRING])
        return f"the input is of type {elem.elem_type}"
    if kind == 7:
        output = graph.output.add()
        output.CopyFrom(graph.output[0])
        output.name = "second"
        return "a second output"
    shape = graph.input[0].type.tensor_type.shape
    shape.dim[rng.randrange(len(shape.dim))].dim_value = rng.choice([3, 7, 1000])
    return "another input shape"


def _try_graph(rng: Random, seeds: Seeds, folder: Path, content: bytes, what: str) -> Trial:
    tile = folder / "a.png"
    tile.write_bytes(seeds.tiles[0])
    logit = seeds.known_logit(seeds.tiles[0])
    choice = rng.random()
    if choice < 0.3:
        place = seeds.link_deploy(folder, only=("lfm.pth",))
        arguments = ["--workdir", f"{place}"]
        path = place / "lfm.onnx"
    else:
        path = folder / "g.onnx"
        arguments = ["--engine", f"{path}"]
    rewrite(path, content)
    if choice > 0.9:
        return Trial(
            arguments=["inspect", "--json", f"{path}"],
            what=what,
            names=(path.name,),
            judge=lambda answer: _judge_contract(answer, seeds),
        )
    return Trial(
        arguments=["predict", "--json", *arguments, f"{tile}"],
        what=what,
        names=(path.name,),
        judge=judge_rows([Wanted(f"{tile}", (logit,), whole=True)], seeds.threshold),
    )


def _judge_contract(answer: Answer, seeds: Seeds) -> tuple[Result, str]:
    found = json.loads(answer.out)[0]["contract"]
    if (found["size"], found["threshold"]) != (seeds.size, seeds.threshold):
        return Result.WRONG, f"says {found}"
    return Result.RIGHT, ""


def make_plan(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """An engine with damage to its plan."""
    return _try_engine(seeds, folder, *damage(rng, _require_engine(seeds).read_bytes()), None)


def make_sidecar(rng: Random, seeds: Seeds, folder: Path) -> Trial:
    """An engine whose sidecar is damaged, or says what cannot be."""
    engine = _require_engine(seeds)
    values = json.loads(engine.with_name(f"{engine.name}.json").read_text())
    if rng.random() < 0.7:
        sidecar, what = spoil_json(rng, values, indent=2)
    else:
        sidecar, what = _misstate(rng, values)
    return _try_engine(seeds, folder, None, what, sidecar)


def _misstate(rng: Random, values: dict[str, Any]) -> tuple[bytes, str]:
    """Sensible values of another engine, which the plan or the graph beside contradicts."""
    changes: list[tuple[tuple[str, ...], Any]] = [
        (("batch",), [5, 3, -1]),
        (("batch",), [0, 0, 0]),
        (("contract", "threshold"), 9.0),
        (("contract", "threshold"), -1e300),
        (("contract", "size"), 17),
        (("precision",), "fp32"),
        (("precision",), "int8"),
        (("input",), "float"),
        (("config", "k"), 3),
        (("plan_bytes",), 1),
        (("plan_sha256",), "0" * 64),
        (("onnx_sha256",), "0" * 64),
        (("checkpoint_sha256",), "0" * 64),
        (("gpu",), "sm999"),
        (("runtime",), "tensorflow"),
    ]
    path, value = rng.choice(changes)
    changed = json.loads(json.dumps(values))
    holder = changed
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return to_json(changed, 2).encode(), f"{'.'.join(path)} is {value}"


def _require_engine(seeds: Seeds) -> Path:
    if seeds.engine is None:
        raise AssertionError("no engine among the seeds")
    return seeds.engine


def _try_engine(seeds: Seeds, folder: Path, plan: bytes | None, what: str, sidecar: bytes | None) -> Trial:
    engine = _require_engine(seeds)
    graphs = ("lfm.pth", "lfm.onnx", "lfm.fp16.onnx")  # what a sidecar can be compared with
    place = seeds.link_deploy(folder, only=(engine.name, f"{engine.name}.json", *graphs))
    path = place / engine.name
    if plan is not None:
        rewrite(path, plan)
    if sidecar is not None:
        rewrite(path.with_name(f"{path.name}.json"), sidecar)
    right = seeds.right("engine")[0]

    def judge(answer: Answer) -> tuple[Result, str]:
        found = json.loads(answer.out)[0]
        for key, value in right.items():
            # Nothing but the file itself says how long a build took, or what else its maker noted.
            if key not in ("file", "runs here", "fingerprint") and found.get(key) != value:
                return Result.WRONG, f"accepted: {key} is {str(found.get(key))[:200]}"
        return Result.RIGHT, ""

    return Trial(
        arguments=["inspect", "--json", f"{path}"],
        what=f"{'plan' if sidecar is None else 'sidecar'}: {what}",
        names=(path.name,),
        judge=judge,
    )
