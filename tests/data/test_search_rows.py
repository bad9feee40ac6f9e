"""Which rows a search uses: the same for every trial, more in each rung, and others to compare the best one with today."""

import pytest

from nightshift.data.examples import EXAMPLE_SCHEMA, RowWriter, digest_of_messages
from nightshift.data.search_rows import drawn_rows, few_shot_rows, rows_of, unit_of


@pytest.fixture
def write(tmp_path):
    """A function that writes rows as a file of examples, and returns its path."""

    def write_rows(rows):
        path = tmp_path / "rows.parquet"
        with RowWriter(path, EXAMPLE_SCHEMA) as writer:
            writer.write([row(**one) for one in rows])
        return path

    return write_rows


def row(prompt, answer="a", subject=None, tools=None, before=(), *, metadata=()):
    turns = [*before, {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    digest = digest_of_messages(turns)
    nothing = dict.fromkeys(EXAMPLE_SCHEMA.names)
    return nothing | {
        "digest": digest, "messages": turns, "tools": tools, "prompt": prompt, "answer": answer, "source": "s",
        "source_row": 1, "subject": subject, "metadata": list(metadata), "language": "en", "prompt_characters": 1, "pii": [],
        "prompt_tokens": 1, "answer_tokens": 1, "group": digest[:16], "split": "development",
    }  # fmt: skip


def test_each_rung_adds_rows_and_no_subject_is_in_a_rung_and_in_the_last_comparison(write):
    file = write([{"prompt": f"question {n}", "subject": f"user {n % 40}"} for n in range(400)])
    rungs, final = drawn_rows(file, [10, 30, 90], 60)
    assert [len(rung) for rung in rungs] == [10, 20, 60]
    answered = [digest for rung in rungs for digest in rung]
    assert answered == sorted(set(answered)), "the first by digest, each once"
    subjects = [{unit_of(one) for one in rows_of(file, digests)} for digests in (answered, final)]
    assert len(final) == 60
    assert not subjects[0] & subjects[1]
    assert [one["digest"] for one in rows_of(file, final)] == final


def test_a_row_is_chosen_by_or_compared_on_whatever_rows_come(write):
    few = [{"prompt": f"question {n}"} for n in range(100)]
    before = drawn_rows(write(few), [10, 30, 90], 60)
    after = drawn_rows(write(few + [{"prompt": f"question {n}"} for n in range(100, 300)]), [10, 30, 90], 60)
    assert not {one for rung in before[0] for one in rung} & set(after[1])
    assert not {one for rung in after[0] for one in rung} & set(before[1])


def test_an_answer_that_people_chose_of_two_versions_is_no_reference_to_search_by(write):
    chosen = [("review:chosen", "pair")]
    rungs, final = drawn_rows(write([{"prompt": f"question {n}", "metadata": chosen} for n in range(40)]), [10, 30], 60)
    assert not any([*rungs, final])


def test_where_there_are_few_rows_later_rungs_add_fewer(write):
    rungs, final = drawn_rows(write([{"prompt": f"question {n}"} for n in range(40)]), [10, 30, 90], 60)
    assert len(rungs[0]) == 10
    assert sum(map(len, rungs)) + len(final) == 40


def test_examples_of_a_prompt_are_short_single_turns_and_the_first_by_digest(write):
    plain = [{"prompt": f"question {n}", "answer": f"answer {n}"} for n in range(20)]
    long = {"prompt": "long " * 300}
    turns = {"prompt": "and then?", "before": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    file = write([*plain, long, turns, {"prompt": "with a tool", "tools": "[]"}])
    four, eight = few_shot_rows(file, 4), few_shot_rows(file, 8)
    assert eight[:4] == four
    assert {one["prompt"] for one in eight} <= {one["prompt"] for one in plain}
    assert [one["digest"] for one in eight] == sorted(one["digest"] for one in few_shot_rows(file, 99))[:8]
    assert few_shot_rows(file, 0) == []


def test_the_digest_that_orders_rows_is_not_what_parts_them(write):
    """Else rungs would get the small digests, and what is compared on the large ones."""
    file = write([{"prompt": f"question {n}"} for n in range(400)])
    rungs, final = drawn_rows(file, [50, 100, 200], 200)
    assert min(final) < rungs[0][-1]
