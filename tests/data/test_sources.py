"""Where rows come from: patterns, formats, compression, other storage, and databases."""

import gzip
import io
import json
import os
import sqlite3
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from upath import UPath

from nightshift.data.database import database_url
from nightshift.data.sources import mapped, raw_files
from nightshift.errors import BadEnvironment, BadInput
from nightshift.settings.intake import Columns, Source

COLUMNS = Columns(prompt="text", answer="answer", id="id", timestamp="at")
ROWS = [
    {"id": str(number), "text": f"Message number {number}", "answer": "yes", "at": f"2026-11-02T0{number}:00:00Z"}
    for number in range(3)
]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = ("id,text,answer,at\n" + "".join(",".join(row.values()) + "\n" for row in ROWS)).encode()


def parquet():
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), file)
    return file.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize(("ending", "content"), [("jsonl", JSONL), ("csv", CSV), ("parquet", parquet())])
def test_every_format_gives_the_same_examples_compressed_or_not(ingest, source_of, pack, ending, content):
    name = f"rows.{ending}" + {gzip.compress: ".gz", zstandard.compress: ".zst"}.get(pack, "")
    result = ingest(source_of(name, pack(content)))
    assert [(row["prompt"], row["answer"], row["id"]) for row in result.examples] == [
        (row["text"], row["answer"], row["id"]) for row in ROWS
    ]
    assert result.examples[1]["timestamp"] == datetime(2026, 11, 2, 1, tzinfo=UTC)
    first = {"csv": 2}.get(ending, 1)
    assert [row["source_row"] for row in result.examples] == [first, first + 1, first + 2]


TSV = ("id\ttext\tanswer\tat\n" + "".join("\t".join(row.values()) + "\n" for row in ROWS)).encode()


@pytest.mark.parametrize(("name", "content"), [("a.tsv", TSV), ("a.tab", TSV.decode().encode("utf-16")),
                                               ("a.json", json.dumps(ROWS, indent=1).encode())])  # fmt: skip
def test_tabs_and_arrays_give_the_same_examples_as_lines(ingest, source_of, name, content):
    result = ingest(source_of(name, content))
    assert [(row["prompt"], row["answer"], row["id"]) for row in result.examples] == [
        (row["text"], row["answer"], row["id"]) for row in ROWS
    ]


LAYOUTS = {
    "openai": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is it?"},
                            {"role": "assistant", "content": "On its way."}]},
    "sharegpt": {"conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Where is it?"},
                                   {"from": "gpt", "value": "On its way."}]},
    "alpaca": {"instruction": "Where", "input": "is it?", "output": "On its way.", "rules": "Be brief."},
    "completion": {"prompt": "Where is it?", "completion": "On its way.", "rules": "Be brief."},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_read_without_naming_its_columns(ingest, source_of, tmp_path, layout):
    system = {} if "rules" not in LAYOUTS[layout] else {"system": "rules"}
    source_of("rows.jsonl", json.dumps(LAYOUTS[layout] | {"key": 7}))
    source = Source(uri=str(tmp_path / "rows.jsonl"), layout=layout, columns={"id": "key", **system})
    (example,) = ingest(source).examples
    assert [turn["role"] for turn in example["messages"]] == ["system", "user", "assistant"]
    assert example["messages"][0]["content"] == "Be brief."
    assert " ".join(example["prompt"].split()) == "Where is it?"
    assert (example["answer"], example["id"]) == ("On its way.", "7")


def test_rows_that_differ_only_in_their_system_message_are_kept_on_one_side(ingest, source_of):
    rows = [{"text": "When does my card arrive?", "answer": "soon", "rules": rules} for rules in ("a", "b", "a", None)]
    columns = Columns(prompt="text", answer="answer", system="rules")
    result = ingest(source_of("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows), columns=columns))
    assert [example["source_row"] for example in result.examples] == [1, 2, 4]
    assert (result.counts["duplicates"], result.counts["near_duplicates"]) == (1, 0)
    assert len({example["group"] for example in result.examples}) == 1


def test_a_row_of_several_lines_is_numbered_by_its_first(ingest, source_of):
    content = 'id,text,answer,at\n1,"one\ntwo\nthree",a,\n\n2,four,b,\n'
    result = ingest(source_of("rows.csv", content))
    assert [(row["source_row"], row["prompt"]) for row in result.examples] == [(2, "one\ntwo\nthree"), (6, "four")]


def test_a_space_before_a_quote_is_no_part_of_the_field(ingest, source_of):
    result = ingest(source_of("rows.csv", 'id, text, answer, at\n1, "one, two", "a ""b""",\n'))
    assert [(row["prompt"], row["answer"]) for row in result.examples] == [("one, two", 'a "b"')]


@pytest.mark.parametrize(
    ("separator", "row", "prompt"),
    [(",", '1, "Hello" she said,x,', '"Hello" she said'), ("\t", '1\t "Wow\tx\t', '"Wow')],
)
def test_quotes_that_are_a_part_of_the_text_stay_behind_a_space(ingest, source_of, separator, row, prompt):
    header, last = (separator.join(fields) for fields in (("id", "text", "answer", "at"), ("2", '"four"', "x", "")))
    name = "rows.tsv" if separator == "\t" else "rows.csv"
    result = ingest(source_of(name, f"{header}\n{row}\n{last}\n"))
    assert [row["prompt"] for row in result.examples] == [prompt, "four"]


def test_the_interval_chooses_the_file(ingest, source_of, tmp_path):
    source_of("2026-11-01.jsonl", b"not read")
    source = source_of("2026-11-02.jsonl", JSONL)
    assert len(ingest(source.model_copy(update={"uri": f"{tmp_path}/{{start:%Y-%m-%d}}.jsonl"})).examples) == 3


def test_a_pattern_reads_all_files_in_order_and_says_which_row_is_whose(ingest, source_of, tmp_path):
    for shop in ("b", "a"):
        source = source_of(f"drop/{shop}/rows.jsonl", json.dumps({"id": shop, "text": f"From {shop}"}) + "\n")
    result = ingest(source.model_copy(update={"uri": f"{tmp_path}/drop/*/rows.jsonl"}))
    assert [row["source"] for row in result.examples] == ["source/a/rows.jsonl", "source/b/rows.jsonl"]


@pytest.mark.parametrize(
    ("ending", "content"),
    [("jsonl", JSONL), ("csv.gz", gzip.compress(CSV)), ("pq", parquet())],
    ids=["jsonl", "csv.gz", "pq"],
)
def test_a_name_that_is_not_utf8_is_shown_with_its_bytes(ingest, source_of, tmp_path, ending, content):
    source = source_of("other.txt", b"")
    (tmp_path / os.fsdecode(b"caf\xe9." + ending.encode())).write_bytes(content)
    result = ingest(source.model_copy(update={"uri": f"{tmp_path}/*.{ending}"}))
    assert {row["source"] for row in result.examples} == {f"source/caf\\xe9.{ending}"}
    assert result.counts["kept"] == 3


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_colons_in_the_name_of_a_file_that_a_pattern_finds_are_kept(ingest, source_of, tmp_path, scheme):
    source = source_of("a::b.jsonl", JSONL)
    result = ingest(source.model_copy(update={"uri": f"{scheme}{tmp_path}/*.jsonl"}))
    assert {row["source"] for row in result.examples} == {"source/a::b.jsonl"}


def test_a_uri_that_would_be_cut_at_its_colons_is_refused(ingest, source_of, tmp_path):
    source = source_of("a::b.jsonl", JSONL)
    assert ingest(source).counts["kept"] == 3
    UPath("memory://drops/a::b.jsonl").fs.pipe_file("/drops/a::b.jsonl", JSONL)
    for uri in (f"file://{tmp_path}/a::b.jsonl", "memory://drops/a::b.jsonl", "memory://drops/*.jsonl"):
        with pytest.raises(BadInput, match=r"`::`.* chains file systems; rename"):
            ingest(source.model_copy(update={"uri": uri}))


def test_storage_that_nobody_knows_is_bad_input(ingest, source_of):
    source = source_of("rows.jsonl", JSONL).model_copy(update={"uri": "s4://drops/rows.jsonl"})
    with pytest.raises(BadInput, match=r"s4://drops/rows\.jsonl cannot be opened"):
        ingest(source)


def test_two_sources_may_use_the_same_ids(ingest, source_of):
    one = source_of("one.jsonl", '{"id": "1", "text": "From one"}\n')
    other = source_of("other.jsonl", '{"id": "1", "text": "By the other"}\n')
    assert ingest(one, other.model_copy(update={"name": "other"})).counts["kept"] == 2


def test_memory_and_s3_are_read_like_files(ingest, bucket):
    for uri in ("memory://drops/2026-11-02.csv", f"{bucket}/drops/2026-11-02.csv"):
        UPath(uri).parent.mkdir(parents=True, exist_ok=True)
        UPath(uri).write_bytes(CSV)
        for pattern in (uri, uri.replace("02.csv", "*.csv")):
            result = ingest(Source(uri=pattern, columns=COLUMNS))
            assert [row["id"] for row in result.examples] == ["0", "1", "2"]
            assert result.examples[0]["source"] == "source/2026-11-02.csv"


def test_parquet_reaches_into_records_and_reads_only_what_is_mapped(ingest, source_of):
    file = io.BytesIO()
    times = pa.array([1793620800123456789], pa.timestamp("ns", tz="Europe/Paris"))
    pq.write_table(
        pa.table({"payload": [{"body": {"text": "deep"}}], "junk": [b"\xff"], "at": times, "n": [Decimal("1.50")]}),
        file,
    )
    columns = Columns(prompt="payload.body.text", timestamp="at", metadata=["n"])
    (row,) = ingest(source_of("rows.parquet", file.getvalue(), columns=columns)).examples
    assert row["prompt"] == "deep"
    assert row["timestamp"] == datetime(2026, 11, 2, 12, 0, 0, 123456, tzinfo=UTC)
    assert row["metadata"] == [("n", "1.50")]


def test_a_file_that_changes_while_it_is_read_is_read_again_later(ingest, source_of, tmp_path, night):
    source = source_of("rows.jsonl", JSONL)
    (file,) = raw_files(source, night, tmp_path / "copies")
    pieces = file.pieces()
    next(pieces)
    source_of("rows.jsonl", JSONL + JSONL)
    with pytest.raises(BadEnvironment, match="changed while it was read"):
        list(pieces)


@pytest.fixture
def bank(tmp_path, monkeypatch):
    """A database with the rows of three days, and a source that asks for those of one."""
    path = tmp_path / "Bank.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE messages (id INTEGER, body TEXT, at TEXT)")
        days = [(number, f"Message {number}", f"2026-11-0{number} 09:00:00") for number in (1, 2, 3)]
        database.executemany("INSERT INTO messages VALUES (?, ?, ?)", [*days, (4, None, "2026-11-02 10:00:00")])
    monkeypatch.setenv("AIRFLOW_CONN_BANK", f"sqlite:///{path}")
    return Source(
        name="bank",
        connection="bank",
        query="SELECT id, body, at FROM messages WHERE at >= :start AND at < :end ORDER BY id",
        columns=Columns(prompt="body", id="id", timestamp="at"),
    )


def test_a_query_gets_the_interval_and_its_rows_are_treated_like_any(ingest, bank):
    result = ingest(bank)
    assert [(row["prompt"], row["id"], row["source"]) for row in result.examples] == [("Message 2", "2", "bank")]
    assert [(row["reason"], row["source_row"]) for row in result.quarantine] == [("missing_prompt", 2)]


def test_the_same_result_has_the_same_digest(bank, night, tmp_path):
    digests = {raw_files(bank, night, tmp_path / str(number))[0].inputs["sha256"] for number in range(2)}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT id FROM nowhere", "no such table: nowhere"),
        ("SELEC 1", "syntax error"),
        ("SELECT id, body AS text FROM messages", r"no column 'body', 'at'; it has 'id', 'text'"),
    ],
)
def test_a_wrong_query_says_what_is_wrong(ingest, bank, query, told):
    with pytest.raises(BadInput, match=told):
        ingest(bank.model_copy(update={"query": query}))


def test_a_database_that_is_not_there_may_come_back(ingest, bank, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_BANK", "sqlite:////nowhere/bank.db")
    with pytest.raises(BadEnvironment, match="no database file"):
        ingest(bank)
    monkeypatch.setenv("AIRFLOW_CONN_BANK", "postgres://reader:secret@127.0.0.1:1/bank")
    with pytest.raises(BadEnvironment, match="does not answer") as caught:
        ingest(bank)
    assert "secret" not in str(caught.value)
    monkeypatch.delenv("AIRFLOW_CONN_BANK")
    with pytest.raises(BadEnvironment, match="AIRFLOW_CONN_BANK is not set"):
        ingest(bank)


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("postgres://me:p%40ss@db.example:5433/shop", "postgresql+psycopg2://me:p%40ss@db.example:5433/shop"),
        ("postgresql://db.example/shop?sslmode=require", "postgresql+psycopg2://db.example/shop?sslmode=require"),
        (
            '{"conn_type": "postgres", "host": "db", "login": "me", "password": "p@ss", "schema": "shop", '
            '"extra": {"sslmode": "require", "nested": {"a": 1}}}',
            "postgresql+psycopg2://me:p%40ss@db/shop?sslmode=require",
        ),
        ("sqlite:////data/A.db", "sqlite:////data/A.db"),
        ("sqlite://%2Fdata%2FA.db", "sqlite:////data/A.db"),
        ('{"conn_type": "sqlite", "host": "/data/A.db"}', "sqlite:////data/A.db"),
    ],
)
def test_airflow_writes_connections_in_several_forms(monkeypatch, variable, url):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", variable)
    assert database_url("shop").render_as_string(hide_password=False) == url


@pytest.mark.parametrize(
    ("variable", "told"),
    [("http://example.org", "type 'http'"), ("{not json", "not valid JSON"), ("postgres://db:port/x", "neither JSON")],
)
def test_a_connection_that_is_none_is_told_without_its_secrets(monkeypatch, variable, told):
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", variable)
    with pytest.raises(BadInput, match=told):
        database_url("shop")


@pytest.mark.parametrize("left_out", [{"messages"}, {"prompt", "answer", "input", "rejected"}])
def test_every_column_that_is_mapped_is_read(left_out):
    names = {field: f"the {field}" for field in Columns.model_fields if field not in {*left_out, "metadata"}}
    source = Source(uri="rows.parquet", columns={**names, "metadata": ["more"]})
    assert set(mapped(source)) == {*names.values(), "more"}
