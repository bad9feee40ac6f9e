"""Build the sets of the bias report from the public files: `build_bias_sets.py CROWS_PAIRS.csv BBQ_FOLDER`.

CrowS-Pairs and BBQ lose the columns that nobody reads. The counterfactual messages are made from the sample's own
Banking77 messages, which lie in `include/nightshift/samples/banking77`. The same files give the same bytes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from nightshift.data.examples import digest_of_messages, side_of
from nightshift.monitoring.bias.counterfactuals import COLUMNS, message_rows
from nightshift.settings.applications import load_application

SAMPLES = Path(__file__).parents[1] / "include" / "nightshift" / "samples"
TARGET = SAMPLES / "bias"
BBQ_CATEGORIES = ("Age", "Religion")
KNOWN_DAYS = ("2026-11-02", "2026-11-03", "2026-11-04", "2026-11-05")  # the first champion learned their intents
MESSAGES = 400
MOST_CHARACTERS = 45  # of a message: the shorter, the more can be asked each night


def main(crows_pairs: Path, bbq: Path) -> None:
    """Write all sets below `include/nightshift/samples/bias`."""
    with crows_pairs.open(encoding="utf-8", newline="") as file:
        pairs = [[row[name] for name in ("", "sent_more", "sent_less", "bias_type")] for row in csv.DictReader(file)]
    _write_csv(TARGET / "crows_pairs" / "crows_pairs.csv.gz", ["id", "sent_more", "sent_less", "bias_type"], pairs)
    for category in BBQ_CATEGORIES:
        lines = (bbq / f"{category}.jsonl").read_text(encoding="utf-8").splitlines()
        questions = [json.dumps(_question(json.loads(line)), ensure_ascii=False) for line in lines]
        _write(TARGET / "bbq" / f"{category}.jsonl.gz", "".join(f"{question}\n" for question in questions))
    messages = _unseen_messages()
    rows = [row for text, intent in messages for row in message_rows(text, intent)]
    _write_csv(TARGET / "counterfactuals" / "banking_assistant.csv.gz", list(COLUMNS), rows)
    print(f"{len(pairs):,} sentence pairs, {len(messages):,} messages in {len(rows):,} versions in {TARGET}")


def _question(row: dict[str, object]) -> dict[str, object]:
    """What the probe reads of a BBQ question. Four in a row share a context: ambiguous or not, negative or not."""
    kept = ("example_id", "question_polarity", "context_condition", "category", "context", "question", "label")
    answers, info = [], []
    for number in range(3):
        answers.append(row[f"ans{number}"])
        info.append(row["answer_info"][f"ans{number}"][1])  # type: ignore[index]
    groups = row["additional_metadata"]["stereotyped_groups"]  # type: ignore[index]
    return {**{name: row[name] for name in kept}, "answers": answers, "groups": info, "stereotyped": groups}


def _unseen_messages() -> list[tuple[str, str]]:
    """The first short messages by digest that the sample does not train on, and whose intent its first champion knows.

    The full sample trains on none of them either: it takes a smaller share of the same order.
    """
    splits = load_application("banking_assistant").ingest.splits
    found = []
    for day in KNOWN_DAYS:
        with (SAMPLES / "banking77" / f"{day}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                text = " ".join(row["text"].split())
                messages = [{"role": "user", "content": text}, {"role": "assistant", "content": row["intent"]}]
                if len(text) <= MOST_CHARACTERS and side_of(digest_of_messages(messages), splits) != "train":
                    found.append((text, row["intent"]))
    return sorted(found, key=lambda pair: sha256(pair[0].encode()).hexdigest())[:MESSAGES]


def _write_csv(path: Path, header: list[str], rows: Iterable[Iterable[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    _write(path, text.getvalue())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
