from enum import StrEnum

from google.protobuf import descriptor_pb2, text_format

from lfm_deploy.serving.text_format import write_text_format


class Label(StrEnum):
    REPEATED = "LABEL_REPEATED"


def test_protobufs_own_parser_reads_it():
    """A message with all kinds of fields that comes with protobuf: the description of a file."""
    values = {
        "name": 'a "quoted" \\ name\nof two lines, é',
        "dependency": ["one", "two"],
        "public_dependency": [0, 1],
        "message_type": [{"name": "A", "field": [{"name": "x", "number": 3, "label": Label.REPEATED}]}, {"name": "B"}],
        "options": {"java_multiple_files": True, "deprecated": False},
    }
    found = text_format.Parse(write_text_format(values), descriptor_pb2.FileDescriptorProto())
    assert found.name == values["name"]
    assert list(found.dependency) == ["one", "two"]
    assert list(found.public_dependency) == [0, 1]
    assert [message.name for message in found.message_type] == ["A", "B"]
    (field,) = found.message_type[0].field
    assert (field.name, field.number, field.label) == ("x", 3, field.LABEL_REPEATED)
    assert found.options.java_multiple_files
    assert found.options.HasField("deprecated")


def test_an_empty_list_is_written():
    assert write_text_format({"reshape": {"shape": []}}) == "reshape {\n  shape: []\n}\n"
