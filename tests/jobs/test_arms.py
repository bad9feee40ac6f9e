"""Both versions of a split answer their rows of a night, each row once, and are compared by what they answered."""

from datetime import UTC, datetime

import pytest
from answered_intervals import interactions_of, score_spec
from mlflow import MlflowClient
from upath import UPath

from nightshift.jobs import arms, generate
from nightshift.jobs import score as scoring
from nightshift.ledger.records import Split
from nightshift.ledger.store import Ledger
from nightshift.settings.split import Split as Settings
from nightshift.storage.manifest import require_manifest


@pytest.mark.slow
def test_each_row_is_answered_by_one_of_both_versions_and_compared(night, champion, progress, tmp_path, tiny_models):
    old, new = champion(), champion(seed=2, folder=tiny_models.random)
    app = night["application"]
    split = Split(
        number=1, decision="d", after=1, settings=Settings(unit="row", shares=[0.4], min_units=20), key="key",
        version=new.version, model_digest=new.digest, champion=old.version, champion_digest=old.digest,
        started=datetime.now(UTC),
    )  # fmt: skip
    Ledger(night["storage"], app.name).create(split)
    rows = {}
    for version in (old, new):
        arm = split.arm(0.4, challenger=version is new)
        generated = generate.run(generate.Spec(**night, model=version.version, arm=arm), progress)
        scored = scoring.run(score_spec(night, generated, arm=arm), progress)
        rows[version.version] = interactions_of(scored, tmp_path / version.version)
        place = UPath(scored.interactions)
        assert place.parent.name == ("0001" if version is new else "interactions")
    asked, answered = (set(table["digest"].to_pylist()) for table in rows.values())
    assert not asked & answered
    assert sum(table.num_rows for table in rows.values()) == 25

    spec = arms.Spec(application=app, storage=night["storage"])
    compared = arms.run(spec, progress)
    again = arms.run(spec, progress)
    assert compared.evidence == again.evidence
    facts = require_manifest(UPath(compared.evidence)).facts
    assert facts["intervals"] == ["2026-11-02"]
    assert facts["arms"]["units"] == {"champion": len(asked), "challenger": len(answered)}
    means = facts["arms"]["means"]["exact_match"]
    assert means["champion"] > means["challenger"]

    client = MlflowClient()
    experiment = client.get_experiment_by_name(app.name).experiment_id
    runs = client.search_runs([experiment], "tags.`nightshift.job` = 'arms'")
    lines = {run.data.tags["nightshift.arm"]: client.get_metric_history(run.info.run_id, "exact_match") for run in runs}
    assert {arm: [(one.step, one.value) for one in line] for arm, line in lines.items()} == {
        arm: [(1, pytest.approx(mean))] for arm, mean in means.items()
    }
