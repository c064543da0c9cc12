"""The table reader: by hand, mistake by mistake, and on anything a file may hold."""

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from prostafed.common.errors import DataError
from prostafed.common.shell.tables import Mistake, Row, raise_mistakes, read_table, write_table


class Sample(Row):
    name: str = Field(pattern=r"^[a-z]{1,8}$", description="a short name")
    age: float | None = Field(None, ge=18, le=110, description="age in years")
    grade: int | None = Field(None, ge=0, le=5, description="grade")
    word: Literal["YES", "NO"] | None = Field(None, description="yes or no")


def read(tmp_path: Path, content: str | bytes, *, others: bool = False):
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path, Sample, others=others)


def only(table) -> Mistake:
    (mistake,) = table.mistakes
    return mistake


class TestRows:
    def test_by_hand(self, tmp_path):
        table = read(tmp_path, "age,name,word\n64,anna,YES\n\n , bert ,\n")
        assert table.rows == ((2, Sample(name="anna", age=64, word="YES")), (4, Sample(name="bert")))
        assert table.mistakes == ()
        assert table.readable

    def test_a_wrong_optional_cell_is_blank_and_told(self, tmp_path):
        table = read(tmp_path, "name,age,grade\nanna,17,7\n")
        assert table.rows == ((2, Sample(name="anna")),)
        assert [str(each) for each in table.mistakes] == [
            "t.csv: line 2, column age: expected age in years, 18 to 110, or blank, found '17'.",
            "t.csv: line 2, column grade: expected grade, 0 to 5, or blank, found '7'.",
        ]
        assert {each.key for each in table.mistakes} == {"anna"}

    def test_a_wrong_required_cell_leaves_the_line_out(self, tmp_path):
        table = read(tmp_path, "name,age\nANNA,20\n,30\nbert,40\n")
        assert [row.name for _, row in table.rows] == ["bert"]
        assert [(each.line, each.column, each.hint) for each in table.mistakes] == [
            (2, "name", ""),
            (3, "name", "Fill it in."),
        ]

    @pytest.mark.parametrize(
        ("cell", "hint"),
        [
            ('"12,1"', "Write a decimal point, not a comma."),
            ("<18", "Give the number alone, or leave it blank."),
            ("n/a", "Leave it blank where it is unknown."),
            ("02-Jan", "A spreadsheet may have changed it: format the column as text, type it again."),
            ("1.2E+15", "A spreadsheet may have changed it: format the column as text, type it again."),
            ("1e2", ""),
            ("nan", "Leave it blank where it is unknown."),
            ("inf", ""),
            ("1_8", ""),
            ("٣٠", ""),
        ],
    )
    def test_numbers_are_plain_decimals(self, tmp_path, cell, hint):
        mistake = only(read(tmp_path, f"name,age\nanna,{cell}\n"))
        assert (mistake.column, mistake.hint) == ("age", hint)

    def test_a_whole_number_has_no_decimals(self, tmp_path):
        assert only(read(tmp_path, "name,grade\nanna,3.0\n")).column == "grade"
        assert read(tmp_path, "name,age\nanna,30.5\n").rows[0][1].age == 30.5

    def test_words_are_exact_and_the_nearest_is_named(self, tmp_path):
        assert only(read(tmp_path, "name,word\nanna,yes\n")).hint == "Did you mean 'YES'?"

    def test_another_number_of_cells(self, tmp_path):
        table = read(tmp_path, "name,age,grade\nanna,12,1,2\nbert,50\ncleo,50,1,,\n")
        assert [(each.line, each.found) for each in table.mistakes] == [(2, "4"), (3, "2")]
        assert [row.name for _, row in table.rows] == ["cleo"]

    def test_lines_are_counted_as_an_editor_does(self, tmp_path):
        table = read(tmp_path, 'name,age\n\n"anna",20\n\n\nbert,1\n')
        assert [line for line, _ in table.rows] == [3, 6]
        assert only(table).line == 6
        assert only(read(tmp_path, 'name,note\nanna,"two\nlines"\nBERT,\n', others=True)).line == 4


class TestFiles:
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_byte_order_marks_and_line_ends_do_not_matter(self, tmp_path, mark, end):
        table = read(tmp_path, mark + end.join(["name,age,,", "anna,20,,", ",,,", ""]))
        assert table.rows == ((2, Sample(name="anna", age=20)),)
        assert table.mistakes == ()

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            ("name;age\nanna;20\n", "semicolons"),
            ("name\tage\nanna\t20\n", "tabs"),
            ("name,age\nZürich,20\n".encode("latin-1"), "another encoding"),
            ("name,age\n".encode("utf-16"), "another encoding"),
            ('name,age\n"anna,20\n', "something else"),
            ("", "no name among no columns"),
            ("age,grade\n20,1\n", "no name among age, grade"),
            ("name,age,name\nanna,20,bert\n", "'name' 2 times"),
        ],
    )
    def test_what_is_no_table_is_told_and_read_no_further(self, tmp_path, content, found):
        table = read(tmp_path, content)
        assert (only(table).found, only(table).line) == (found, 1)
        assert (table.rows, table.readable) == ((), False)

    def test_an_unknown_column_names_the_nearest(self, tmp_path):
        mistake = only(read(tmp_path, "name,grad\nanna,1\n"))
        assert (mistake.column, mistake.found) == ("grad", "'grad'")
        assert "did you mean 'grade'?" in mistake.hint
        assert read(tmp_path, "name,grad\nanna,1\n", others=True).rows == ((2, Sample(name="anna")),)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(DataError, match=r"Cannot read .*none.csv: no such file"):
            read_table(tmp_path / "none.csv", Sample)

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        content=st.binary(max_size=200)
        | st.text(alphabet='name,age;"\n\r\t 12.YESNO\ufeff\0', max_size=80).map(str.encode)
    )
    def test_nothing_raises_whatever_the_bytes(self, tmp_path, content):
        table = read(tmp_path, content)
        assert table.readable or table.mistakes

    def test_what_is_written_is_read(self, tmp_path):
        write_table(
            tmp_path / "t.csv", ("name", "age", "word"), [{"name": "anna", "age": None}, {"name": "b", "word": "NO"}]
        )
        table = read_table(tmp_path / "t.csv", Sample)
        assert [row for _, row in table.rows] == [Sample(name="anna"), Sample(name="b", word="NO")]


def test_ten_mistakes_are_shown_and_the_others_counted():
    raise_mistakes([])
    with pytest.raises(DataError) as caught:
        raise_mistakes([f"mistake {number}" for number in range(13)])
    assert str(caught.value).splitlines()[-2:] == ["mistake 9", "... and 3 more."]
