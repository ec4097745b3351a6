"""Records of files that grow, rotate and shrink; times kept in bounded memory."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nervecode.errors import InputError
from nervecode.lab.watch.tail import MAX_RECORD, Place, Record, Tail
from nervecode.lab.watch.times import KEPT, InputTimes


def ids(tail: Tail, records: Iterator[Record | None] | None = None) -> list[str]:
    """The ids of the records up to the next wait."""
    taken = []
    for record in tail.records() if records is None else records:
        if record is None:
            break
        taken.append(tail.parse(record)["id"])
    return taken


def test_a_whole_csv_and_jsonl(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('id,p_value\na,1.0\n"b,\n""c",0.5\n\nd,1.0')
    assert ids(Tail(str(file))) == ["a", 'b,\n"c', "d"]
    other = tmp_path / "a.jsonl"
    other.write_text('{"id": "a"}\n{"id": "b"}\n')
    assert ids(Tail(str(other))) == ["a", "b"]


def test_a_mark_of_the_byte_order_is_no_part_of_a_name(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"\xef\xbb\xbfid,p_value\r\na,1.0\r\n")
    assert ids(Tail(str(file))) == ["a"]


def test_a_half_written_line_waits(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("id,p_va")
    tail = Tail(str(file), follow=True)
    records = tail.records()
    assert ids(tail, records) == []
    for text, expected in [
        ("lue\na,1", []),
        (".0\nb,1.0\n", ["a", "b"]),
        ("", []),
        ("c,1\n", ["c"]),
    ]:
        with file.open("a") as more:
            more.write(text)
        assert ids(tail, records) == expected
    assert ids(Tail(str(file), finished=False)) == ["a", "b", "c"]
    with file.open("a") as more:
        more.write("d,1")
    assert ids(Tail(str(file), finished=False)) == ["a", "b", "c"]
    assert ids(Tail(str(file))) == ["a", "b", "c", "d"]


def test_a_rotated_file_is_read_to_its_end_and_the_new_one_from_its_beginning(
    tmp_path: Path,
) -> None:
    file, notices = tmp_path / "a.csv", []
    file.write_text("id,p_value\na,1\n")
    tail = Tail(str(file), follow=True, notice=notices.append)
    records = tail.records()
    assert ids(tail, records) == ["a"]
    with file.open("a") as old:
        os.rename(file, tmp_path / "a.1.csv")
        assert ids(tail, records) == []  # the name is gone for a moment
        old.write("b,1\n")
        old.flush()
        file.write_text("p_value,id\n1,c\n")
        assert ids(tail, records) == ["b", "c"]
    assert notices == [f"{file}: was rotated; read from its beginning"]


def test_a_truncated_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    file, notices = tmp_path / "a.csv", []
    file.write_text("id,p_value\na,1\nb,1\n")
    tail = Tail(str(file), follow=True, notice=notices.append)
    records = tail.records()
    assert ids(tail, records) == ["a", "b"]
    file.write_text("id,p_value\nc,1\n")
    assert ids(tail, records) == ["c"]
    assert notices == [f"{file}: was truncated; read from its beginning"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_it_goes_on_at_any_place(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{suffix}"
    names = [f"{i:03}" for i in range(40)]
    lines = [f"{n},1" for n in names] if suffix == "csv" else [f'{{"id": "{n}"}}' for n in names]
    file.write_text("\n".join((["id,p_value"] if suffix == "csv" else []) + lines) + "\n")
    for stop in range(len(names)):
        first = Tail(str(file))
        taken = [
            first.parse(r)["id"] for r, _ in zip(first.records(), range(stop), strict=False) if r
        ]
        place = first.place if stop else Place()
        rest = ids(Tail(str(file), place=place))
        # `zip` reads one record further than it gives.
        assert taken + rest in (names, names[:stop] + names[stop + 1 :])


def test_a_place_in_another_file_is_not_gone_on_from(tmp_path: Path) -> None:
    file, notices = tmp_path / "a.csv", []
    file.write_text("id,p_value\na,1\nb,1\n")
    tail = Tail(str(file))
    assert ids(tail) == ["a", "b"]
    file.write_text("id,p_value\nx,1\ny,1\nz,1\n")
    assert ids(Tail(str(file), place=tail.place, notice=notices.append)) == ["x", "y", "z"]
    assert notices == [f"{file}: is another file now; read from its beginning"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "id,p_value\na\n", "a.csv, line 2: found 1 fields, allowed: 2"),
        (
            "a.csv",
            "p_value,id,p_value\n0.5,a,0.1\n",
            "line 1: found 'p_value' 2 times, allowed: once",
        ),
        ("a.jsonl", '{"p_value": 1, "p_value": 0.1}\n', "line 1: found 'p_value' 2 times, allowed"),
        ("a.jsonl", "[1]\n", "a.jsonl, line 1: is no JSON object"),
        ("a.jsonl", '{"id"\n', "line 1: is no JSON object"),
        ("a.csv", "id,p_value\n" + "x" * (MAX_RECORD + 1) + "\n", "line 2: longer than"),
        ("a.txt", "", "unknown suffix '.txt'; Allowed: .csv, .jsonl"),
    ],
)
def test_what_cannot_be_read_is_told(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        ids(Tail(str(tmp_path / name)))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        Tail(str(tmp_path / "none.csv"))


def test_times_are_kept_evenly_in_bounded_memory() -> None:
    times = InputTimes()
    for number in range(1, 20_001):
        times.tick(number, f"t{number}")
    assert len(times.marks) <= KEPT
    for number in (100, 7777, 20_000):
        found = int((times.at(number) or "t0")[1:])
        assert 0 <= number - found < 20_000 / (KEPT / 2)
    again = InputTimes()
    again.load_state_dict(times.state_dict())
    assert again.at(7777) == times.at(7777) and InputTimes().at(3) is None
