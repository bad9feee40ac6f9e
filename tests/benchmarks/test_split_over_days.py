"""Who is on which side after 120 days of repeating traffic: shares, what is there to judge by, leaks, time and bytes.

Real messages (Banking77, as in the sample) drawn by Zipf's law, half of them as they are, half with another beginning,
ending or a word less. Leaks are counted by comparing every held-out text with every text that was ever trained on.
"""

import csv
import random
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from nightshift.data.dedup import KEPT
from nightshift.data.questions import Questions
from nightshift.data.similarity import plain, shingles
from nightshift.data.split_map import HELD_OUT, NAMES, TRAIN, SplitMap
from nightshift.settings.gate import Gate
from nightshift.settings.intake import Splits
from nightshift.settings.project import PACKAGE

DAYS, ROWS = 120, 1_000
SPLITS = Splits(train=0.8, held_out=0.2)
REPORT = Path(__file__).parents[2] / "build" / "benchmarks"
FRAMES = ["", "You are an assistant of a bank. Name the intent of the message. Message: ", "请回答这位客户的问题:"]


def varied(text: str, chance: random.Random) -> str:
    kind, words = chance.random(), text.split()
    if kind < 0.5:
        return text
    if kind < 0.7:
        return text.rstrip("?.! ") + chance.choice(["", "?", "!", "??", "."])
    if kind < 0.9:
        return chance.choice([f"hi, {text}", f"hello {text}", f"{text} thanks", f"{text} please help", f"{text} asap"])
    without = chance.randrange(len(words))
    return " ".join(words[:without] + words[without + 1 :]) or text


def highest_similarity(held_out: list[str], trained: list[str]) -> float:
    """The highest Jaccard similarity of any held-out text with any trained one, all with all."""
    numbers: dict[str, int] = {}

    def matrix(texts: list[str]) -> tuple[list[int], list[int]]:
        columns, ends = [], [0]
        for text in texts:
            columns += [numbers.setdefault(piece, len(numbers)) for piece in shingles(text)]
            ends.append(len(columns))
        return columns, ends

    parts = [matrix(texts) for texts in (held_out, trained)]
    one, other = (
        csr_matrix((np.ones(len(columns), np.int32), columns, ends), (len(ends) - 1, len(numbers)))
        for columns, ends in parts
    )
    sizes, other_sizes = np.diff(one.indptr), np.diff(other.indptr)
    highest = 0.0
    for start in range(0, len(held_out), 200):
        common = (one[start : start + 200] @ other.T).tocoo()
        union = sizes[start + common.row] + other_sizes[common.col] - common.data
        highest = max(highest, float((common.data / union).max(initial=0)))
    return highest


@pytest.mark.benchmark
@pytest.mark.parametrize("frame", FRAMES, ids=["no frame", "instruction", "Chinese"])
def test_after_120_days_the_held_out_share_holds_and_nothing_leaked(tmp_path, frame):
    messages = []
    for path in sorted((PACKAGE / "samples" / "banking77").glob("*.csv")):
        with path.open() as file:
            messages += [row["text"] for row in csv.DictReader(file)]
    chance, numbers = random.Random(3), np.random.default_rng(1)
    chance.shuffle(messages)
    weights = 1 / np.arange(1, len(messages) + 1)
    split_map = SplitMap((tmp_path / "storage").as_uri(), "app")
    sides: dict[str, int] = {}
    lines = []
    for day in range(1, DAYS + 1):
        drawn = numbers.choice(len(messages), ROWS, p=weights / weights.sum())
        texts = list(dict.fromkeys(plain(varied(messages[number], chance)) for number in drawn))
        began = time.process_time()
        work = tmp_path / f"work-{day}"
        work.mkdir()
        questions = Questions(work / "questions.parquet", SPLITS)
        framed = [plain(frame + text) for text in texts]
        questions.add([sha256(text.encode()).hexdigest() for text in framed], framed, [""] * len(texts))
        questions.close()
        fates = np.full(len(texts), KEPT, dtype=np.uint8)
        decided = questions.settle(split_map, [f"day {day}"], fates, 2.0, work=work)
        seconds = time.process_time() - began
        for text, side in zip(texts, decided.sides.tolist(), strict=True):
            assert sides.setdefault(text, side) == side
        today = int((decided.sides == HELD_OUT).sum())
        assert today >= Gate().min_examples
        if day in {1, 7, 30, 60, 90, 120}:
            counts = Counter(NAMES[side] for side in sides.values())
            size = sum(path.stat().st_size for path in (tmp_path / "storage").rglob("segments/*/*/*.parquet"))
            lines.append(
                f"| {day} | {len(sides):,} | {counts['held_out'] / len(sides):.1%} | {today} of {len(texts)} "
                f"| {counts['between'] / len(sides):.1%} | {seconds:.1f} | {size / 1e6:.1f} |"
            )
    highest = highest_similarity(*([text for text in sides if sides[text] == side] for side in (HELD_OUT, TRAIN)))
    head = "| day | different questions | held out | of the day's | between sides | CPU seconds of the day | MB of segments |"
    table = "\n".join(
        [head, "|" + " --- |" * 7, *lines, "", f"Highest similarity held out to trained on: {highest:.2f}", ""]
    )
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / f"split_over_days_{FRAMES.index(frame)}.md").write_text(f"Frame: {frame!r}\n\n{table}\n")
    assert highest < 0.8
    counts = Counter(NAMES[side] for side in sides.values())
    assert counts["held_out"] / len(sides) == pytest.approx(SPLITS.held_out, rel=0.1)
