"""The job `shadow`: a candidate answers logged prompts, and passes only where it is shown to be no worse than the champion."""

import signal

import pyarrow.parquet as pq
import pytest
from answered_intervals import HOSTILE, score_spec, start
from upath import UPath

from nightshift.evaluation.shadow_file import PAIRS, read_shadow, shadow_partition
from nightshift.jobs import generate, score, shadow
from nightshift.registry.models import version_of
from nightshift.settings.feedback import Feedback
from nightshift.settings.shadow import Shadow
from nightshift.storage.manifest import require_manifest
from nightshift.storage.partition import fetch
from nightshift.verdict import Verdict

pytestmark = pytest.mark.slow

ASKED = [f"where is card number {n * 7919} of mine" for n in range(40)]
TRAINED_ON = "my new card has not arrived yet, when does it come?"


class Contest:
    """A champion that answered a night, and candidates that answer in its shadow."""

    def __init__(self, application, storage, progress, champion, models):
        self.application = application.model_copy(update={"shadow": Shadow(min_prompts=10, margin=0.3, looks=2)})
        self.storage, self.progress, self._register, self._models = storage, progress, champion, models
        self.champion = champion(seed=1)

    def answered(self, publish_day, day, rows):
        prompts, manifest = publish_day(day, rows, application=self.application.name)
        night = {**self.common, "prompts": str(prompts), "digest": manifest.digest}
        said = generate.run(generate.Spec(**night, model=self.champion.version), self.progress)
        return score.run(score_spec(night, said), self.progress)

    @property
    def common(self):
        return {"application": self.application, "storage": self.storage}

    def candidate(self, kind="trained", seed=2):
        """A spec with a new candidate; `trained` answers as the champion does, `random` talks nonsense."""
        found = self._register(seed=seed, folder=getattr(self._models, kind))
        digests = {"model_digest": found.digest, "champion_digest": self.champion.digest}
        return shadow.Spec(**self.common, **digests)

    def found(self, spec):
        return read_shadow(shadow_partition(self.storage, spec.application, spec.model_digest, spec.champion_digest))


@pytest.fixture
def contest(application, storage, progress, champion, tiny_models, publish_day):  # noqa: PLR0917
    made = Contest(application, storage, progress, champion, tiny_models)
    traffic = [(text, tiny_models.answer, "traffic") for text in [*ASKED, TRAINED_ON, *HOSTILE]]
    made.answered(publish_day, "2026-11-02", [(TRAINED_ON, tiny_models.answer, "train"), *traffic])
    return made


def test_a_candidate_as_good_as_the_champion_passes_on_prompts_that_nothing_was_trained_on(contest, tmp_path):
    spec = contest.candidate()
    result = shadow.run(spec, contest.progress)
    assert (result.verdict, len(result.reasons)) == (Verdict.PASS, 1)
    found = contest.found(spec)
    assert (found.metric, found.difference.value, found.look) == ("exact_match", 0, 1)
    assert found.answered < len(ASKED), "it ended after the first look"
    assert found.means["exact_match"][0] == found.means["exact_match"][1] > 0.8
    assert found.means["likeness"] == (None, 1)
    partition = UPath(result.shadow)
    pairs = pq.read_table(fetch(partition, require_manifest(partition), PAIRS, tmp_path))
    assert TRAINED_ON not in pairs["prompt"].to_pylist()
    scores = pairs["candidate_score"].to_pylist()
    assert sum(scores) / len(scores) == found.means["exact_match"][1], "what its watch will hold it to"
    assert [pairs[f"candidate_{name}"].null_count for name in ("valid", "latency_ms", "generated_tokens")] == [0, 0, 0]
    assert version_of(contest.application.name, found.version).tags["nightshift.shadow"] == "PASS"
    assert shadow.run(spec, contest.progress) == result


def test_a_candidate_that_is_worse_fails_and_people_read_and_compare_what_users_typed(contest):
    reviewed = Feedback(review={"rows": 4})
    contest.application = contest.application.model_copy(update={"feedback": reviewed})
    spec = contest.candidate("random")
    result = shadow.run(spec, contest.progress)
    assert result.verdict is Verdict.FAIL
    assert contest.found(spec).difference.high < -0.3
    page = UPath(result.report).read_text()
    assert "<script" not in page
    assert "Worse than the champion" in page
    pairs = (
        UPath(contest.storage) / contest.application.name / "review_pairs" / f"2026-11-02-{UPath(result.shadow).name}"
    )
    assert require_manifest(pairs).counts == {"rows": 4}


def test_too_few_prompts_are_no_pass_and_are_compared_again_once_there_are_more(contest, publish_day, tiny_models):
    wanted = Shadow(min_prompts=60, prompts=70, margin=0.3)
    contest.application = contest.application.model_copy(update={"shadow": wanted})
    spec = contest.candidate()
    few = shadow.run(spec, contest.progress)
    assert few.verdict is Verdict.INSUFFICIENT_DATA
    assert "at least 60 are asked for" in few.reasons[0]
    assert "Too little to compare" in UPath(few.report).read_text()
    more = [(f"{text}, and why?", tiny_models.answer, "traffic") for text in ASKED]
    contest.answered(publish_day, "2026-11-03", more)
    assert shadow.run(spec, contest.progress).verdict is Verdict.PASS


def test_a_shadow_that_was_killed_goes_on_with_the_answers_that_it_had(contest, tmp_path, forked_jobs):
    spec = contest.candidate()
    assert start("shadow", spec, tmp_path / "first", ("nightshift.jobs.score", "run", 1)) == -signal.SIGKILL
    assert contest.found(spec) is None
    (answers,) = (UPath(contest.storage) / contest.application.name / "shadow_prompts").iterdir()
    before = {path.name for path in (UPath(contest.storage) / contest.application.name / "responses").iterdir()}
    assert start("shadow", spec, tmp_path / "second") == 0
    after = {path.name for path in (UPath(contest.storage) / contest.application.name / "responses").iterdir()}
    assert after == before
    assert answers.exists()
    assert contest.found(spec).verdict is Verdict.PASS
