"""Raw rows and files of them, as sources have them."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

GOOD = {"id": "good", "text": "When does my card arrive?", "answer": "card arrival", "at": "2026-11-02T08:00:00Z"}
HEADER = "id,text,answer,at\n"
GOOD_CSV = "good,When does my card arrive?,card arrival,2026-11-02T08:00:00Z\n"


def jsonl(*rows):
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def changed(**fields):
    return GOOD | {"id": "bad"} | fields


def parquet(columns, **options):
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()
