"""Anchors are signed: who can write where they are kept can neither change one nor make one that counts."""

import json
from datetime import timedelta

import pytest
from audit_logs import KEY, NOW, OTHER_KEY, OTHER_PUBLIC, PUBLIC, anchor_end, event, place, written

from nightshift.audit.signature import is_genuine, public_key_of, read_public_keys, signing_key
from nightshift.audit.verify import verify
from nightshift.errors import BadInput


def anchored(folder, keys):
    """A log in a folder, one anchor for each of the keys (None: unsigned), and what keeps these."""
    chain, anchors = written((folder / "storage").as_uri(), (2,)), place(folder / "anchors")
    for hour, key in enumerate(keys):
        moment = NOW + timedelta(hours=hour)
        chain.append("airflow", [event(20 + hour, at=moment)], moment)
        anchor_end(chain, anchors, moment, key)
    return chain, anchors


def verified(log, *keys):
    chain, anchors = log
    return verify(chain, anchors.every()[0], trusted=frozenset(keys))


def edit(folder, number, **fields):
    """Change the anchor of this number, from 0 on."""
    file = sorted((folder / "anchors").rglob("*.json"))[number]
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chain", "0" * 64), ("storage", "s3://other"), ("count", 5), ("head", "0" * 64), ("previous", 3),
        ("anchored", "2026-11-24T06:00:01Z"), ("public_key", OTHER_PUBLIC), ("public_key", ""), ("signature", "AAAA"),
        ("signature", ""), ("signature", "é"),
    ],
)  # fmt: skip
def test_whatever_is_changed_in_a_signed_anchor_its_signature_does_not_fit(tmp_path, field, value):
    _, anchors = anchored(tmp_path, [KEY])
    (anchor,) = anchors.every()[0]
    assert is_genuine(anchor)
    edit(tmp_path, 0, **{field: value})
    assert not any(map(is_genuine, anchors.every()[0]))


def test_an_anchor_whose_signature_is_wrong_is_wrong_also_without_a_trusted_key(tmp_path):
    log = anchored(tmp_path, [KEY, KEY])
    assert verified(log).problems == []
    edit(tmp_path, 1, anchored="2026-11-24T09:00:00Z")
    (problem,) = verified(log).problems
    assert problem.endswith("09:00:00 UTC, but that is not what was signed: the anchor was edited")


def test_unsigned_anchors_from_before_there_was_a_key_are_no_witnesses_and_not_wrong(tmp_path):
    log = anchored(tmp_path, [None, None])
    assert (verified(log).matched, verified(log, PUBLIC).matched, verified(log, PUBLIC).problems) == (2, 0, [])
    log = anchored(tmp_path / "later", [None, None, KEY])
    found = verified(log, PUBLIC)
    assert (found.problems, found.matched, found.anchored) == ([], 1, found.count)


@pytest.mark.parametrize(
    ("key", "told"), [(None, "not signed"), (OTHER_KEY, f"signed by the key {OTHER_PUBLIC}, which")]
)
def test_an_anchor_without_a_trusted_signature_after_one_that_has_it_is_wrong(tmp_path, key, told):
    log = anchored(tmp_path, [KEY, key])
    (problem,) = verified(log, PUBLIC).problems
    assert f"but that anchor is {told}" in problem
    assert problem.endswith("unlike the one of entry 6")
    assert verified(log).problems == []  # nobody said which key is right


def test_after_another_key_the_log_goes_on_and_is_verified_by_both_or_by_the_new_one(tmp_path):
    log = anchored(tmp_path, [KEY, KEY, OTHER_KEY])
    assert (verified(log, PUBLIC, OTHER_PUBLIC).problems, verified(log, PUBLIC, OTHER_PUBLIC).matched) == ([], 3)
    found = verified(log, OTHER_PUBLIC)
    assert (found.problems, found.matched, found.anchored) == ([], 1, found.count)
    assert verified(log, PUBLIC).problems  # who has the old one only has to be told


def test_public_keys_are_named_themselves_or_by_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{PUBLIC}\n{OTHER_PUBLIC}\n")
    assert read_public_keys(PUBLIC) == [PUBLIC]
    assert read_public_keys(str(file)) == [PUBLIC, OTHER_PUBLIC]
    file.write_text(f"{PUBLIC} {OTHER_PUBLIC[:-4]}")
    for wrong in (str(file), str(tmp_path / "none"), str(tmp_path), PUBLIC[:-4], "é"):
        with pytest.raises(BadInput, match="neither a public key nor a file of them"):
            read_public_keys(wrong)


def test_a_key_is_random_bytes_in_base64_and_never_repeated_in_an_error():
    assert public_key_of(signing_key(f"{'A' * 43}=\n")) == PUBLIC
    for wrong in ("", "secret-word", "A" * 43, "é"):
        with pytest.raises(BadInput) as caught:
            signing_key(wrong)
        assert "secret-word" not in str(caught.value)
