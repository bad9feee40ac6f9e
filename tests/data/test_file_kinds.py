"""What people are told of a file of which no row could be used."""

import gzip
import json

import pytest

from nightshift.data.file_kinds import seems

FILES = {
    "utf-16 without a mark": (json.dumps({"text": "hello"}).encode("utf-16-le"), "UTF-16 without a byte order mark"),
    "gzip in gzip": (gzip.compress(gzip.compress(b"{}")), "packed twice: gzip"),
    "an html page": (b"\n <!DOCTYPE html><html><body>502 Bad Gateway</body></html>", "an HTML page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML or HTML"),
    "a binary": (bytes(range(256)) * 8 + b"\0" * 99, "binary data"),
    "a spreadsheet": (b"PK\x03\x04\x14\0\0\0", "a ZIP archive"),
    "parquet": (b"PAR1\x15\x04", "Parquet"),
    "an array of texts": (b'["hello", "bye"]', "a JSON array of what are no objects"),
    "one object over several lines": (json.dumps({"text": "hello"}, indent=1).encode(), "over several lines"),
    "alpaca under other columns": (b'{"instruction": "a", "input": "", "output": "b"}\n', "`layout: alpaca`"),
    "sharegpt under other columns": (b'{"conversations": []}\n', "`layout: sharegpt`"),
}


@pytest.mark.parametrize(("content", "told"), FILES.values(), ids=FILES)
def test_the_beginning_of_a_file_tells_what_it_seems_to_be(tmp_path, content, told):
    (tmp_path / "file").write_bytes(content)
    assert told in seems(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"id,text\n1,hello\n", b'{"text": "hello"}\n', "größe 👍\n".encode()])
def test_ordinary_text_seems_nothing_else(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert seems(tmp_path / "file") is None
