"""Tokens in files: what is read back is what was written, and what all examples begin with is known."""

import numpy as np
import pytest
from examples_in_memory import example as one

from nightshift.training.token_files import LEARNED, LENGTHS, Examples, as_tokens, common_prefix, write_part


def example(given, said):
    return as_tokens(one(given, said))


GIVEN = [example(range(5, 9 + number), [1] * (number + 1)) for number in range(7)]


def test_examples_of_several_parts_are_read_back_in_order(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two", tmp_path / "three"]
    for folder, some in zip(folders, (GIVEN[:3], GIVEN[3:4], GIVEN[4:]), strict=True):
        folder.mkdir()
        assert write_part(folder, iter(some)).tolist() == common_prefix(some).tolist() != []
    read = Examples(folders)
    assert len(read) == 7
    assert read.lengths.tolist() == list(map(len, GIVEN))
    assert read.answers.tolist() == [1, 2, 3, 4, 5, 6, 7]
    for number, tokens in enumerate(GIVEN):
        assert np.array_equal(read[number], tokens)
    assert (read[2] & ~LEARNED).tolist() == [5, 6, 7, 8, 9, 10, 1, 1, 1]
    assert (read[2] >= LEARNED).tolist() == [False] * 6 + [True] * 3


def test_tokens_cannot_smuggle_in_a_pickle(tmp_path):
    write_part(tmp_path, iter(GIVEN))
    np.save(tmp_path / LENGTHS, np.array([print], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        Examples([tmp_path])


@pytest.mark.parametrize(
    ("examples", "shared"),
    [
        ([], []),
        ([example([1, 2], [3]), example([2, 4], [3])], []),
        ([example([1, 2, 3, 4], [5]), example([1, 2, 3, 6], [5])], [1, 2, 3]),
        ([example([1, 2, 3], [4]), example([1, 2, 3, 4, 5], [6])], [1, 2]),  # a token before each answer is left
        ([example([1, 2, 3, 4], [5])], [1, 2, 3]),
        ([example([1], [5]), example([1, 2], [5])], []),
        ([example([1, 2, 3, 4], [5]), example([1, 2], [5]), example([1, 2, 3, 4], [5])], [1]),
    ],
)
def test_the_common_prefix_leaves_a_token_before_each_answer_however_examples_are_spread(examples, shared):
    assert common_prefix(examples).tolist() == shared
    assert common_prefix(examples[::-1]).tolist() == shared
    assert common_prefix(common_prefix([each]) for each in examples).tolist() == shared
