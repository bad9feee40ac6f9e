"""What an index of many passages costs: seconds of a processor and memory to make it, and to search it.

Passages are of 100 words that are as frequent as those of a language (Zipf). Memory is the peak of a child process.
Run as a program, this file is the child: `python test_index_size.py PASSAGES FOLDER`.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or Path(__file__).parents[2] / "build" / "benchmarks")
PASSAGES, QUESTIONS = 30_000, 64
WORDS, VOCABULARY, EXPONENT = 100, 200_000, 1.15
MOST_GB = 1.5  # whatever the number of passages


def texts(count, length):
    random, vocabulary = np.random.default_rng(length), np.array([f"w{number}" for number in range(VOCABULARY)])
    for _ in range(count):
        yield " ".join(vocabulary[np.minimum(random.zipf(EXPONENT, length), VOCABULARY) - 1])


def measure(passages, folder):
    from nightshift.retrieval.documents import Document
    from nightshift.retrieval.embeddings import WordVectors
    from nightshift.retrieval.index import build, stage
    from nightshift.retrieval.search import Index
    from nightshift.settings.retrieval import Chunk

    found = {}

    def timed(name, work):
        start = time.process_time()
        done = work()
        found[name] = {
            "seconds": time.process_time() - start,
            "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        }
        return done

    documents = (Document(f"d/{number:09}", "", text) for number, text in enumerate(texts(passages, WORDS)))
    staged = timed("read", lambda: stage(documents, folder / "staged"))
    (folder / "index").mkdir()
    counts = timed("make", lambda: build(staged, Chunk(), WordVectors(), folder / "index", folder))
    index, questions = Index(folder / "index", counts.chunks, WordVectors()), list(texts(QUESTIONS, 10))
    for search in ("bm25", "vectors", "hybrid"):
        timed(f"search by {search}", lambda search=search: index.retrieve(questions, 5, search))
    size = sum(file.stat().st_size for file in (folder / "index").iterdir()) / 1e9
    print(json.dumps({"chunks": counts.chunks, "size": size, "found": found}))


@pytest.mark.benchmark
def test_the_memory_of_an_index_does_not_follow_its_size(tmp_path):
    sizes = {}
    for passages in (PASSAGES // 10, PASSAGES):
        (folder := tmp_path / f"{passages}").mkdir()
        command = [sys.executable, __file__, f"{passages}", f"{folder}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        sizes[passages] = json.loads(done.stdout.splitlines()[-1])
    heads = " | ".join(f"{size:,} passages" for size in sizes)
    lines = [f"| | {heads} |", "| --- |" + " --- |" * len(sizes)]
    for step in next(iter(sizes.values()))["found"]:
        each = QUESTIONS if step.startswith("search") else 1
        of = [one["found"][step] for one in sizes.values()]
        name = f"{step}, a question" if each > 1 else step
        said = " | ".join(f"{one['seconds'] / each:.3f} s, {one['gb']:.2f} GB" for one in of)
        lines.append(f"| {name} | {said} |")
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "index_size.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    assert [one["chunks"] for one in sizes.values()] == list(sizes)
    assert max(step["gb"] for one in sizes.values() for step in one["found"].values()) < MOST_GB


if __name__ == "__main__":
    measure(int(sys.argv[1]), Path(sys.argv[2]))
