"""Packing: every example once and whole, rows well filled, what all prompts share only once."""

import random

import pytest

from nightshift.training.packing import NOT_LEARNED, collate, common_prefix, pack
from nightshift.training.tokens import TokenizedExample

PREFIX = list(range(100, 117))


def examples(count, seed=1, longest=60):
    chance = random.Random(seed)
    return [
        TokenizedExample(
            [*PREFIX, *chance.choices(range(90), k=chance.randint(5, longest))],
            [*chance.choices(range(90), k=3), 99],
        )
        for _ in range(count)
    ]


def test_every_example_is_packed_once_and_whole():
    given = examples(500)
    packed = pack(given, PREFIX, 128)
    assert sorted((e for row in packed.rows for e in row), key=id) == sorted(given, key=id)
    assert all(sum(len(e) - len(PREFIX) for e in row) <= 128 for row in packed.rows)
    assert sum(packed.tokens(row) for row in range(len(packed.rows))) == sum(map(len, given))


def test_rows_are_nearly_full():
    assert pack(examples(500), PREFIX, 128).fill > 0.95


def test_an_example_that_does_not_fit_is_left_out_and_counted():
    long = TokenizedExample([*PREFIX, *[1] * 200], [2])
    packed = pack([*examples(10), long, long], PREFIX, 128)
    assert packed.too_long == 2
    assert sum(map(len, packed.rows)) == 10


def test_the_shared_beginning_leaves_a_token_before_each_answer():
    shortest = TokenizedExample(PREFIX, [1])
    assert common_prefix(examples(20)) == PREFIX
    assert common_prefix([*examples(20), shortest]) == PREFIX[:-1]


@pytest.mark.parametrize("given", [[], [TokenizedExample([1, 2], [3]), TokenizedExample([2, 4], [3])]])
def test_examples_that_begin_differently_share_nothing(given):
    assert common_prefix(given) == []


def test_a_batch_scores_exactly_the_positions_before_the_answers_tokens():
    row = examples(3, longest=20)
    batch = collate([row, []], PREFIX, 128, pad=0)
    at = len(PREFIX)
    assert batch["input_ids"][:, :at].tolist() == [PREFIX, PREFIX]
    assert not batch["scored"][:, :at].any()
    for number, example in enumerate(row, 1):
        size = len(example) - len(PREFIX)
        answer = at + size - len(example.answer)
        assert batch["labels"][0, answer : at + size].tolist() == example.answer
        assert batch["scored"][0, at : at + size].nonzero().flatten().tolist() == list(
            range(size - len(example.answer) - 1, size - 1)
        )
        assert batch["position_ids"][0, at : at + size].tolist() == list(range(17, 17 + size))
        assert set(batch["document"][0, at : at + size].tolist()) == {number}
        at += size
    assert (batch["labels"] != NOT_LEARNED).sum() == batch["scored"].sum() == 3 * 4
    assert not batch["document"][0, at:].any()
    assert not batch["scored"][1].any()
