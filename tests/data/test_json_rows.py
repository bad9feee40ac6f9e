"""Rows of JSON: lines and arrays, however they are cut into pieces while they are read."""

import json

import pytest

from nightshift.data import text_lines
from nightshift.data.json_rows import json_or_text, parse_json, read_json
from nightshift.data.quarantine import Quarantined, Unusable


def read(tmp_path, content):
    (tmp_path / "rows.json").write_bytes(content)
    return [
        (row.number, row.reason.value if isinstance(row, Quarantined) else row.values)
        for texts in read_json(tmp_path / "rows.json", "rows.json")
        for row in texts.rows()
    ]


WILD = [{"text": 'a "quoted" \\ and [brackets], {braces}'}, {"text": "größe 👍", "deep": [[{"a": []}]]}, {"text": "\\"}]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("buffer", [1, 2, 7, 1 << 18])
def test_an_array_gives_its_objects_wherever_the_buffer_ends(tmp_path, monkeypatch, indent, buffer):
    monkeypatch.setattr(text_lines, "BUFFER_BYTES", buffer)
    content = json.dumps(WILD, indent=indent, ensure_ascii=False).encode() + b"\n"
    assert read(tmp_path, content) == list(enumerate(WILD, 1))


def test_what_is_wrong_with_one_item_costs_no_other(tmp_path):
    items = [b'{"n": 1}', b"7", b"{'n': 2}", b'{"n": "\xff"}', b"[1, [2]]", b"", b'{"n": 3}']
    assert read(tmp_path, b"[" + b",\n".join(items) + b"]") == [
        (1, {"n": 1}), (2, "not_object"), (3, "not_json"), (4, "not_utf8"), (5, "not_object"), (6, {"n": 3})
    ]  # fmt: skip


def test_an_item_above_the_limit_is_skipped_and_not_held(tmp_path):
    content = b'[{"n": 1},{"text": "' + b"a" * (text_lines.LINE_BYTES + 1) + b'"},{"n": 3}]'
    assert read(tmp_path, content) == [(1, {"n": 1}), (2, "line_too_long"), (3, {"n": 3})]


def test_a_first_line_that_is_a_list_does_not_end_the_lines_behind_it(tmp_path):
    assert read(tmp_path, b'[7]\n{"n": 2}\n[3]\n') == [(1, "not_object"), (3, {"n": 2}), (4, "not_object")]


def test_files_with_a_mark_may_be_joined_to_one(tmp_path):
    marked = b'\xef\xbb\xbf{"n": 1}\n'
    assert read(tmp_path, marked * 2) == [(1, {"n": 1}), (2, {"n": 1})]


def test_an_empty_array_holds_no_row(tmp_path):
    assert read(tmp_path, b" [ ]\n") == []


def test_depth_is_limited_and_breadth_is_not():
    assert parse_json("[" * 100 + "]" * 100)
    assert len(parse_json("[" + ",".join(["[]"] * 5_000) + "]")) == 5_000
    for depth in (102, 600, 100_000):
        with pytest.raises(Unusable, match="nested deeper"):
            parse_json("[" * depth + "]" * depth)


def test_a_json_column_that_is_nested_too_deep_stays_text():
    deep = "[" * 2_000 + "]" * 2_000
    assert json_or_text(deep) == deep
    assert json_or_text('{"a": [1]}') == {"a": [1]}
