"""What the examples of a training cost each of its processes: mapped from files, and as the lists of numbers that they were.

Each way is a child process that holds and packs the same examples and reads every token once; its memory is what is its own
(RssAnon), without what it had after its imports. Pages of mapped files are there once for all processes, and can be dropped.
Packing alone is measured at a million examples, in CPU-seconds.
Run as a program, this file is one of the children: `python test_token_memory.py maps|lists FOLDER`.
"""

import json
import os
import subprocess
import sys
import time
from bisect import bisect_left, insort
from pathlib import Path

import numpy as np
import pytest

REPORT = Path(os.environ.get("NIGHTSHIFT_BENCHMARKS") or Path(__file__).parents[2] / "build" / "benchmarks")
EXAMPLES, TOKENS, PART = 50_000, 500, 10_000
ROW = 2_048
MILLION = 1_000_000


def write(folder):
    """Write parts of examples of 250 to 750 tokens, a fifth of them learned."""
    from nightshift.training.token_files import LEARNED, write_part

    random = np.random.default_rng(1)

    def examples():
        for length in random.integers(TOKENS // 2, 3 * TOKENS // 2, PART):
            tokens = random.integers(1_000, 50_000, length).astype(np.uint32)
            tokens[-length // 5 :] |= LEARNED
            yield tokens

    for number in range(EXAMPLES // PART):
        part = folder / f"{number}"
        part.mkdir()
        write_part(part, examples())


def best_fit(sizes, length):
    """Packing as it was: a sorted list of free places, and a list of examples for each row."""
    rows, free = [], []
    for example in sorted(range(len(sizes)), key=lambda example: -sizes[example]):
        at = bisect_left(free, (sizes[example], -1))
        places, row = free.pop(at) if at < len(free) else (length, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(example)
        insort(free, (places - sizes[example], row))
    return rows


def own_memory():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) / 1e3


def hold(who, folder):
    from nightshift.training.packing import pack
    from nightshift.training.token_files import Examples

    parts, before = sorted(folder.iterdir()), own_memory()
    if who == "maps":
        held = Examples(parts)
        packing = pack(held.lengths, ROW)
        rows, read = len(packing), sum(int(held[number].sum(dtype=np.uint64)) for number in packing.examples)
    else:
        held = [example.tolist() for part in parts for example in map(Examples([part]).__getitem__, range(PART))]
        rows, read = len(best_fit(list(map(len, held)), ROW)), sum(map(sum, held))
    print(json.dumps({"mb": own_memory() - before, "rows": rows, "read": read}))


def child(who, folder):
    done = subprocess.run([sys.executable, __file__, who, str(folder)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.benchmark
def test_a_process_holds_a_hundredth_of_the_memory_that_lists_take(tmp_path):
    from nightshift.training.packing import pack

    write(tmp_path)
    maps, lists = (child(who, tmp_path) for who in ("maps", "lists"))
    ratio = lists["mb"] / maps["mb"]

    lengths = np.random.default_rng(2).integers(20, 1_500, MILLION).astype(np.uint32)
    start = time.process_time()
    packing = pack(lengths, ROW)
    seconds = time.process_time() - start
    some = lengths[: MILLION // 10]
    start = time.process_time()
    rows = best_fit(some.tolist(), ROW)
    before = time.process_time() - start
    lines = [
        f"| {EXAMPLES:,} examples of {TOKENS} tokens, in one process | mapped | lists |",
        "| --- | --- | --- |",
        f"| memory (MB) | {maps['mb']:.1f} | {lists['mb']:,.0f} |",
        f"| bytes an example | {maps['mb'] * 1e6 / EXAMPLES:,.0f} | {lists['mb'] * 1e6 / EXAMPLES:,.0f} |",
        f"| packing (CPU-seconds) | {seconds:.2f} for {MILLION:,} | {before:.2f} for {MILLION // 10:,} |",
    ]
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "token_memory.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    assert {name: maps[name] for name in ("rows", "read")} == {
        # In the files the highest bit of a token says that it is learned.
        name: lists[name]
        for name in ("rows", "read")
    }
    assert len(pack(some, ROW)) == len(rows)
    assert len(packing.examples) == MILLION
    assert ratio >= 100
    assert seconds <= 10 * before


if __name__ == "__main__":
    hold(sys.argv[1], Path(sys.argv[2]))
