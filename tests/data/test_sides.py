"""A question stays on its side: over intervals in any order and at once, after a kill, and when partitions are gone."""

import csv
import random
import shutil
from collections import Counter
from hashlib import sha256

import numpy as np
import pytest
from upath import UPath

from nightshift.data import sides
from nightshift.data.dedup import KEPT, NEAR_DUPLICATE
from nightshift.data.examples import side_of
from nightshift.data.questions import Questions
from nightshift.data.similarity import key_of, plain, question_of, shingles
from nightshift.data.split_map import BETWEEN, HELD_OUT, NAMES, TRAIN, UNKNOWN, SplitMap
from nightshift.errors import BadInput
from nightshift.settings.intake import Splits
from nightshift.settings.project import PACKAGE
from nightshift.storage.manifest import read_manifest

EVEN = Splits(train=0.5, held_out=0.5)


@pytest.fixture(scope="module")
def messages():
    texts = []
    for path in sorted((PACKAGE / "samples" / "banking77").glob("*.csv"))[:2]:
        with path.open() as file:
            texts += [plain(row["text"]) for row in csv.DictReader(file)]
    return list(dict.fromkeys(texts))


@pytest.fixture
def split_map(tmp_path):
    return SplitMap((tmp_path / "storage").as_uri(), "app")


@pytest.fixture
def settle(tmp_path_factory, split_map):
    """A function that puts an interval of texts into a map and returns the side of each text, or of each row with bonds."""

    def run(name, texts, split_map=split_map, splits=EVEN, bonds=()):
        work = tmp_path_factory.mktemp("settle")
        questions = Questions(work / "questions.parquet", splits)
        questions.add([sha256(text.encode()).hexdigest() for text in texts], texts, [""] * len(texts), bonds)
        questions.close()
        fates = np.full(len(texts), KEPT, dtype=np.uint8)
        decided = questions.settle(split_map, [name], fates, 2.0, work=work)
        assert NEAR_DUPLICATE not in fates
        if bonds:
            return decided.sides.tolist(), decided.largest_group
        return dict(zip(texts, decided.sides.tolist(), strict=True))

    return run


def test_a_question_has_the_key_that_maps_of_before_have_and_is_on_one_side_in_all_widths(settle):
    wide, narrow = plain("ＡＴＭの手数料は１１０円ですか\u200b"), plain("ATMの手数料は110円ですか")
    assert key_of(wide) == 0x7A5E5786F712534E
    assert settle("monday", [wide], splits=Splits(train=0.001, held_out=0.999)) == {wide: HELD_OUT}
    assert settle("tuesday", [narrow], splits=Splits(train=0.999, held_out=0.001)) == {narrow: HELD_OUT}


def held(split_map):
    """What a map says, in its order."""
    state = split_map.state()
    entries = [list(zip(e.keys.tolist(), e.sides.tolist(), e.groups.tolist(), strict=True)) for e in state.entries()]
    return [entry for part in entries for entry in part], state.made_by, len(state.shared)


def days_of(messages, days, chance, rows=150):
    """Days of repeating traffic: some questions come again and again, as they were and in variants."""
    weights = [1 / (rank + 1) for rank in range(len(messages))]
    for _ in range(days):
        texts = []
        for text in chance.choices(messages, weights, k=rows):
            first, _, rest = text.partition(" ")
            variants = (text, f"{text} please", f"hi, {text}", rest or first, text.rstrip("?."))
            texts.append(chance.choice(variants))
        yield list(dict.fromkeys(texts))


def worst_leak(sides):
    """The highest Jaccard similarity of character 5-grams of a held-out text with one that is trained on."""
    return worst_leak_of(*({text for text in sides if sides[text] == side} for side in (TRAIN, HELD_OUT)))


def worst_leak_of(trained, held_out):
    trained = [shingles(text) for text in trained]
    return max(
        (
            len(one & other) / len(one | other)
            for one in map(shingles, held_out)
            for other in trained
            if 0.75 * len(one) <= len(other) <= len(one) / 0.75
        ),
        default=0,
    )


def test_a_system_message_that_rows_share_is_no_part_of_what_they_ask():
    rules = {"role": "system", "content": "You work for a bank. " * 50}
    asked = [question_of([rules, {"role": "user", "content": text}]) for text in ("Where is my card?", "I want a loan")]
    assert asked == ["where is my card?", "i want a loan"]


def test_over_days_no_question_changes_sides_and_nothing_held_out_resembles_what_is_trained_on(settle, messages):
    sides = {}
    for number, texts in enumerate(days_of(messages[:600], 8, random.Random(4))):
        for text, side in settle(f"day {number}", texts).items():
            assert sides.setdefault(text, side) == side
    counts = Counter(NAMES[side] for side in sides.values())
    assert len(sides) > 400
    assert worst_leak(sides) < 0.8
    assert counts["held_out"] / len(sides) == pytest.approx(0.5, rel=0.15)
    assert counts["between"] / len(sides) < 0.05


def drawn(text, splits=EVEN):
    return side_of(sha256(text.encode()).hexdigest(), splits)


def test_a_question_joins_what_it_resembles_and_one_between_two_sides_is_on_none(settle):
    chance = random.Random(8)
    while True:
        words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(26)]
        middle, one, other = (
            " ".join(part) for part in (words[:20], words[20:23] + words[3:20], words[:17] + words[23:])
        )
        if (drawn(one), drawn(other), drawn(f"{one}!"), drawn(f"{other}!")) == (
            "train",
            "held_out",
            "held_out",
            "train",
        ):
            break
    assert settle("first", [one, other]) == {one: TRAIN, other: HELD_OUT}
    assert settle("variants", [f"{one}!", f"{other}!"]) == {f"{one}!": TRAIN, f"{other}!": HELD_OUT}
    assert settle("between", [middle]) == {middle: BETWEEN}
    assert settle("again", [middle, one]) == {middle: BETWEEN, one: TRAIN}


def test_intervals_that_are_settled_at_once_give_what_they_give_one_after_the_other(
    settle, messages, tmp_path, monkeypatch
):
    days = list(days_of(messages[:200], 3, random.Random(5), rows=80))
    alone = SplitMap((tmp_path / "alone").as_uri(), "app")
    expected = [settle(f"day {number}", texts, alone) for number, texts in enumerate(days)]

    # While the last interval is settled, two others are: each time, its place is taken when it comes to it.
    at_once = SplitMap((tmp_path / "at-once").as_uri(), "app")
    found, others, whole = {}, [0, 1], SplitMap.add

    def add(self, *arguments):
        if others and self is at_once:
            number = others.pop(0)
            found[number] = settle(f"day {number}", days[number], SplitMap((tmp_path / "at-once").as_uri(), "app"))
        return whole(self, *arguments)

    monkeypatch.setattr(SplitMap, "add", add)
    found[2] = settle("day 2", days[2], at_once)
    assert [found[number] for number in range(3)] == expected
    assert at_once.state().number == 3


def test_what_was_killed_before_its_partition_was_there_decides_the_same_again(settle, split_map, messages):
    days = list(days_of(messages[:200], 3, random.Random(6), rows=80))
    framed = [[f"answer the question of this customer: {text}" for text in texts] for texts in days]
    first = [settle(f"day {number}", texts) for number, texts in enumerate(framed)]
    again = [settle(f"day {number}", texts) for number, texts in enumerate(framed)]
    assert again == first
    assert split_map.state().number == 3


def test_merged_files_hold_what_the_segments_hold_and_are_made_by_whoever_comes(settle, split_map, messages, tmp_path):
    for number in range(10):
        settle(
            f"day {number}", [f"under this very long frame: {text}" for text in messages[number * 5 : number * 5 + 12]]
        )

    merged = UPath(tmp_path / "storage" / "app" / "similarity" / "merged")
    assert sorted(path.name for path in merged.iterdir()) == ["1-00000001"]
    assert len(split_map.state().parts) == 3
    with_them = held(split_map)
    manifest = read_manifest(merged / "1-00000001")
    for path in sorted(merged.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert len(split_map.state().parts) == 10
    assert held(split_map) == with_them
    split_map._merge(1, 1)
    assert read_manifest(merged / "1-00000001").digest == manifest.digest


def test_rows_that_resemble_none_are_settled_alike_one_by_one_and_at_once(settle, messages, tmp_path, monkeypatch):
    days = [[*messages[:60], "so: " + messages[3], *messages[40:90]], messages[:150:3]]
    maps = {}
    for few in (1, 1_000):
        monkeypatch.setattr(sides, "FEW", few)
        maps[few] = SplitMap((tmp_path / str(few)).as_uri(), "app")
        for number, texts in enumerate(days):
            settle(f"day {number}", texts, maps[few])
    assert held(maps[1]) == held(maps[1_000])


@pytest.mark.parametrize("file", ["sides.parquet", "shared.parquet", "manifest.json"])
def test_of_a_damaged_merged_file_the_segments_are_read(settle, split_map, messages, tmp_path, file):
    drawn = {}
    for number in range(9):
        texts = messages[number * 12 : number * 12 + 12]
        drawn |= settle(f"day {number}", [f"under this very long frame: {text}" for text in texts])
    (damaged,) = (tmp_path / "storage" / "app" / "similarity" / "merged").rglob(file)
    damaged.write_bytes(b"PAR1 no more PAR1")
    state = split_map.state()
    assert len(state.shared)
    keys = np.array([key_of(text) for text in drawn], dtype=np.uint64)
    assert state.sides(keys).tolist() == list(drawn.values())


def test_a_missing_segment_is_named_with_what_to_do(settle, split_map, messages, tmp_path):
    for number in range(3):
        settle(f"day {number}", messages[number * 12 : number * 12 + 12])
    shutil.rmtree(tmp_path / "storage" / "app" / "similarity" / "segments" / "00000002")
    with pytest.raises(BadInput, match=r"segments/00000002: .* is missing\. Restore it .* or delete the whole folder"):
        split_map.state()


def test_a_segment_of_another_version_is_not_compared(settle, split_map, messages, monkeypatch):
    settle("day 0", messages[:12])
    monkeypatch.setattr("nightshift.data.split_map.VERSION", 2)
    with pytest.raises(BadInput, match=r"segments/00000001: .* another version of Nightshift"):
        split_map.state()


def test_a_writer_that_was_killed_in_the_middle_leaves_a_number_that_the_next_one_takes(
    settle, split_map, messages, tmp_path
):
    settle("day 0", messages[:20])
    (tmp_path / "storage" / "app" / "similarity" / "segments" / "00000002" / "attempt").mkdir(parents=True)
    settle("day 1", messages[20:40])
    assert split_map.state().number == 2


def test_the_map_grows_by_different_questions_and_not_by_traffic(settle, split_map, messages):
    settle("day 0", messages[:300])
    (manifest,) = [manifest for _, manifest in split_map.state().parts]
    assert sum(manifest.counts.values()) == 300
    assert manifest.file("sides.parquet").bytes < 300 * 142 + 5_000
    settle("day 1", messages[:300])
    assert sum(split_map.state().parts[1][1].counts.values()) == 0
    known, unknown = split_map.state().sides(np.array([key_of(messages[0]), 1], dtype=np.uint64)).tolist()
    assert NAMES[known] == drawn(messages[0])
    assert unknown == UNKNOWN


def test_a_held_out_question_that_an_instruction_hid_steps_between_when_that_is_known_as_one(settle, messages):
    instruction = "you are a clerk who says in three words what the message of a customer is about: "
    trained = next(text for text in messages if (drawn(text), drawn(instruction + text)) == ("train", "held_out"))
    hidden = instruction + trained
    assert settle("plain", [trained]) == {trained: TRAIN}
    assert settle("one prompt under the instruction", [hidden]) == {hidden: HELD_OUT}
    many = [hidden, *(instruction + text for text in messages[300:330])]
    assert settle("many prompts under it", many)[hidden] == BETWEEN
    assert settle("again", [trained, hidden]) == {trained: TRAIN, hidden: BETWEEN}


def subjects_of(messages, chance, rows=150):
    """Rows of a day (text, subject, thread): some customers write often, some threads are of two customers."""
    (texts,) = days_of(messages, 1, chance, rows)
    for text in texts:
        customer = int(100 * chance.random() ** 2)
        yield text, f"customer {customer}", f"thread {customer // 2}" if chance.random() < 0.3 else None


def test_over_days_a_subject_and_a_thread_are_on_one_side_and_nothing_held_out_resembles_what_is_trained_on(
    settle, messages
):
    chance, rows = random.Random(12), []
    for number in range(8):
        day = list(subjects_of(messages[:600], chance))
        found, _ = settle(f"day {number}", [text for text, *_ in day], bonds=[bonds for _, *bonds in day])
        rows += [(*row, side) for row, side in zip(day, found, strict=True)]
    on = {side: [row for row in rows if row[3] == side] for side in (TRAIN, HELD_OUT, BETWEEN)}
    assert min(map(len, on.values())) > 50
    for column in (1, 2):
        held_out, trained = ({row[column] for row in on[side]} - {None} for side in (HELD_OUT, TRAIN))
        assert not held_out & trained
        assert min(len(held_out), len(trained)) > 10
    assert worst_leak_of({row[0] for row in on[TRAIN]}, {row[0] for row in on[HELD_OUT]}) < 0.8
    assert len(on[BETWEEN]) / len(rows) < 0.5


def test_what_a_subject_asks_later_joins_its_side_and_is_on_none_where_its_question_is_on_the_other(settle, messages):
    trained, *_ = (text for text in messages if drawn(text) == "train")
    held_out, other, third, fourth = [text for text in messages if drawn(text) == "held_out"][:4]
    first = settle("first", [trained, held_out], bonds=[("ann", None), ("ben", "thread")])
    assert first == ([TRAIN, HELD_OUT], 1)
    later = [(other, "ann", None), (trained, "ben", None), (third, None, "thread"), (fourth, "ann", "thread")]
    assert settle("later", [text for text, *_ in later], bonds=[bonds for _, *bonds in later])[0] == [
        TRAIN, BETWEEN, HELD_OUT, BETWEEN,
    ]  # fmt: skip
    assert settle("the questions stay", [trained, held_out]) == {trained: TRAIN, held_out: HELD_OUT}


def test_who_wrote_half_of_the_rows_is_the_largest_group(settle, messages):
    bonds = [("ann" if number % 2 else f"customer {number}", None) for number in range(60)]
    assert settle("day", messages[:60], bonds=bonds)[1] >= 30
