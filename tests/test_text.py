import pytest

from lfm_deploy.storage.text import decode_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_mark_is_no_part_of_the_text(encoding):
    assert decode_text("aé\n".encode(encoding)) == "aé\n"


@pytest.mark.parametrize("content", [b"\xff", b"\xff\xfea", b"\xed\xa0\x80", b"\xfe\xff\xd8\x00"])
def test_what_is_no_text(content):
    with pytest.raises(UnicodeDecodeError):
        decode_text(content)
