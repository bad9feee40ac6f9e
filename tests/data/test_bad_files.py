"""Bad files, case by case: each is refused with what it seems to be, and none is read that should not be."""

import gzip
import json
import os

import pytest
import zstandard
from raw_rows import GOOD, GOOD_CSV, HEADER, changed, jsonl, parquet

from nightshift.data.source_files import NoData
from nightshift.errors import BadEnvironment, BadInput

BAD_FILES = {
    "gzip that was cut off": ("a.jsonl.gz", gzip.compress(jsonl(*[changed(text=f"{n}") for n in range(500)]))[:-30],
                              "cut off"),
    "zstandard that was cut off": ("a.jsonl.zst", zstandard.compress(jsonl(GOOD) * 500)[:-20], "cut off"),
    "utf-16 that was cut off": ("a.jsonl", json.dumps(GOOD).encode("utf-16")[:-1], "cut off"),
    "a json array that was cut off": ("a.json", json.dumps([GOOD, GOOD]).encode()[:-9], "cut off after row 1"),
    "gzip with a flipped bit": ("a.csv.gz", gzip.compress((HEADER + GOOD_CSV).encode())[:-8] + b"\0" * 8, "damaged"),
    "a csv without the mapped columns": ("a.csv", "when,what\n1,2\n", "'text', 'answer', 'id', 'at'"),
    "a csv with a column named twice": ("a.csv", "id,text,text,answer,at\n1,a,b,c,\n", "2 times"),
    "a csv whose header is not utf-8": ("a.csv", b"id,t\xe9xt,answer,at\n", "header"),
    "a csv of old mac line ends": ("a.csv", "id,text,answer,at\r1,a,b,\r", "header"),
    "json lines named csv": ("a.csv", jsonl(GOOD), "seems to be one JSON object a line; .*`format: jsonl`"),
    "csv named parquet": ("a.parquet", HEADER + GOOD_CSV, "not a sound Parquet file"),
    "parquet that was cut off": ("a.parquet", parquet({"text": ["x"] * 9})[:-40], "not a sound Parquet file"),
    "parquet without the mapped columns": ("a.parquet", parquet({"text": ["x"]}), "it has 'text'"),
    "an empty parquet file": ("a.parquet", b"", "not a sound Parquet file"),
    "compressed parquet that was cut off": ("a.parquet.gz", gzip.compress(parquet({"text": ["x"]}))[:-20], "cut off"),
    "semicolons in a csv": ("a.csv", "id;text;answer;at\n1;a;b;\n", "semicolons seem to separate its columns, .* with commas"),
    "semicolons in a csv of quotes": ("a.csv", '"id";"text"\n"1";"a"\n', "semicolons seem to separate its columns"),
    "tabs in a csv": ("a.csv", "id\ttext\tanswer\tat\n1\ta\tb\t\n", "tabs seem to separate"),
    "a json array named csv": ("a.csv", json.dumps([GOOD]), "seems to be a JSON array of objects; .*`format: json`"),
    "a name that tells no format": ("a.dat", jsonl(GOOD), "format:"),
    "an html page named csv": ("a.csv", b"<!DOCTYPE html>\n<title>Sign in</title>", "seems to be an HTML page"),
    "a spreadsheet named csv": ("a.csv", b"PK\x03\x04\x14\0\0\0", "seems to be a ZIP archive"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "told"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_stops_the_night_and_is_named(ingest, source_of, name, content, told):
    with pytest.raises(BadInput, match=rf"{name}.*{told}"):
        ingest(source_of(name, content))


def test_the_second_file_of_a_pattern_must_have_the_columns_too(ingest, source_of, tmp_path):
    source = source_of("drop/1.csv", HEADER + GOOD_CSV)
    source_of("drop/2.csv", "id,body,answer,at\n")
    with pytest.raises(BadInput, match=r"2\.csv: no column 'text'; it has 'id', 'body'"):
        ingest(source.model_copy(update={"uri": str(tmp_path / "drop/*.csv")}))


@pytest.mark.parametrize("content", [b"", b"\n\n", HEADER.encode(), b"\xef\xbb\xbf"], ids=repr)
def test_a_file_without_rows_has_none(ingest, source_of, content):
    assert ingest(source_of("empty.csv", content)).counts["rows_in"] == 0


def test_a_missing_file_is_no_data_and_no_error(ingest, source_of, tmp_path):
    source = source_of("here.csv", HEADER)
    for uri in (str(tmp_path / "missing.csv"), str(tmp_path / "nowhere/*.csv"), "memory://nothing/*.jsonl"):
        with pytest.raises(NoData, match="there is no file"):
            ingest(source.model_copy(update={"uri": uri}))


def test_a_folder_or_a_pipe_in_place_of_a_file_is_refused(ingest, source_of, tmp_path):
    source = source_of("here.csv", HEADER)
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name, told in {"folder.csv": "is a folder", "pipe.csv": "not an ordinary file"}.items():
        with pytest.raises(BadInput, match=told):
            ingest(source.model_copy(update={"uri": str(tmp_path / name)}))


def test_a_file_that_cannot_be_read_may_be_readable_later(ingest, source_of):
    source = source_of("here.jsonl", "")
    # Reading this file fails for root too, which file permissions would not.
    with pytest.raises(BadEnvironment, match="cannot be read"):
        ingest(source.model_copy(update={"uri": "/proc/self/mem", "format": "jsonl"}))


def test_a_pattern_never_leads_out_of_its_folder(ingest, source_of, tmp_path):
    source = source_of("drop/1.jsonl", jsonl(GOOD))
    source_of("secret.jsonl", jsonl(GOOD | {"text": "secret"}))
    (tmp_path / "drop/2.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(BadInput, match=r"2\.jsonl.*link out of"):
        ingest(source.model_copy(update={"uri": str(tmp_path / "drop/*.jsonl")}))


def test_hostile_file_names_are_only_names(ingest, source_of, tmp_path):
    names = ["drop/a b;rm -rf.jsonl", "drop/$(id).jsonl", "drop/line\nbreak.jsonl", "drop/[x].jsonl", "drop/-rf.jsonl"]
    sources = [source_of(name, jsonl(changed(id=name, text=f"text of {name}"))) for name in names]
    result = ingest(sources[0].model_copy(update={"uri": str(tmp_path / "drop/*.jsonl")}))
    assert {example["source"] for example in result.examples} == {name.replace("drop", "source") for name in names}


def test_one_file_whose_name_holds_brackets_is_read_as_it_is_written(ingest, source_of):
    assert len(ingest(source_of("[2026].jsonl", jsonl(GOOD))).examples) == 1


@pytest.mark.parametrize(("name", "content"), [("a.parquet", parquet({"text": [None]})), ("a.json", '[{"at": 1}]')])
def test_a_file_of_the_right_format_without_usable_rows_is_not_told_its_format(ingest, source_of, name, content):
    found = ingest(source_of(name, content, columns={"prompt": "text"})).ingested
    assert found.unusable == [f"source/{name}: none of 1 rows could be used (1 missing_prompt)"]
