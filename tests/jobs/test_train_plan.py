"""`nightshift train --plan` says what would be trained and whether it fits, and trains nothing."""

import pytest
from training_runs import APPLICATION
from upath import UPath

from nightshift.cli import main
from nightshift.errors import BadInput, ExitCode
from nightshift.jobs.train_plan import plan, spec_of
from nightshift.settings.training import TrainingSettings

pytestmark = pytest.mark.slow


@pytest.fixture
def open_spec(storage, snapshot, tiny_models):
    """The spec of a training whose settings leave open what can be."""
    from nightshift.jobs.train_contract import Spec

    partition, manifest = snapshot
    return Spec(
        application=APPLICATION, storage=storage, snapshot=str(partition), digest=manifest.digest,
        base_model=tiny_models.random, training=TrainingSettings(min_examples=1, precision="fp32"),
    )  # fmt: skip


def test_it_tells_sizes_steps_memory_and_the_reason_of_each_default(open_spec):
    told, code = plan(open_spec)
    text = "\n".join(told)
    assert code == ExitCode.OK
    assert told[-1] == "fits"
    for said in (
        "37,024 parameters, 37,024 of them trained",
        "engine                 short_rows (no GPU, and rows of 256 tokens)",
        "learning_rate          0.0002 (for all weights of 37,024 parameters)",
        "0.0% of them do not fit into a row",
        "rows                   8, each begins with the 28 tokens that all examples share",
        "steps                  8, for 1 passes over the rows",
    ):
        assert said in text
    assert all(
        f"\n{part} " in text for part in ("weights", "gradients", "optimizer", "activations", "runtime", "checkpoints")
    )
    assert not (UPath(open_spec.storage) / "app" / "models").exists()
    again, _ = plan(open_spec)
    assert [line for line in again if "of disk" not in line] == [line for line in told if "of disk" not in line]


def test_what_does_not_fit_ends_with_bad_input(open_spec, tmp_path, monkeypatch, capsys):
    from nightshift.jobs.train import ENVIRONMENT

    for name, value in ENVIRONMENT.items():  # else the command starts itself again with them
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NIGHTSHIFT_MEMORY_GB", "0.1")
    (tmp_path / "spec.json").write_text(open_spec.model_dump_json())
    assert main(["train", "--plan", "--spec", str(tmp_path / "spec.json")]) == ExitCode.BAD_INPUT
    assert "DOES NOT FIT: " in capsys.readouterr().out
    assert main(["train", "--plan"]) == ExitCode.BAD_INPUT
    assert main(["train", "--spec", str(tmp_path / "spec.json")]) == ExitCode.BAD_INPUT


def test_an_application_is_planned_on_its_newest_snapshot(open_spec, monkeypatch, tmp_path):
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "app.yaml").write_text(
        "sources:\n  - {uri: rows.jsonl, columns: {prompt: question, answer: reply}}\n"
    )
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_MEMORY_GB", "6")
    spec = spec_of("app", open_spec.storage)
    assert (spec.snapshot, spec.digest, spec.training) == (open_spec.snapshot, open_spec.digest, TrainingSettings())
    with pytest.raises(BadInput, match="app has no snapshot yet"):
        spec_of("app", (tmp_path / "nowhere").as_uri())
