"""A team's own scorers through the jobs: a reference, nights that a serving system answered, verdicts and reports."""

import csv
import itertools
import json
from datetime import UTC, date, datetime, timedelta

import pytest
from answered_intervals import interactions_of
from sample_intervals import crown, messages, publish_reference
from upath import UPath

from nightshift.errors import BadInput
from nightshift.evaluation import own_scorers
from nightshift.jobs import drift, ingest, reference, score
from nightshift.settings.applications import read_application
from nightshift.settings.interval import Interval
from nightshift.settings.metrics import BUILT_IN
from nightshift.storage.manifest import require_manifest
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow

MODULE = """\
def politeness(rows):
    return [_of(row) for row in rows]


def _of(row):
    if row["metadata"].get("tier") == "broken":
        raise ValueError("no such tier")
    words = row["response"].lower().split()
    return sum(word in {"please", "sorry", "thanks"} for word in words) / max(len(words), 1)


def opening(rows):
    return [row["response"].split()[0].lower() if row["response"] else None for row in rows]
"""
APPLICATION = """\
base_model: {base_model}
start: 2026-11-01
sources: [{{uri: rows.csv, columns: {{prompt: text, answer: intent}}}}]
traffic:
  segments: [tier]
  sources:
    - uri: {drops}/{{start:%Y-%m-%d}}.csv
      columns: {{prompt: text, response: said, metadata: [tier]}}
scorers:
  politeness: {{function: "tone:politeness", group: quality, min: 0, max: 1, label: kind words}}
  opening: {{function: "tone:opening", kind: category, group: outputs}}
drift:
  metrics: {{{ignored}}}
"""
NUMBERS = itertools.count(1)  # of shops: the tests share a registry


class Shop:
    """An application whose drift is judged by its own two scorers alone, with a champion and its reference."""

    def __init__(self, project, drops, storage, progress):
        self.project, self.drops, self.storage, self.progress = project, drops, storage, progress
        self.file = project / f"apps/shop_{next(NUMBERS)}.yaml"

    @property
    def app(self):
        return read_application(self.file)

    def night(self, day, said=str, broken=0):
        """Let a night of the sample's messages be answered by `said` (of the intent); return the spec that scores it."""
        rows = [row for number, row in enumerate(messages(day)) if number % 8 in {3, 5, 7}]
        with (self.drops / f"{day}.csv").open("w", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "said", "tier"])
            for number, (text, intent) in enumerate(rows):
                writer.writerow([text, said(intent), "broken" if number < broken else "basic"])
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        interval = Interval(start=start, end=start + timedelta(days=1))
        common = {"application": self.app, "storage": self.storage}
        taken = ingest.run(ingest.Spec(**common, interval=interval, part="traffic"), self.progress)
        return score.Spec(**common, prompts=taken.examples, digest=taken.digest)

    def score(self, day, **how):
        return score.run(self.night(day, **how), self.progress)

    def judge(self, **asked):
        return drift.run(drift.Spec(application=self.app, storage=self.storage, **asked), self.progress).nights

    def rewrite(self, old, new):
        file = self.project / "tone.py"
        file.write_text(file.read_text().replace(old, new))


@pytest.fixture
def shop(tmp_path, storage, publish_day, wordless_model, progress, mlflow_store, monkeypatch):  # noqa: PLR0917
    project, drops = tmp_path / "project", tmp_path / "drops"
    (project / "apps").mkdir(parents=True)
    drops.mkdir()
    monkeypatch.setenv("NIGHTSHIFT_PROJECT", str(project))
    (project / "tone.py").write_text(MODULE)
    ignored = ", ".join(f"{metric}: 0" for metric in BUILT_IN)
    shop = Shop(project, drops, storage, progress)
    shop.file.write_text(APPLICATION.format(base_model=wordless_model, drops=drops, ignored=ignored))
    shop.reference = publish_reference(shop.app, storage, publish_day, progress)
    crown(shop.app.name, shop.reference.model_digest)
    reference.run(shop.reference, progress)
    return shop


def test_a_night_fails_where_own_scores_move_and_passes_where_they_do_not(shop, mlflow_store, tmp_path):
    scored = shop.score("2026-11-03")
    table = interactions_of(scored, tmp_path)
    assert set(table["politeness"].to_pylist()) == {0.0}
    assert set(table["opening"].to_pylist()) == {response.split()[0] for response in table["response"].to_pylist()}
    assert scored.means["politeness"] == 0.0
    (quiet,) = shop.judge()
    assert (quiet.verdict, quiet.failing) == (Verdict.PASS, [])
    assert "kind words" in " ".join(quiet.reasons) or "opening" in " ".join(quiet.reasons)

    shop.score("2026-11-04", said=lambda intent: f"please {intent}")
    (polite,) = shop.judge()
    assert (polite.verdict, set(polite.failing)) == (Verdict.FAIL, {"politeness", "opening"})
    # Inputs are ignored here, so nobody knows that they stayed.
    assert polite.kinds == ["output drift"]
    assert any("kind words, mean 0 → 0." in reason for reason in polite.reasons)
    assert any("opening, please 0 % → 100 %" in reason for reason in polite.reasons)
    report = UPath(polite.report)
    page, content = (
        (report / require_manifest(report).file(name).path).read_text(encoding="utf-8")
        for name in ("report.html", "report.json")
    )
    assert "<td>kind words</td>" in page
    assert "<td>opening</td>" in page
    assert "kind words" in json.dumps(json.loads(content)["evidently"])
    run = mlflow_store.get_run(polite.run_url.rpartition("/")[2])
    assert run.data.metrics["effect/politeness"] > 1


def test_rows_that_an_own_scorer_fails_on_are_kept_counted_and_a_warning(shop, tmp_path):
    scored = shop.score("2026-11-03", broken=30)
    table = interactions_of(scored, tmp_path)
    failed = [row["politeness"] for row in table["unscored"].to_pylist()]
    assert failed.count("failed") == table["politeness"].null_count == 30
    assert table["opening"].null_count == 0
    manifest = require_manifest(UPath(scored.interactions))
    assert manifest.facts["unscored"]["politeness"] == {"failed": 30}
    (night,) = shop.judge()
    assert (night.verdict, night.worst) == (Verdict.WARN, "politeness")
    assert night.reasons[0].startswith("Kind words: the scorer failed on")


def test_a_scorer_that_is_given_up_is_named_by_the_night_and_by_its_verdict(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(own_scorers, "FAILING_SECONDS", 0.0)
    scored = shop.score("2026-11-03", broken=1_000_000)
    assert "; the scorer politeness was given up after 3 failures that took" in scored.reason
    table = interactions_of(scored, tmp_path)
    assert {row["politeness"] for row in table["unscored"].to_pylist()} == {"failed"}
    assert set(require_manifest(UPath(scored.interactions)).facts["given_up"]) == {"politeness"}
    (night,) = shop.judge()
    assert night.verdict is Verdict.WARN
    assert night.reasons[0].startswith("Kind words: its scorer was given up after 3 failures")


def test_a_changed_module_makes_the_reference_anew_and_is_never_compared_with_the_old_one(shop, progress):
    before = reference.run(shop.reference, progress)
    asked_before = shop.night("2026-11-03")
    shop.rewrite("sorry", "pardon")
    with pytest.raises(BadInput, match="different versions of the project folder"):
        score.run(asked_before, progress)
    shop.score("2026-11-04", said=lambda intent: f"please {intent}")
    (night,) = shop.judge()
    assert (night.verdict, night.failing) == (Verdict.INSUFFICIENT_DATA, [])  # nothing else is judged here
    assert night.reasons[0].startswith(
        "Kind words and opening: the interval and the reference were scored by different versions"
    )

    anew = reference.run(shop.reference.model_copy(update={"application": shop.app}), progress)
    assert anew.digest != before.digest
    (again,) = shop.judge(night=date(2026, 11, 4))
    assert set(again.failing) == {"politeness", "opening"}
