"""The same raw rows become the same partition, however the code that makes it is built."""

import csv
import gzip
import hashlib
import itertools
import json
import random
from datetime import UTC, datetime
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled_texts import LANGUAGES

from nightshift.data import ingestion
from nightshift.data.ingestion import Ingestion
from nightshift.data.sources import raw_files
from nightshift.settings.intake import Columns, Ingest, Source
from nightshift.settings.project import PACKAGE

SAMPLE = PACKAGE / "samples" / "banking77" / "2026-11-02.csv"
COLUMNS = {
    "digest", "messages", "prompt", "answer", "response", "context", "source", "source_row", "id", "timestamp", "metadata",
    "language", "prompt_characters", "prompt_tokens", "answer_tokens", "pii", "group", "split", "reason", "detail", "raw",
}  # fmt: skip
AWKWARD = [
    "  e\u0301galite\u0301\r\nand\ra lone return\x00 ", "\u00a0\u200b", "",
    "\uff23\uff21\uff2c\uff2c \uff2d\uff25 \uff10\uff11\uff17\uff11 \uff11\uff12\uff13\uff14\uff15\uff16\uff17",
    "SHOUTED TEXT IN CAPITALS", "a\tb\n\nc", "\ufeffmark", "half \ud800 pair", "x" * 700,
    "me@example.com and you@\u4f8b\u3048.jp", None, 17, ["a", "list"], "AKIAABCDEFGHIJKLMNOP",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----", "<|im_end|> ok <s>",
    "Stra\u00dfe \u0130stanbul \u01c5 \ufb01n",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 emoji \U0001f3f3\ufe0f\u200d\U0001f308",
    "a  b   c", " it's we'll I'd", "1 22 333 4444", "x" * 399 + " end\u0301 of it" * 4,
]  # fmt: skip
TIMES = [
    "2026-11-02T08:00:00Z", "2026-11-02T08:00:00+02:00", 1793606400, "1793606400123", 1793606400123, "", None,
    "2026-11-01T10:00:00", "2026-11-02", 1793606400.5, "yesterday", "2026-11-03T00:00:00Z", float("nan"),
]  # fmt: skip
METADATA = [
    {"channel": "app", "who": {"phone": "+44 20 7946 0958", "tags": ["a", "b\nc"]}}, {"channel": None}, {"channel": True}, {},
    {"channel": 3.5, "who": "jo@example.com"}, {"channel": "x" * 3, "who": float("nan")},
]  # fmt: skip


def texts():
    """Sentences of sixteen languages, with numbers in them; then what is no usual text."""
    chance = random.Random(3)
    for language in LANGUAGES.values():
        filled = [
            "".join(str(chance.randint(2, 9)) if sign in "#N" else sign for sign in pattern)
            for pattern in (*language.numbers, *language.phones)
        ]
        for sentence in (*language.says, *language.calls):
            yield from (sentence.replace("{}", one) for one in filled)
        yield from filled
    yield from AWKWARD


def records():
    seen = list(texts())
    beside = zip(seen, itertools.cycle(TIMES), itertools.cycle(METADATA), strict=False)
    for number, (text, at, more) in enumerate(beside):
        yield {
            "id": f"row-{number % 600}" if number % 5 else f"u{number}@example.com",
            "text": text,
            "at": at,
            "more": "and then?" if number % 9 == 0 else None,
            "answer": seen[number * 31 % len(seen)] if number % 7 else "",
            "system": "Be kind." if number % 4 == 0 else None,
            **more,
        }


def conversations():
    for number, record in enumerate(records()):
        text, answer = record["text"], record["answer"]
        messages = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        if number % 3 == 0:
            messages = [{"role": "system", "content": "Never swear."}, *messages]
        if number % 3 == 1:
            messages += [
                {"from": "human", "value": f"again: {text}"},
                {"from": "gpt", "value": answer, "weight": number % 2},
            ]
        if number % 7 == 0:
            messages[0]["content"] = [{"type": "text", "text": "one"}, {"type": "text", "text": str(text)}]
        if number % 11 == 0:
            messages = messages[1:]
        yield {
            "m": json.dumps(messages) if number % 13 == 0 else messages,
            "channel": record.get("channel"),
            "id": record["id"],
        }


def json_lines(rows):
    lines = [
        json.dumps(row, ensure_ascii=number % 2 == 0).encode("utf-8", "surrogatepass")
        for number, row in enumerate(rows)
    ]
    # Two equal rows, a blank line, an array, what is no JSON, bytes that are no UTF-8.
    return b"\n".join(
        [*lines, *lines[:40:3], b" ", b"[1]", b"{oops", b'{"text": "caf\xe9"}', b'{"text": "last \\u00e9"}']
    )


@pytest.fixture
def sources(tmp_path):
    """Two files of rows, the sample, two of conversations in one source, and traffic in Parquet with times and maps."""
    metadata = ["channel", "who.phone", "who"]
    columns = {"prompt": "text", "input": "more", "answer": "answer", "system": "system", "id": "id", "timestamp": "at"}
    (tmp_path / "rows.jsonl").write_bytes(json_lines(records()))
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        sample = list(csv.DictReader(file))[:400]
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "answer", "id"])
        writer.writerows([[row["text"], row["intent"], row["message_id"]] for row in sample])
        for number, row in enumerate(sample[:150]):
            writer.writerow([f"{row['text']}\nplease, line {number}", row["intent"], ""])
        file.write('one field\n"open, and never closed\nlast,card,z-9\n')
    (tmp_path / "chats").mkdir()
    (tmp_path / "chats" / "a.jsonl").write_bytes(json_lines(conversations()))
    (tmp_path / "chats" / "b.json").write_text(json.dumps(list(itertools.islice(conversations(), 50, 300))))
    (tmp_path / "chats" / "c.jsonl.gz").write_bytes(gzip.compress(b'{"m": "hello"}\n' * 3))
    served = [
        {"text": text, "said": f"about {text[:30]}", "page": text[::-1] if number % 3 else None, "id": number % 900,
         "at": datetime(2026, 11, 2, number % 24, tzinfo=UTC), "tags": [("n", str(number)), ("tel", "0171 1234567")]}
        for number, text in enumerate(text for text in texts() if isinstance(text, str) and "\ud800" not in text)
    ]  # fmt: skip
    texts_of = [(name, pa.string()) for name in ("text", "said", "page")]
    tags = pa.map_(pa.string(), pa.string())
    schema = pa.schema([*texts_of, ("id", pa.int64()), ("at", pa.timestamp("ns", "UTC")), ("tags", tags)])
    pq.write_table(pa.Table.from_pylist(served, schema), tmp_path / "served.parquet", row_group_size=700)
    served_columns = {"prompt": "text", "response": "said", "context": "page", "id": "id", "timestamp": "at"}
    return SimpleNamespace(
        examples=[
            Source(name="rows", uri=str(tmp_path / "rows.jsonl"), columns=Columns(**columns, metadata=metadata)),
            Source(
                name="sample", uri=str(tmp_path / "rows.csv"), columns=Columns(prompt="text", answer="answer", id="id")
            ),
            Source(name="chats", uri=f"{tmp_path}/chats/*", columns=Columns(messages="m", metadata=["channel"])),
        ],
        traffic=[
            Source(
                uri=str(tmp_path / "served.parquet"),
                columns=Columns(**served_columns, metadata=["tags", "tags.tel"]),
            )
        ],
    )


def digest_of(value):
    return hashlib.sha256(json.dumps(value, default=str, sort_keys=True).encode()).hexdigest()[:16]


def content_of(path):
    """What the columns of a file hold that have always been there, and how its rows are grouped."""
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        rows = file.read([name for name in file.schema_arrow.names if name in COLUMNS]).to_pylist()
    for row in rows:
        if "messages" in row:
            row["messages"] = [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"]]
    return digest_of([groups, rows])


@pytest.mark.parametrize(
    ("part", "counts", "digests"),
    [
        (
            "examples",
            {"rows_in": 2874, "kept": 1876, "duplicates": 447, "near_duplicates": 12, "quarantined": 539},
            ["441a0b83cd6a3732", "c2a6d1af241ac735", "e1e91dea6cb084d1"],
        ),
        (
            "traffic",
            {"rows_in": 1012, "kept": 900, "duplicates": 0, "near_duplicates": 0, "quarantined": 112},
            ["7547b8a9462cf615", "8f83f39710562f1f", "b4f9a3151bb33489"],
        ),
    ],
)
def test_mixed_rows_of_many_languages_become_what_they_always_became(  # noqa: PLR0917
    part, counts, digests, sources, measures, night, tmp_path, monkeypatch
):
    monkeypatch.setattr(ingestion, "BATCH_ROWS", 300)
    monkeypatch.setattr(ingestion, "BATCH_CHARACTERS", 30_000)
    of_part = sources.examples if part == "examples" else sources.traffic
    files = [file for source in of_part for file in raw_files(source, night, tmp_path / "copies" / source.name)]
    (tmp_path / "target").mkdir()
    run = Ingestion(Ingest(max_characters=600), night, measures, tmp_path, part, id_key=b"key of the installation")
    ingested = run.run(files, tmp_path / "target", lambda _rows: None)
    found = [content_of(tmp_path / "target" / f"{name}.parquet") for name in ("examples", "quarantine")]
    counters = [ingested.reasons, ingested.pii, ingested.languages, ingested.splits]
    assert ingested.counts == counts
    assert [*found, digest_of([counters, ingested.late, ingested.unusable])] == digests
