"""Records of files that grow, rotate and shrink; times kept in bounded memory."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nervecode.errors import InputError
from nervecode.lab.watch.marks import KEPT, InputMarks, Mark
from nervecode.lab.watch.tail import MAX_LINES, MAX_RECORD, Place, Record, Tail


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
        ("a.csv", "id,p_value\na,\r1\n", "line 2: found a carriage return within a line, allowed"),
        ("a.csv", "id\rp_value\ra\r1\r", "line 1: found a carriage return within a line, allowed"),
        ("a.jsonl", "[1]\n", "a.jsonl, line 1: is no JSON object"),
        ("a.jsonl", '{"id"\n', "line 1: is no JSON object"),
        ("a.csv", "id,p_value\n" + "x" * (MAX_RECORD + 1) + "\n", "line 2: longer than"),
        ("a.csv", "id;p_value\na;0,5\n", "line 1: found columns between ';', allowed: between ','"),
        ("a.csv", "id\tp_value\na\t0.5\n", r"line 1: found columns between '\\t', all"),
        ("a.txt", "", "unknown suffix '.txt'; Allowed: .csv, .jsonl"),
    ],
)
def test_what_cannot_be_read_is_told(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        ids(Tail(str(tmp_path / name)))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_another_encoding_is_named(suffix: str, encoding: str, tmp_path: Path) -> None:
    file = tmp_path / f"a.{suffix}"
    file.write_bytes("\ufeffid,p_value\na,1.0\n".encode(encoding))
    with pytest.raises(InputError, match=rf"a\.{suffix}: found UTF-16, allowed: UTF-8"):
        ids(Tail(str(file)))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        Tail(str(tmp_path / "none.csv"))


def append(file: Path, text: str) -> None:
    with file.open("a") as more:
        more.write(text)


@pytest.mark.parametrize("length", [1, 2, 3, 40])
def test_a_truncated_file_is_noticed_however_long_it_is_by_then(
    length: int, tmp_path: Path
) -> None:
    file, notices = tmp_path / "a.csv", []
    file.write_text("id,p_value\na,1\nb,1\n")
    tail = Tail(str(file), follow=True, notice=notices.append)
    records = tail.records()
    assert ids(tail, records) == ["a", "b"]
    file.write_text("id,p_value\n" + "".join(f"{i},1\n" for i in range(length)))
    assert ids(tail, records) == [str(i) for i in range(length)]
    assert notices == [f"{file}: was truncated; read from its beginning"]


@pytest.mark.parametrize("follow", [False, True])
def test_a_quote_within_a_field_is_a_letter(follow: bool, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('id,p_value\na,1\n5" disk,1\nb,1\n"c ""d"" e",1\n')
    expected = ["a", '5" disk', "b", 'c "d" e']
    assert ids(Tail(str(file), follow=follow, finished=False)) == expected


def test_a_quoted_field_without_an_end_costs_its_own_line_alone(tmp_path: Path) -> None:
    file, rows = tmp_path / "a.csv", [f"{i},1" for i in range(3 * MAX_LINES)]
    rows[50] = '"5 disk,1'
    file.write_text("\n".join(["id,p_value", *rows]) + "\n")
    tail, taken, faults = Tail(str(file)), [], []
    for record in tail.records():
        assert record is not None
        (faults if record.fault else taken).append(record)
    assert [record.line for record in taken] == [i + 2 for i in range(len(rows)) if i != 50]
    (fault,) = faults
    with pytest.raises(InputError, match="line 52: a quoted field that begins here does not end w"):
        tail.parse(fault)


def test_a_lost_closing_quote_takes_no_line_up_to_the_next_quoted_field(tmp_path: Path) -> None:
    file, rows = tmp_path / "a.csv", [f"{i}," for i in range(200)]
    rows[50], rows[140] = '50,"died he', '140,"ok"'
    file.write_text("\n".join(["id,note", *rows]) + "\n")
    tail, taken, faults = Tail(str(file)), [], []
    for record in tail.records():
        assert record is not None
        (faults if record.fault else taken).append(record)
    assert [tail.parse(record)["id"] for record in taken] == [str(i) for i in range(200) if i != 50]
    (fault,) = faults
    with pytest.raises(InputError, match=r"line 52: a quoted field .* in line 142: a quote is mis"):
        tail.parse(fault)


def test_lines_that_wait_for_the_end_of_a_quoted_field_are_told(tmp_path: Path) -> None:
    file, notices = tmp_path / "a.csv", []
    file.write_text('id,p_value\na,1\n"b,1\nc,1\n')
    told = f"{file}, line 3: a quoted field that begins here has no end yet; held until it has, "
    for follow in (False, True):
        tail = Tail(str(file), follow=follow, finished=False, notice=notices.append)
        records = tail.records()
        assert ids(tail, records) == ["a"]
        assert notices == [f"{told}{MAX_LINES} lines at most"]
        assert not follow or (ids(tail, records) == [] and len(notices) == 1)
        notices.clear()
    append(file, '",1\nd,1\n')
    assert ids(tail, records) == ["b,1\nc,1\n", "d"]
    assert tail.place.line == 6


def test_lines_of_any_length_are_left_out_by_themselves(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("id,p_value\na,1\n" + "x" * (3 * MAX_RECORD) + ",1\nb,1\n")
    tail = Tail(str(file))
    records = [record for record in tail.records() if record is not None]
    assert [record.fault for record in records] == ["", "longer than 1,048,576 bytes", ""]
    assert max(len(record.data) for record in records) < 100
    place = tail.place
    assert place.offset == file.stat().st_size and place.line == 4
    append(file, "c,1\n")
    assert ids(Tail(str(file), place=place)) == ["c"]


def test_a_line_without_an_end_that_is_rotated_away_is_told(tmp_path: Path) -> None:
    for change in ("rotated", "truncated"):
        file, notices = tmp_path / f"{change}.csv", []
        file.write_text("id,p_value\na,1\nb,1")
        tail = Tail(str(file), follow=True, notice=notices.append)
        records = tail.records()
        assert ids(tail, records) == ["a"]
        if change == "rotated":
            os.rename(file, tmp_path / "old.csv")
        file.write_text("id,p_value\nc,1\n")
        assert ids(tail, records) == ["c"]
        assert notices == [
            f"{file}: was {change}; read from its beginning",
            f"{file}, line 3: has no end of line, as if half-written; it is left out",
        ]


def test_empty_lines_before_a_header_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(b"\xef\xbb\xbf\n\r\nid,p_value\na,1\n")
    tail = Tail(str(file))
    assert ids(tail) == ["a"] and tail.place.line == 4


@pytest.mark.parametrize("start", ["\n\n", "\ufeff", "\ufeff\n"])
@pytest.mark.parametrize("text", ['{"id": "a"}\n', "id,p_value\na,1\n"])
def test_what_a_pipe_holds_is_seen_behind_empty_lines_and_a_mark_of_the_byte_order(
    start: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "piped").write_text(start + text)
    with (tmp_path / "piped").open() as piped:
        monkeypatch.setattr("sys.stdin", piped)
        assert ids(Tail("-")) == ["a"]


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="-: standard input is closed"):
        ids(Tail("-"))


def test_a_folder_that_takes_the_place_of_a_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("id,p_value\na,1\n")
    tail = Tail(str(file), follow=True)
    records = tail.records()
    assert ids(tail, records) == ["a"]
    file.unlink()
    file.mkdir()
    with pytest.raises(InputError, match=r"a\.csv: cannot be read \(Is a directory\)"):
        ids(tail, records)


def test_inputs_are_noted_evenly_in_bounded_memory_and_the_first_for_ever() -> None:
    marks = InputMarks()
    assert marks.at(3) is None
    for number in range(1, 20_001):
        marks.note(Mark(number, f"i{number}", f"t{number}"))
    assert len(marks.marks) <= KEPT
    for number in (100, 7777, 20_000):
        mark = marks.at(number)
        assert mark is not None and 0 <= number - mark.number < 20_000 / (KEPT / 2)
        assert mark[1:] == (f"i{mark.number}", f"t{mark.number}")
    assert marks.at(1) == (1, "i1", "t1")
    again = InputMarks()
    again.load_state_dict(marks.state_dict())
    assert again.at(7777) == marks.at(7777)


@pytest.mark.parametrize(
    "state",
    [
        {"stride": 0, "marks": []},
        {"stride": 1, "marks": [[1, 2, None]]},
        {"stride": 1, "marks": [[-1, None, None]]},
        {"stride": 1, "marks": [[1, None]]},
    ],
)
def test_marks_that_cannot_be_are_refused(state: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        InputMarks().load_state_dict(state)
