"""Make the documents and the questions of the documents sample: `build_documents_sample.py XQUAD_EN.json`.

Each paragraph of XQuAD's English part becomes a document, and each question is asked once. On the first day there is every other
article, of a third of these only the first half of each paragraph, and what is asked can be answered. From the second day on
people ask about everything. The other articles, and the whole paragraphs, arrive on the third day. The same file always gives
the same bytes.
"""

from __future__ import annotations

import csv
import json
import random
import re
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

TARGET = Path(__file__).parents[1] / "include" / "nightshift" / "samples" / "documents"
FIRST_DAY = datetime(2026, 11, 2)  # UTC
ARRIVAL = "2026-11-04"
SEED = 240
ASKED_FIRST = 380  # questions of the first day; the other two days share the rest
SENTENCE_END = re.compile(r'(?<=[.!?])(?<!\b[A-Z]\.)\s+(?=[A-Z"“(])')


def main(xquad: Path) -> None:
    """Write the documents of two days and the questions of three."""
    articles = json.loads(xquad.read_text(encoding="utf-8"))["data"]
    documents: dict[str, list[dict[str, str]]] = {
        name: [] for name in ("2026-11-02/lasting", "2026-11-02/revised", f"{ARRIVAL}/revised", f"{ARRIVAL}/added")
    }
    answerable: list[list[str]] = []
    later: list[list[str]] = []
    for number, article in enumerate(articles):
        title = article["title"].replace("_", " ")
        for place, paragraph in enumerate(article["paragraphs"], 1):
            key, text = f"{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')}-{place}", paragraph["context"]
            document = {"key": key, "title": title, "text": text}
            known, kept = len(text), "lasting"
            if number % 2:
                known, kept = 0, "added"
            elif number % 3 == 0:
                known, kept = _start_of_the_end(text), "revised"
                documents["2026-11-02/revised"].append({**document, "text": text[:known].rstrip()})
            documents[f"{'2026-11-02' if kept == 'lasting' else ARRIVAL}/{kept}"].append(document)
            for question in paragraph["qas"]:
                begin = question["answers"][0]["answer_start"]
                row = [question["id"], question["question"].strip(), _sentence(text, begin), f"articles/{key}"]
                (answerable if begin < known else later).append(row)
    for name, rows in documents.items():
        _write(TARGET / "arrivals" / f"{name}.jsonl", (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    chance = random.Random(SEED)  # noqa: S311
    chance.shuffle(answerable)
    rest = [*answerable[ASKED_FIRST:], *later]
    chance.shuffle(rest)
    _write_questions(FIRST_DAY, answerable[:ASKED_FIRST])
    _write_questions(FIRST_DAY + timedelta(days=1), rest[: len(rest) // 2])
    _write_questions(FIRST_DAY + timedelta(days=2), rest[len(rest) // 2 :])


def _start_of_the_end(text: str) -> int:
    """Where the second half of a text's sentences begins; a text of one sentence is whole."""
    starts = [0, *(end.end() for end in SENTENCE_END.finditer(text))]
    return starts[(len(starts) + 1) // 2] if len(starts) > 1 else len(text)


def _sentence(text: str, place: int) -> str:
    """The sentence of a text that holds the character at a place."""
    starts = [0, *(end.end() for end in SENTENCE_END.finditer(text)), len(text)]
    return next(text[begin:end] for begin, end in pairwise(starts) if place < end).strip()


def _write_questions(day: datetime, rows: list[list[str]]) -> None:
    """Write what is asked on a day, from eight in the morning on."""
    moments = (day + timedelta(hours=8, minutes=number) for number in range(len(rows)))
    path = TARGET / "questions" / f"{day:%Y-%m-%d}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["question_id", "asked_at", "question", "answer", "document"])
        writer.writerows(
            [row[0], f"{moment:%Y-%m-%dT%H:%M:%SZ}", *row[1:]] for moment, row in zip(moments, rows, strict=True)
        )


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
