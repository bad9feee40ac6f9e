"""Packing: every example once and whole, rows well filled, what all prompts share only once."""

import hashlib
import random
from bisect import bisect_left, insort

import numpy as np
import pytest
from examples_in_memory import example, packed_rows

from nightshift.training.packing import NOT_LEARNED, pack
from nightshift.training.task import row_order
from nightshift.training.tokens import TokenizedExample

PREFIX = list(range(100, 117))


def examples(count, seed=1, longest=60):
    chance = random.Random(seed)
    return [
        example(
            [*PREFIX, *chance.choices(range(90), k=chance.randint(5, longest))],
            [*chance.choices(range(90), k=3), 99],
        )
        for _ in range(count)
    ]


def best_fit(sizes, length):
    """The rule that rows are packed by, in the plainest way."""
    rows, free = [], []
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        size = sizes[number]
        if size > length:
            continue
        at = bisect_left(free, (size, -1))
        places, row = free.pop(at) if at < len(free) else (length, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(number)
        insort(free, (places - size, row))
    return rows


@pytest.mark.parametrize(("length", "longest"), [(128, 128), (128, 9), (50, 70), (1000, 30), (7, 7)])
def test_each_example_goes_into_the_row_that_it_fills_best(length, longest):
    for seed in range(20):
        sizes = np.random.default_rng(seed).integers(1, longest + 1, 300).astype(np.uint32)
        packing = pack(sizes, length)
        assert [packing.row(row).tolist() for row in range(len(packing))] == best_fit(sizes.tolist(), length)
        assert packing.too_long == (sizes > length).sum()


def test_nothing_packs_into_no_rows():
    assert len(pack(np.array([], dtype=np.uint32), 8)) == len(pack(np.array([9, 10], dtype=np.uint32), 8)) == 0


def test_a_training_reads_the_batches_that_it_always_read():
    """Their digest was taken when rows were lists of Python numbers: trainings that are there stay reproducible."""
    chance = random.Random(1)
    given = []
    for _ in range(300):
        prompt = [7, 8, 9, *chance.choices(range(10, 90), k=chance.randint(1, 60))]
        given.append(example(prompt, [*chance.choices(range(10, 90), k=chance.randint(1, 9)), 99]))
    packed = packed_rows(given, 64)
    order = row_order(len(packed), epochs=2.5, seed=5)
    digest = hashlib.sha256()
    for start in range(0, len(order), 4):
        batch = packed.batch(order[start : start + 4], pad=0)
        for name in sorted(batch):
            digest.update(batch[name].numpy().tobytes())
    assert (packed.prefix, len(packed), packed.packing.too_long, len(order)) == ([7, 8, 9], 163, 11, 408)
    assert digest.hexdigest() == "e334fe3a1ef69a17fd9d94908a8e1c7d7b9e45595a52fbfcbb75a6c59605d537"


def test_rows_are_nearly_full_and_their_tokens_are_counted():
    given = examples(500)
    packed = packed_rows(given, 128)
    assert packed.tokens.sum() == sum(map(len, given))
    assert (packed.tokens.sum() - 500 * len(PREFIX)) / (len(packed) * 128) > 0.95


def test_a_batch_scores_exactly_the_positions_before_the_answers_tokens():
    row = examples(3, longest=20)
    packed = packed_rows(row, 128, PREFIX)
    batch = packed.batch([0, -1], pad=0)
    at = len(PREFIX)
    assert batch["input_ids"][:, :at].tolist() == [PREFIX, PREFIX]
    assert not batch["scored"][:, :at].any()
    for place, number in enumerate(packed.packing.row(0), 1):
        packed_one = row[number]
        size = len(packed_one) - len(PREFIX)
        answer = at + size - len(packed_one.answer)
        assert batch["input_ids"][0, at : at + size].tolist() == packed_one.ids[len(PREFIX) :]
        assert batch["labels"][0, answer : at + size].tolist() == packed_one.answer
        assert batch["scored"][0, at : at + size].nonzero().flatten().tolist() == list(
            range(size - len(packed_one.answer) - 1, size - 1)
        )
        assert batch["position_ids"][0, at : at + size].tolist() == list(range(17, 17 + size))
        assert set(batch["document"][0, at : at + size].tolist()) == {place}
        at += size
    assert (batch["labels"] != NOT_LEARNED).sum() == batch["scored"].sum() == 3 * 4
    assert not batch["document"][0, at:].any()
    assert not batch["scored"][1].any()


def conversation(lengths):
    """Return an example of turns that are given and learned in turn, of so many tokens, behind the prefix."""
    ids, learned, at = [*PREFIX], [], len(PREFIX)
    for number, length in enumerate(lengths):
        ids += range(at, at + length)
        if number % 2:
            learned.append((at, at + length))
        at += length
    return TokenizedExample(ids, tuple(learned))


@pytest.mark.parametrize(
    ("lengths", "left"),
    [
        ([9, 3, 5, 2], (9 + 3 + 5 + 2, 3 + 2)),  # fits
        ([30, 3, 5, 2], (20, 3 + 2)),
        ([30, 12, 7, 2], (20, 10 + 2)),  # of an answer that is cut, the first token left follows nothing
        ([30, 3, 30, 2], (20, 2)),
        ([5, 1, 4, 19], (20, 19)),
        ([5, 1, 4, 20], None),  # the last answer is never cut, and a token of what is given stays before it
    ],
)
def test_an_example_that_is_cut_lacks_its_oldest_tokens_and_keeps_its_last_answer(lengths, left):
    given = conversation(lengths)
    packed = packed_rows([given], 20, PREFIX, too_long="cut")
    assert packed.packing.too_long == (left is None)
    if left:
        batch, start = packed.batch([0], pad=0), len(PREFIX)
        tokens, learned = left
        assert batch["input_ids"][0, : start + tokens].tolist() == PREFIX + given.ids[start:][-tokens:]
        labels = batch["labels"][0]
        assert (labels != NOT_LEARNED).sum() == learned
        assert ((labels == batch["input_ids"][0]) | (labels == NOT_LEARNED)).all()
        assert labels[start + tokens - lengths[-1] : start + tokens].tolist() == given.answer
        assert not batch["scored"][0, start - 1]
        assert packed.tokens.tolist() == [start + tokens]
