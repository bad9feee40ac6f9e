"""What most prompts share is left out before they are compared; what a question says in many variants is not."""

import csv
from itertools import pairwise

import pytest

from nightshift.data.shared_text import Sample, SharedText, found_in
from nightshift.data.similarity import SIMILAR, key_of, plain, signatures
from nightshift.settings.intake import Columns, Ingest
from nightshift.settings.project import PACKAGE

LONG = (
    "you triage mail of a bicycle repair shop. say how soon somebody must look at it: today, week or later. message: "
)
FIVE_WORDS = "say what this customer wants: "
CHINESE = "请根据银行的规定礼貌地回答下面这位客户的问题:"


@pytest.fixture(scope="module")
def messages():
    with (PACKAGE / "samples" / "banking77" / "2026-11-02.csv").open() as file:
        texts = [plain(row["text"]) for row in csv.DictReader(file)]
    return list(dict.fromkeys(texts))


@pytest.mark.parametrize("frame", [LONG, FIVE_WORDS, CHINESE])
def test_of_framed_messages_the_messages_are_left(messages, frame):
    framed = [frame + text for text in messages]
    rest, taken = found_in(framed).left_out(framed)
    same = sum(one == text for one, text in zip(rest, messages, strict=True))
    assert same / len(messages) > 0.95
    assert len(set(taken)) < 50


def test_nothing_is_taken_of_messages_without_a_frame(messages):
    assert len(found_in(messages)) == 0


def test_each_of_several_instructions_is_left_out(messages):
    frames = [
        "name the intent of the message in two or three words and say nothing else. ",
        "answer as a friendly clerk would, in one sentence, without promising any money: ",
    ]
    framed = [frames[number % 2] + text if number % 5 == 0 else text for number, text in enumerate(messages)]
    rest, _ = found_in(framed).left_out(framed)
    assert sum(one == text for one, text in zip(rest, messages, strict=True)) / len(messages) > 0.95


def test_a_long_question_that_comes_in_many_variants_is_no_frame(messages):
    question = "why was i charged a fee when i paid with my card in another country last week"
    variants = [
        f"{question}{end}" for end in ("", "?", "??", "!", " please", " thanks", "?!", ".", "...", " asap", " hi", " x")
    ]
    texts = messages[:150] + variants
    rest, taken = found_in(texts).left_out(texts)
    assert rest[150:] == variants
    assert set(taken) == {b""}


def test_of_one_question_about_many_things_enough_is_left_to_see_that_two_are_nearly_equal():
    question = "what is the delivery status of my order "
    things = ("kettle", "lamp", "table", "chair", "sofa", "mirror", "carpet", "clock", "shelf", "desk", "bed", "stool")
    found = found_in([question + thing for thing in things])
    assert len(found)
    pairs = [(thing, thing + "s") for thing in ("heater", "fridge", "radio", "grill", "mixer", "spoon", "lamp")]

    def alike(one, other):
        values = signatures(found.left_out([question + one, question + other])[0])
        return (values[0] == values[1]).mean() >= SIMILAR

    assert all(alike(*pair) for pair in pairs)
    assert not any(alike(one, other) for one, other in pairwise(things))


def test_a_prompt_that_is_nothing_but_frame_keeps_its_text(messages):
    framed = [LONG + text for text in messages[:100]]
    rest, _ = found_in(framed).left_out([LONG.strip(), "a", LONG + "help"])
    assert rest == [LONG.strip(), "a", "help"]


def test_what_is_shared_only_grows_and_does_not_depend_on_the_order_of_rows(messages):
    framed = [FIVE_WORDS + text for text in messages]
    one, other = Sample(), Sample()
    for text in framed:
        one.add(key_of(text), text)
    for text in reversed(framed):
        other.add(key_of(text), text)
        other.add(key_of(text), text)
    assert one.texts == other.texts
    found = found_in(one.texts)
    both = found.plus(found_in([CHINESE + text for text in messages]))
    assert both.minus(found).plus(found).left_out(framed) == both.left_out(framed)
    assert len(SharedText().plus(found)) == len(found)


def twenty_messages_under_one_instruction():
    things = ("brake", "fork", "saddle", "bell", "wheel", "chain", "pump", "pedal", "gear", "lamp")
    for thing in things:
        yield f"The {thing} of my bike fell off on the way here", "today"
        yield f"How much is a new {thing}?", "later"


@pytest.mark.parametrize("frame", ["", LONG * 4])
def test_different_messages_under_one_instruction_are_all_kept_and_drawn_one_by_one(ingest, source_of, frame):
    lines = ["text,answer", *(f'"{frame}{text}",{answer}' for text, answer in twenty_messages_under_one_instruction())]
    source = source_of("rows.csv", "\n".join(lines), columns=Columns(prompt="text", answer="answer"))
    result = ingest(source, settings=Ingest())
    assert (result.counts["kept"], result.counts["near_duplicates"]) == (20, 0)
    assert result.ingested.largest_group <= 5
    assert set(result.ingested.splits) == {"train", "held_out"}


def test_questions_on_documents_are_all_kept_on_both_sides(ingest, source_of):
    towns = ["Alburg", "Benheim", "Cadorf", "Dornau", "Elstadt", "Farnow", "Gelden", "Hornsee"]
    asked = [
        "Does it open before noon?",
        "May I bring my dog?",
        "Can I pay by card?",
        "Is wrapping free?",
        "Is it far?",
    ]
    lines = ["text,answer"]
    for number, town in enumerate(towns * 5):
        document = (
            f"The branch in {town} {number} opens at {7 + number % 4} o'clock and has {number % 17} counters. Letters that are "
            f"posted before {10 + number % 9}:30 leave on the same day. Parcels need a label and a phone number, and are kept "
            f"for {number % 23 + 9} days. Customers may pay in euros or with a card. On holidays only the machines work. "
        )
        lines += [f'"{document * 2}Question: {question}",{"yes" if number % 2 else "no"}' for question in asked]
    source = source_of("rows.csv", "\n".join(lines), columns=Columns(prompt="text", answer="answer"))
    result = ingest(source)
    assert (result.counts["kept"], result.counts["near_duplicates"]) == (200, 0)
    assert set(result.ingested.splits) >= {"train", "held_out"}
    assert result.ingested.splits["held_out"] >= 10
