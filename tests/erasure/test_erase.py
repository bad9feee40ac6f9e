"""`nightshift erase`: a person's rows are gone from every place, everything else is as it was, and nothing brings them back."""

import shutil

import pytest
from stored_rows import HASHED, MARK, SUBJECT
from upath import UPath

from nightshift.audit.ledger_events import events_of_ledger
from nightshift.cli import main
from nightshift.erasure import applying
from nightshift.erasure.command import Request, erased, found
from nightshift.errors import BadEnvironment, BadInput
from nightshift.inference.prompts import Prompts
from nightshift.registry.versions import DIGEST_TAG, MODEL_TAG
from nightshift.storage import erasures
from nightshift.storage.files import scratch
from nightshift.storage.manifest import read_manifest, require_manifest
from nightshift.storage.partition import fetch, publish

ANN = Request(subject=SUBJECT)
WHY = {"reason": "ticket 4711", "by": "dpo"}
# What is made again where it is needed, and so is deleted with all that it holds.
MADE_AGAIN = (
    "responses/", "tokens/", "checkpoints/", "answers/", "staged/", "gathered/", "scores/", "shadow_prompts/", "shadow_answers/",
    "probes/p1", "judgements/", "embeddings/", "searches/", "search_results/", "versions/",
)  # fmt: skip


def partitions(stored):
    """The partitions of the application that are there, by path."""
    paths = [name.removesuffix("/manifest.json") for name in stored.files() if name.endswith("/manifest.json")]
    return {path.removeprefix("bank/"): stored.manifest(path.removeprefix("bank/")) for path in paths}


def test_nothing_of_a_person_is_left_anywhere_and_every_other_file_is_the_same_to_the_byte(stored):
    before, held = stored.files(), set(stored.holding(MARK, HASHED))
    kinds = {name.split("/")[1] for name in held if name.startswith("bank/")}
    assert len(kinds) == 28, sorted(kinds)
    assert sorted(stored.artifacts_holding(MARK)) == [
        "answers.parquet", "report.html", "report.html", "report.json", "scores.json",
    ]  # fmt: skip
    erased(stored.storage, "bank", ANN, **WHY)
    assert stored.holding(MARK, SUBJECT, HASHED) == stored.artifacts_holding(MARK) == []
    after = stored.files()
    touched = {name.removeprefix("bank/") for name in before if after.get(name) != before[name]} - held
    touched = {name for name in touched if f"bank/{name}" not in held and not name.startswith(MADE_AGAIN)}
    rewritten = {"/".join(name.split("/")[1:-2]) for name in held}
    assert touched <= {f"{path}/manifest.json" for path in rewritten} | {
        "arrivals/newest",
        "arms/arrivals/newest",
        "replays/arrivals/newest",
    }


def test_the_numbers_add_up_and_what_was_made_from_a_partition_still_fits_it(stored):
    before = partitions(stored)
    lines = erased(stored.storage, "bank", ANN, **WHY)
    assert lines[0] == "bank: 7 rows of examples and traffic"
    after = partitions(stored)
    for path, manifest in after.items():
        assert manifest.digest == before[path].digest
        for file in manifest.files:
            fetch(stored.home / path, manifest, file.name, stored.folder)  # checks its digest
    for day in ("examples/2026-11-02", "examples/2026-11-03"):
        counts = after[day].counts
        assert counts["erased"] == 3
        assert counts["rows_in"] == sum(count for name, count in counts.items() if name != "rows_in") == 23
        assert sum(after[day].facts["splits"].values()) == counts["kept"] == after[day].file("examples.parquet").rows
        assert sum(after[day].facts["quarantine"].values()) == counts["quarantined"] == 0
    (snapshot,) = [path for path in after if path.startswith("snapshots/")]
    counts = after[snapshot].counts
    assert counts["rows"] == sum(count for name, count in counts.items() if name != "rows")
    assert {
        after[path].counts["rows"]
        for path in ("interactions/2026-11-03", "arms/0001/2026-11-03", "replays/m1/2026-11-03")
    } == {10}
    assert after["interactions/2026-11-03"].counts == {"rows": 10, "stop": 10, "erased": 1}
    asked = [row["prompt"] for row in stored.rows("traffic/2026-11-03", "examples.parquet")]
    for path, name in (("interactions/2026-11-03", "interactions.parquet"), ("profiles/2026-11-03/p", "novel.parquet")):
        assert [asked[row["row"]] for row in stored.rows(path, name)] == asked


def test_pages_that_show_a_row_say_so_and_numbers_and_other_pages_stay(stored):
    harmless = stored.manifest("drift/2026-11-03/e")
    erased(stored.storage, "bank", ANN, **WHY)
    pages = ("drift/2026-11-03/d", "evaluations/e1", "shadows/s1", "bias/2026-11-03/b")
    for path in pages:
        page = stored.home / path / stored.manifest(path).file("report.html").path
        assert "erased (erasure 1)" in page.read_text()
    report = (stored.home / pages[0] / stored.manifest(pages[0]).file("report.json").path).read_text()
    assert '"rows": 11' in report
    assert stored.manifest("drift/2026-11-03/e") == harmless
    scores = (stored.home / pages[1] / stored.manifest(pages[1]).file("scores.json").path).read_text()
    assert '"examples": 3' in scores


def test_jobs_go_on_with_what_is_left(stored):
    first = stored.snapshot()
    erased(stored.storage, "bank", ANN, **WHY)
    # Of another address: a training on it is another training, and its model has not seen the rows.
    again = stored.snapshot()
    assert again.snapshot != first.snapshot
    assert again.train_examples + again.held_out_examples == first.train_examples + first.held_out_examples - 4
    assert stored.snapshot() == again
    assert stored.holding(MARK) == []
    assert stored.ingest("2026-11-03").rows_in == 23  # found, not made again
    night = UPath(stored.home / "traffic/2026-11-03")
    prompts = Prompts(night, require_manifest(night), scratch(UPath(stored.storage)))
    assert prompts.rows == 10


def test_an_ingest_leaves_out_who_was_erased_and_counts_it(stored):
    erased(stored.storage, "bank", ANN, **WHY)
    for part in ("examples", "traffic"):
        shutil.rmtree((stored.home / part / "2026-11-03").path)
        result = stored.ingest("2026-11-03", part)
        assert result.erased == (3 if part == "examples" else 1)
        counted = (result.kept, result.duplicates, result.near_duplicates, result.quarantined, result.erased)
        assert result.rows_in == sum(counted)
    assert "3 erased" in stored.ingest("2026-11-03").reason
    assert stored.holding(MARK, SUBJECT) == []


@pytest.mark.parametrize("after", [0, 7, 24, 40])
def test_a_command_that_is_killed_goes_on_where_it_was(stored, monkeypatch, after):
    steps = iter(range(after))

    def dying(step):
        def call(*arguments, **options):
            if next(steps, None) is None:
                raise KeyboardInterrupt
            return step(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("upload", "rewrite", "sweep", "drop", "replace", "_filter"):
            patch.setattr(applying, name, dying(getattr(applying, name)))
        with pytest.raises(KeyboardInterrupt):
            erased(stored.storage, "bank", ANN, **WHY)
    with pytest.raises(BadEnvironment, match="rows are being erased"):
        erasures.begin(stored.home)
    with pytest.raises(BadInput, match=r"erasure 1 of .* by dpo \(ticket 4711\) has not ended"):
        erased(stored.storage, "bank", Request(row_id="r3"), **WHY)
    lines = erased(stored.storage, "bank", ANN, **WHY)
    assert lines[0] == "bank: 7 rows of examples and traffic"
    assert stored.holding(MARK, SUBJECT) == []
    assert {path: manifest.counts.get("erased") for path, manifest in partitions(stored).items() if manifest.erasure} == {
        "examples/2026-11-02": 3, "examples/2026-11-03": 3, "traffic/2026-11-03": 1, "interactions/2026-11-03": 1,
        "arms/0001/2026-11-03": 1, "replays/m1/2026-11-03": 1, "profiles/2026-11-03/p": 2, "profiles/2026-11-03/q": 2,
        "drift/2026-11-03/d": None, "bias/2026-11-03/b": None,
        "evaluations/e1": 4, "references/m2": 4, "shadows/s1": 1, "watches/000001/1": 1,
        **{path: 4 for path in partitions(stored) if path.startswith("snapshots/")},
    }  # fmt: skip
    erasures.begin(stored.home)


def test_the_second_time_nothing_is_found_and_nothing_changes_but_the_ledger(stored):
    erased(stored.storage, "bank", ANN, **WHY)
    once = stored.files()
    assert erased(stored.storage, "bank", ANN, **WHY) == ["bank: 0 rows of examples and traffic"]
    assert {name for name, content in stored.files().items() if once.get(name) != content} == {
        "bank/ledger/erasures/000002.json", "bank/ledger/erased/000002.json",
    }  # fmt: skip


def test_a_dry_run_says_what_would_be_done_and_which_versions_learned_it_and_writes_nothing(stored, capsys):
    before = stored.files()
    assert main(["erase", "--subject", SUBJECT, "--application", "bank", "--storage", stored.storage, "--dry-run"]) == 0
    assert stored.files() == before
    said = capsys.readouterr().out
    assert "bank: 7 rows of examples and traffic" in said
    assert "examples: 2 rewritten" in said
    assert "responses: 2 deleted" in said
    assert "version 1 (champion)" in said
    assert said.splitlines() == erased(stored.storage, "bank", ANN, **WHY)


def test_a_registered_version_whose_prompt_shows_a_row_is_named_and_stays(stored):
    example = next(
        row["prompt"] for row in stored.rows("examples/2026-11-02", "examples.parquet") if MARK in row["prompt"]
    )
    weights = stored.plant("models/m0", "model", {"weights.txt": "0.2"})
    stored.plant("versions/released", "version", {"parts.json": f'{{"system": "as {example}"}}'}, parents=[weights])
    uri, digest = str(stored.home / "versions/released"), stored.manifest("versions/released").digest
    stored.mlflow.create_model_version("bank", "file:///nowhere", tags={MODEL_TAG: uri, DIGEST_TAG: digest})
    lines = erased(stored.storage, "bank", ANN, **WHY)
    assert "version 1 (champion), 2." in lines[-1]
    assert "  versions: 1 deleted" in lines
    assert {name.split("/")[2] for name in stored.holding(MARK)} == {"released"}


def test_one_row_is_erased_by_its_id_and_every_row_of_a_text_by_its_digest(stored):
    row = stored.rows("examples/2026-11-02", "examples.parquet")[3]
    other = stored.rows("examples/2026-11-03", "examples.parquet")[5]
    assert erased(stored.storage, "bank", Request(row_id=row["id"]), **WHY)[0].startswith("bank: 1 rows")
    assert erased(stored.storage, "bank", Request(digest=other["digest"]), **WHY)[0].startswith("bank: 1 rows")
    assert stored.holding(row["prompt"], other["prompt"]) == []
    assert stored.holding(MARK)
    shutil.rmtree((stored.home / "examples" / "2026-11-03").path)
    assert stored.ingest("2026-11-03").erased == 1


def test_a_night_that_answered_the_traffic_of_examples_loses_the_answer_of_the_row(stored):
    def asked():
        rows = stored.rows("examples/2026-11-02", "examples.parquet")
        return [row for row in rows if row["split"] == "traffic"]

    row = asked()[1]
    erased(stored.storage, "bank", Request(row_id=row["id"]), **WHY)
    answered = stored.rows("interactions/2026-11-02", "interactions.parquet")
    assert len(answered) > 1
    assert (
        [asked()[one["row"]]["id"] for one in answered]
        == [one["id"] for one in answered]
        == [one["id"] for one in asked()]
    )
    assert stored.holding(row["prompt"]) == []


def test_the_audit_log_has_who_and_why_and_not_whom(stored):
    with pytest.raises(BadInput, match="must not name"):
        erased(stored.storage, "bank", ANN, reason=f"request of {SUBJECT.upper()}", by="dpo")
    erased(stored.storage, "bank", ANN, **WHY)
    events = [event for event in events_of_ledger(stored.storage, "bank", None) if event.who == "dpo"]
    assert sorted(event.did for event in events) == ["began to erase rows", "erased rows"]
    assert any(event.details.get("reason") == "ticket 4711" for event in events)
    assert any(event.details.get("versions") == ["1 (champion)"] for event in events)


def test_a_job_that_began_before_publishes_nothing_that_it_read_then(stored, tmp_path):
    erasures.begin(stored.home)
    erased(stored.storage, "bank", ANN, **WHY)
    folder = tmp_path / "late"
    folder.mkdir()
    (folder / "rows.txt").write_text(MARK)
    partition = stored.home / "answers" / "late"
    with pytest.raises(BadEnvironment, match="rows were erased while this was made"):
        publish(partition, folder, kind="answers", application="bank", inputs={"late": 1})
    assert read_manifest(partition) is None
    assert stored.holding(MARK) == []


def test_a_reader_of_a_partition_that_is_rewritten_meanwhile_tries_again(stored, tmp_path):
    day = stored.home / "examples" / "2026-11-02"
    manifest = require_manifest(day)
    erased(stored.storage, "bank", ANN, **WHY)
    with pytest.raises(BadEnvironment, match="was written again"):
        fetch(day, manifest, "examples.parquet", tmp_path)


def test_a_damaged_partition_is_named_because_nobody_can_tell_whether_it_holds_a_row(stored):
    manifest = stored.manifest("examples/2026-11-02")
    (stored.home / "examples/2026-11-02" / manifest.file("examples.parquet").path).unlink()
    with pytest.raises(BadInput, match="examples/2026-11-02"):
        found(stored.storage, "bank", ANN)


def test_subjects_need_the_key_they_were_stored_with(stored, monkeypatch):
    monkeypatch.delenv("NIGHTSHIFT_ID_KEY")
    with pytest.raises(BadInput, match="nightshift_id_key"):
        found(stored.storage, "bank", ANN)


def test_it_is_the_same_on_an_object_store(stored, bucket):
    storage = UPath(f"{bucket}/erasing/{stored.folder.name}")
    for kind in ("examples", "traffic", "interactions", "responses"):
        storage.fs.put(str(stored.folder / "storage/bank" / kind), f"{storage.path}/bank/{kind}", recursive=True)
    lines = erased(str(storage), "bank", ANN, **WHY)
    assert lines[0] == "bank: 7 rows of examples and traffic"
    shutil.rmtree(stored.folder / "storage")
    storage.fs.invalidate_cache()
    storage.fs.get(f"{storage.path}/", str(stored.folder / "storage") + "/", recursive=True)
    assert len(stored.files()) > 10
    assert stored.holding(MARK, SUBJECT) == []
