"""What people are told of a file of which no row could be used."""

import gzip
import json

import pytest

from nightshift.data.file_kinds import seems
from nightshift.settings.intake import Source

FILES = {
    "utf-16 without a mark": (json.dumps({"text": "hello"}).encode("utf-16-le"), "UTF-16 without a byte order mark"),
    "gzip in gzip": (gzip.compress(gzip.compress(b"{}")), "packed twice: gzip"),
    "an html page": (b"\n <!DOCTYPE html><html><body>502 Bad Gateway</body></html>", "an HTML page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML or HTML"),
    "a binary": (bytes(range(256)) * 8 + b"\0" * 99, "binary data"),
    "a binary without zeros": (bytes(range(1, 256)) * 8, "binary data"),
    "objects on one line": (b'{"text": "hello"} {"text": "bye"}\n', "several JSON objects on one line"),
    "lines of an old mac": (b'{"text": "hello"}\r{"text": "bye"}\r', "end with a carriage return alone"),
    "a spreadsheet": (b"PK\x03\x04\x14\0\0\0", "a ZIP archive"),
    "parquet": (b"PAR1\x15\x04", "Parquet"),
    "an array of texts": (b'["hello", "bye"]', "a JSON array of what are no objects"),
    "an array of openai's rows": (b'[\n {\n  "messages": [], "more": "' + b"x" * 99 + b'"},', "`layout: openai`"),
    "one object over several lines": (json.dumps({"text": "hello"}, indent=1).encode(), "over several lines"),
    "alpaca under other columns": (b'{"instruction": "a", "input": "", "output": "b"}\n', "`layout: alpaca`"),
    "sharegpt under other columns": (b'{"conversations": []}\n', "`layout: sharegpt`"),
}


@pytest.mark.parametrize(("content", "told"), FILES.values(), ids=FILES)
def test_the_beginning_of_a_file_tells_what_it_seems_to_be(tmp_path, content, told):
    (tmp_path / "file").write_bytes(content)
    assert told in seems(tmp_path / "file")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"id,text\n1,hello\n",
        b'{"text": "hello"}\n',
        b"[",
        b'[\n{"text": "hello"}]',
        "größe 👍\n".encode(),
        "größe\n".encode("latin-1"),
    ],
)
def test_ordinary_text_seems_nothing_else(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert seems(tmp_path / "file") is None


@pytest.mark.parametrize("array", [b'[{"text": "hello"}]', b'[\n {\n  "text": "' + b"x" * 9_000 + b'"}\n]'])
def test_an_array_of_objects_that_was_read_as_another_format_is_told_with_the_right_one(tmp_path, array):
    (tmp_path / "file").write_bytes(array)
    source = Source(uri="file", columns={"prompt": "text"})
    assert seems(tmp_path / "file", source, "csv") == "a JSON array of objects; give the source `format: json`"
    assert seems(tmp_path / "file", source, "json") is None


def test_what_the_source_says_already_is_no_news(tmp_path):
    (tmp_path / "file").write_bytes(b"PAR1\x15\x04")
    source = Source(uri="file", columns={"prompt": "text"})
    assert seems(tmp_path / "file", source, "parquet") is None
    assert "Parquet" in seems(tmp_path / "file", source, "csv")
    (tmp_path / "file").write_bytes(b'{"messages": []}\n')
    assert seems(tmp_path / "file", Source(uri="file", layout="openai"), "jsonl") is None
    assert seems(tmp_path / "file", Source(uri="file", layout="sharegpt"), "jsonl") == "rows of `layout: openai`"
