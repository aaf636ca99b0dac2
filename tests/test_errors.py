from lfm_deploy.errors import first_line


def test_first_line_of_what_an_error_says():
    assert first_line(ValueError("  no such operator\nat node 3\n")) == "no such operator"


def test_an_error_that_says_nothing_is_called_by_its_class():
    assert first_line(MemoryError()) == "MemoryError"
