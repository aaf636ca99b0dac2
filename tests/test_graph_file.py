import onnx
import pytest

from lfm_deploy.artifacts import read_graph_info
from lfm_deploy.errors import ArtifactError
from lfm_deploy.storage.graph_file import SEAL_KEY, hash_network, holds_seal, is_sealed, seal_graph


def test_a_graph_is_sealed_and_stays_valid_onnx(small_graph):
    content = small_graph.read_bytes()
    assert is_sealed(content)
    assert holds_seal(content)
    onnx.checker.check_model(onnx.load(small_graph))
    read_graph_info(small_graph)


def test_any_flipped_bit_is_damage(small_graph, tmp_path):
    """Of 80 flips in weights 8 changed verdicts, with exit code 0."""
    content = small_graph.read_bytes()
    for at in range(0, len(content), max(1, len(content) // 997)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        (tmp_path / "x.onnx").write_bytes(flipped)
        with pytest.raises(ArtifactError, match=r"x\.onnx"):
            read_graph_info(tmp_path / "x.onnx")


def test_the_message_says_what_to_do(small_graph, tmp_path):
    model = onnx.load(small_graph)
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(ArtifactError, match=r"x\.onnx: damaged or changed since it was made .* copy it again"):
        read_graph_info(tmp_path / "x.onnx")


def test_a_seal_is_renewed_and_the_same_for_the_same_graph(small_graph):
    content = small_graph.read_bytes()
    model = onnx.load(small_graph)
    assert seal_graph(model) == content
    model.doc_string = "changed"
    again = seal_graph(model)
    assert holds_seal(again)
    assert [entry.key for entry in model.metadata_props].count(SEAL_KEY) == 1
    assert model.SerializeToString(deterministic=True) == again


def test_a_graph_without_a_seal_is_refused(small_graph, tmp_path):
    model = onnx.load(small_graph)
    del model.metadata_props[-1]
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(ArtifactError, match="no check sum"):
        read_graph_info(tmp_path / "x.onnx")


def test_metadata_that_is_no_utf8_is_damage(small_graph, tmp_path):
    """protobuf gives bytes for it, which readers of text stumbled over."""
    content = small_graph.read_bytes()
    path = tmp_path / "lfm.onnx"
    path.write_bytes(content.replace(b'{"checkpoint_sha256"', b'{"checkpoint_sha\xff\xfe\xfd"', 1))
    assert path.read_bytes() != content
    with pytest.raises(ArtifactError, match="damaged or not an ONNX file"):
        read_graph_info(path)


def test_a_network_is_the_same_whatever_its_metadata_says(small_graph):
    content = small_graph.read_bytes()
    model = onnx.load_model_from_string(content)
    onnx.helper.set_model_props(model, {"other": "text"})
    other = seal_graph(model)
    assert other != content
    assert hash_network(other) == hash_network(content)
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-1] + b"?"
    assert hash_network(seal_graph(model)) != hash_network(content)
