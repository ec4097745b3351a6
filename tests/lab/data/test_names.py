"""Names of OOD sets: fit for files, and each of its own."""

from __future__ import annotations

import pytest

from nervecode.errors import InputError
from nervecode.lab.data.names import LONGEST, set_names
from nervecode.lab.schema import DataConfig


def names(*far: str, **values: object) -> list[str]:
    config = DataConfig.model_validate({"id": "digits", "far": far, **values})
    return list(set_names(config).values())


def test_folders_of_one_name_take_those_above_them() -> None:
    assert names("folder:/A/test", "folder:/B/test") == ["folder_A_test", "folder_B_test"]
    assert names("folder:/x/A/test", "folder:/y/A/test", "folder:/y/other") == [
        "folder_x_A_test", "folder_y_A_test", "folder_other",
    ]  # fmt: skip
    # One path may be the end of another.
    assert names("folder:/test", "folder:/a/test") == ["folder_test", "folder_a_test"]


def test_letters_of_any_alphabet_are_kept() -> None:
    assert names("folder:/图片", "folder:/照片", "folder:/été") == [
        "folder_图片", "folder_照片", "folder_été",
    ]  # fmt: skip
    composed, apart = "folder:/\u00e9t\u00e9", "folder:/e\u0301te\u0301"
    assert names(composed) == names(apart) == ["folder_\u00e9t\u00e9"]


def test_names_that_stay_the_same_end_with_a_hash() -> None:
    for specs in (
        ["folder:/a b", "folder:/a_b"],
        ["folder:/\u00e9", "folder:/e\u0301"],
        ["folder:/!!", "folder:/??"],
    ):
        first, second = names(*specs)
        assert first != second
        assert first[:-8] == second[:-8]
        assert names(*reversed(specs)) == [second, first]
    first, second = names(shift=["rotate:-45", "rotate:45"])
    assert first != second


def test_a_long_name_is_cut_to_one_that_a_file_may_have() -> None:
    first, second = names(f"folder:/{'图' * 80}a", f"folder:/{'图' * 80}b")
    assert first != second
    assert all(LONGEST < len(name.encode()) <= LONGEST + 9 for name in (first, second))


def test_held_out_classes_given_twice_are_refused() -> None:
    with pytest.raises(InputError, match="the OOD sets 'held_out' and 'digits:8' are the same"):
        names("digits:8", near=["held_out"], hold_out=[8])


def test_a_path_that_a_config_cannot_hold_is_refused() -> None:
    path = b"caf\xe9".decode("utf-8", "surrogateescape")
    with pytest.raises(ValueError, match="cannot be written into a config"):
        names(f"folder:/{path}")
    with pytest.raises(ValueError, match="cannot be written into a config"):
        names("folder:~nobody-of-this-name/x")
