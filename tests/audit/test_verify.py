"""Whoever changes the log is found out: at every place of a small log, and the verdict says where."""

import json
import shutil
from datetime import timedelta

import pytest
from audit_logs import NOW, anchor_end, event, files_of, place, written

from nightshift.audit.chain import Chain
from nightshift.audit.entry import BEFORE_ALL, hash_of, line_of
from nightshift.audit.verify import verify

ENTRIES = 10  # began, and collections of 3, 1 and 2 events with a last entry each


@pytest.fixture
def log(tmp_path):
    """A log of three files, anchored after the first two and at its end."""
    storage = tmp_path / "storage"
    anchors = place(tmp_path / "anchors")
    anchor_end(written(storage.as_uri(), (3,)), anchors, NOW)
    chain = Chain(storage.as_uri())
    for hour, numbers in enumerate([(3,), (4, 5)], start=1):
        moment = NOW + timedelta(hours=hour)
        chain.append("airflow", [event(number, at=moment) for number in numbers], moment)
        anchor_end(chain, anchors, moment)
    return storage, anchors


def problems(log):
    storage, anchors = log
    kept, wrong = anchors.every()
    return [*verify(Chain(storage.as_uri()), kept).problems, *wrong]


def lines(storage):
    return [(file, at) for file in files_of(storage) for at in range(len(file.read_text().splitlines()))]


def change(file, changed):
    """Replace the lines of a file by what `changed` makes of them."""
    content = changed(file.read_text().splitlines(keepends=True))
    file.write_text("".join(content))


def rewritten(entries):
    """Entries with all numbers and hashes made to fit, as one who knows the format would leave them."""
    head, lines = BEFORE_ALL, []
    for number, entry in enumerate(entries, start=1):
        changed = {**entry, "number": number, "previous": head}
        changed["hash"] = head = hash_of(changed)
        lines.append(line_of(changed))
    return lines


def test_a_log_that_nobody_touched_agrees_with_its_anchors(log):
    storage, anchors = log
    found = verify(Chain(storage.as_uri()), anchors.every()[0])
    assert found.problems == []
    assert (found.count, found.files, found.matched, found.anchored) == (ENTRIES, 3, 3, ENTRIES)


def test_a_byte_that_is_changed_anywhere_is_found_where_it_is(log):
    storage, _ = log
    number = 0
    for file in files_of(storage):
        whole = file.read_bytes()
        starts = [0, *(at + 1 for at, byte in enumerate(whole) if byte == ord("\n"))][:-1]
        for line, start in enumerate(starts):
            number += 1
            end = whole.index(b"\n", start)
            # Bytes all over an entry, and its end.
            for at in [*range(start, end, 29), end]:
                file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
                told = problems(log)
                assert any(f"was edited: {file} line {line + 1} " in text for text in told), told
        file.write_bytes(whole)
    assert number == ENTRIES
    assert problems(log) == []


def test_every_entry_that_is_edited_together_with_its_hash_is_found(log):
    storage, _ = log
    for number, (file, at) in enumerate(lines(storage), start=1):
        whole = file.read_text()

        def forged(content, at=at):
            entry = {**json.loads(content[at]), "who": "mallory"}
            content[at] = line_of({**entry, "hash": hash_of(entry)})
            return content

        change(file, forged)
        told = " ".join(problems(log))
        if number < ENTRIES:
            assert f"entry {number} or {number + 1} was replaced" in told
        if number == 1:
            assert "its beginning was rewritten" in told
        if number == ENTRIES:
            assert f"the log was rewritten: entry {ENTRIES} was anchored" in told
        file.write_text(whole)


def test_every_entry_that_is_deleted_is_named(log):
    storage, _ = log
    for number, (file, at) in enumerate(lines(storage), start=1):
        whole = file.read_text()
        last = at == len(whole.splitlines()) - 1
        change(file, lambda content, at=at: content[:at] + content[at + 1 :])
        told = " ".join(problems(log))
        assert (f"entries are missing after entry {number - 1}" if last else f"entry {number} is missing") in told
        assert str(file) in told
        file.write_text(whole)


def test_every_pair_of_entries_that_changed_places_is_found(log):
    storage, _ = log
    number = 0
    for file in files_of(storage):
        whole = file.read_text()
        size = len(whole.splitlines())
        for first in range(size):
            for second in range(first + 1, size):

                def swapped(content, first=first, second=second):
                    content[first], content[second] = content[second], content[first]
                    return content

                change(file, swapped)
                told = " ".join(problems(log))
                assert f"out of order: {file} line {first + 1} holds entry {number + second + 1}" in told
                file.write_text(whole)
        number += size


def test_entries_that_changed_places_between_files_are_found(log):
    storage, _ = log
    first, second, _ = files_of(storage)
    one, other = first.read_text().splitlines(True), second.read_text().splitlines(True)
    first.write_text("".join([*one[:2], other[0], *one[3:]]))
    second.write_text("".join([one[2], *other[1:]]))
    told = " ".join(problems(log))
    assert f"entry 3 is in a wrong place, or there twice: {second} line 1" in told
    assert f"{first} line 3 holds entry 6" in told


def test_every_file_that_is_deleted_is_named_by_its_entries(log):
    storage, _ = log
    spans = {0: "entries 1 to 5 are missing", 1: "entries 6 to 7 are missing", 2: "entries 8 to 10 are missing"}
    for file, span in zip(files_of(storage), spans.values(), strict=True):
        whole = file.read_text()
        file.unlink()
        assert span in " ".join(problems(log))
        file.write_text(whole)


def test_files_that_changed_names_are_found(log):
    storage, _ = log
    first, second, _ = files_of(storage)
    one, other = first.read_text(), second.read_text()
    first.write_text(other)
    second.write_text(one)
    told = " ".join(problems(log))
    assert "entries 1 to 5 are missing" in told
    assert "entry 1 is in a wrong place" in told


@pytest.mark.parametrize("kept", range(1, ENTRIES))
def test_a_log_that_was_cut_off_anywhere_and_made_to_fit_is_shorter_than_its_anchor(log, kept):
    storage, _ = log
    chain = Chain(storage.as_uri())
    entries = list(chain.entries())[:kept]
    file, *others = files_of(storage)
    for other in others:
        other.unlink()
    file.write_text("".join(rewritten(entries)))
    told = " ".join(problems(log))
    assert f"the log ends with entry {kept}, but entry {ENTRIES} was anchored" in told
    missing = f"entries {kept + 1} to {ENTRIES} are missing" if kept < ENTRIES - 1 else f"entry {ENTRIES} is missing"
    assert missing in told


@pytest.mark.parametrize("at", range(2, ENTRIES + 1))
def test_a_log_that_was_rewritten_from_any_entry_on_is_not_what_was_anchored(log, at):
    storage, _ = log
    entries = list(Chain(storage.as_uri()).entries())
    entries[at - 1]["who"] = "mallory"
    fitting = rewritten(entries)
    for file, (first, last) in zip(files_of(storage), [(0, 5), (5, 7), (7, 10)], strict=True):
        file.write_text("".join(fitting[first:last]))
    told = " ".join(problems(log))
    after, until = next((after, until) for after, until in [(1, 5), (6, 7), (8, 10)] if at <= until)
    assert f"something from entry {after} to entry {until} is not what it was" in told
    assert "edited" not in told


def test_a_log_that_was_replaced_by_another_or_removed_is_missed(log):
    storage, _ = log
    shutil.rmtree(storage / "audit")
    assert "It was removed, or its beginning was rewritten" in " ".join(problems(log))
    written(storage.as_uri(), (30,))
    assert "another log lay in" in " ".join(problems(log))


def test_an_anchor_that_was_removed_or_edited_is_missed(log, tmp_path):
    _, two, _ = sorted((tmp_path / "anchors").rglob("*.json"))
    content = two.read_text()
    two.unlink()
    assert any(text.startswith("the anchor of entry 7") for text in problems(log))
    for wrong in ("{", content.replace("Z", ""), "[" * 10_000):
        two.write_text(wrong)
        assert any(f"{two} was edited" in text for text in problems(log))
    two.write_text(content.replace(json.loads(content)["head"], "0" * 64))
    assert any("the log was rewritten: entry 7 was anchored" in text for text in problems(log))
    two.write_text(content)
    assert problems(log) == []


@pytest.mark.parametrize("depth", range(940, 1_000, 3))
def test_a_line_that_is_nested_as_deep_as_python_can_go_is_a_problem_and_no_crash(log, depth):
    storage, _ = log
    file = files_of(storage)[0]
    change(
        file,
        lambda content: [content[0], content[1].replace('"details":', f'"details":{"[" * depth}{"]" * depth},"d":')],
    )
    assert any(f"entry 2 was edited: {file} line 2" in text for text in problems(log))


def test_a_log_can_be_verified_in_a_copy(log, tmp_path):
    storage, anchors = log
    shutil.copytree(storage, tmp_path / "copy")
    found = verify(Chain((tmp_path / "copy").as_uri()), anchors.every()[0])
    assert (found.problems, found.matched) == ([], 3)
