"""The candidate and the champion of a release, the parameters of its form, and the result of their shadow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator
from upath import UPath

from nightshift.errors import BadInput
from nightshift.orchestration.attempt import storage_uri
from nightshift.orchestration.old_indexes import require_index
from nightshift.registry import versions
from nightshift.settings.application import Application
from nightshift.shown import storable
from nightshift.storage.manifest import require_manifest
from nightshift.verdict import Verdict

if TYPE_CHECKING:
    from nightshift.evaluation.gates import Decision
    from nightshift.evaluation.score_file import ScoreFile
    from nightshift.evaluation.shadow_file import ShadowFile
    from nightshift.ledger.store import Ledger
    from nightshift.registry.rest import Mlflow
    from nightshift.registry.versions import Registered

RequestId = Annotated[str, Field(pattern=r"^[\w-]+$", max_length=80)]  # part of a file's name


class Form(BaseModel):
    """What the person who started the run entered; empty for a run that nobody started.

    Without an approval step, a reason turns a WARN, or an earlier champion, into a release on the responsibility of the
    person who gave it. With one, the reason is part of the request.

    :param version: number in the registry; None: the newest candidate.
    :param ask: require an approval, whatever the application's settings.
    :param run_id: a reason in another DAG run is another decision.
    """

    version: int | None = None
    reason: str = ""
    ask: bool = False
    by: str = ""
    run_id: str

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> Form:
        """Return the parameters of a DAG run."""
        params, run = context["params"], context["dag_run"]
        return cls(
            version=params["version"],
            reason=storable(params["reason"] or "").strip(),
            ask=params["ask"],
            by=storable(run.triggering_user_name or ""),
            run_id=run.run_id,
        )


class ReleaseDecision(BaseModel):
    """The decision about a release. The alias moves only later, in the task `promote`.

    With `ask`, people are asked about `subject` and `body` (Markdown), as the request `request`. A request without `ask`
    was approved before. `after` is the number of the newest release at that time: the next one spends the decision.
    """

    verdict: Verdict
    reasons: list[str]
    released: bool = False
    version: str | None = None
    model_digest: str | None = None
    champion_digest: str | None = None
    evaluation_digest: str | None = None
    after: int | None = None
    ask: bool = False
    request: RequestId | None = None
    subject: str = ""
    body: str = ""

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        needed = ("version", "model_digest", "evaluation_digest", "request", "subject", "body")
        if self.ask and (missing := [name for name in needed if not getattr(self, name)]):
            raise ValueError(f"`ask` is set, but these fields are missing: {', '.join(missing)}")
        return self

    @classmethod
    def of(cls, returned: Any) -> Self:
        """Validate the result of the task `release`.

        :raises BadInput: it is not a decision; somebody may have changed or deleted it in Airflow.
        """
        try:
            return cls.model_validate(returned)
        except ValidationError as error:
            wrong = "; ".join(
                ": ".join(filter(None, [".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")]))
                for one in error.errors(include_url=False, include_input=False)
            )
            raise BadInput(
                f"the result of the task release is not a release decision ({wrong}); clear that task to decide again"
            ) from error


@dataclass(frozen=True)
class Contest:
    """An evaluated candidate, and the champion that it would replace.

    :param returns: the candidate was the champion before.
    :param stopped: its split was stopped, and a person starts another one.
    :param after: number of the newest release.
    """

    candidate: Registered
    champion: Registered | None
    returns: bool
    stopped: bool
    after: int
    evaluation: UPath
    evaluation_digest: str
    scores: ScoreFile
    gate: Decision


def contest_of(app: Application, ledger: Ledger, server: Mlflow, form: Form) -> Contest | ReleaseDecision:
    """Return candidate and champion with the gate's decision; or a decision that needs no gate.

    A release that was recorded and not carried out comes first, whatever the newest candidate is.
    """
    from nightshift.evaluation.gates import gate
    from nightshift.evaluation.score_file import read_scores
    from nightshift.ledger.splits import ended

    champion = server.with_alias(app.name, versions.CHAMPION)
    releases = ledger.releases()
    if before := _unfinished(server, app.name, ledger, champion):
        return before
    candidate = _candidate(server, app.name, form.version)
    if candidate is None:
        return nothing("there is no candidate yet; finetune registers one")
    if champion and champion.digest == candidate.digest:
        return nothing(f"version {candidate.version} is the champion already")
    # A model that was replaced, or stopped in its split, comes back only on request of a person, with a reason.
    returns = candidate.digest in {known.model_digest for known in releases}
    past = ended(ledger, candidate.digest, champion.digest if champion else None, len(releases))
    stopped = past is not None and past[1].result == "stopped"
    if (returns or stopped) and not (form.version and form.reason):
        was = (
            "the champion before"
            if returns or past is None
            else f"stopped in split {past[0].number}: {past[1].explanation}"
        )
        back = "bring it back" if returns else "begin another split"
        return nothing(f"version {candidate.version} was {was}; to {back}, give its number and a reason in the form")
    require_index(candidate)
    evaluation = UPath(candidate.tags.get(versions.EVALUATION_TAG, ""))
    digest = candidate.tags.get(versions.EVALUATION_DIGEST_TAG, "")
    scores = read_scores(evaluation, require_manifest(evaluation, digest))
    if not returns and scores.models.get("champion") != (champion.digest if champion else None):
        return nothing(
            f"version {candidate.version} was not evaluated against version {champion.version if champion else 'none'}, "
            "the current champion; run finetune again to evaluate it"
        )
    decision = gate(scores.comparison, app.gate, scores.parts)
    return Contest(candidate, champion, returns, stopped, len(releases), evaluation, digest, scores, decision)


def shadow_of(app: Application, ledger: Ledger, contest: Contest) -> tuple[bool, ShadowFile | None, str]:
    """Return whether a shadow is needed, its result (None: it did not end), and why there is none.

    The reason is empty if no shadow is configured, or its result would not change the decision.
    """
    from nightshift.evaluation.shadow_file import read_shadow, shadow_partition
    from nightshift.monitoring.published_intervals import answered_by

    candidate, champion = contest.candidate, contest.champion
    if champion is None:
        return False, None, "no shadow: there is no champion to compare with" if app.shadow else ""
    if app.shadow is None or contest.returns or contest.gate.verdict not in {Verdict.PASS, Verdict.WARN}:
        return False, None, ""
    found = read_shadow(shadow_partition(storage_uri(), app, candidate.digest, champion.digest))
    if found:
        return True, found, ""
    if not answered_by(storage_uri(), app, champion.digest, ledger.newest_release(), app.shadow.intervals):
        return (
            False,
            None,
            f"no shadow: version {champion.version}, the champion, did not answer any of the newest "
            f"{app.shadow.intervals} intervals",
        )
    return True, None, f"the shadow of version {champion.version} has no published result yet"


def _unfinished(server: Mlflow, name: str, ledger: Ledger, champion: Registered | None) -> ReleaseDecision | None:
    """What comes before any candidate: an unfinished release, the release of a challenger that passed its split, or a wait."""
    from nightshift.ledger.releases import unfinished
    from nightshift.ledger.splits import running, sentence, share_of

    passed, releases = running(ledger), ledger.releases()
    if passed and ledger.split_end(passed.number) is None:
        return nothing(f"{sentence(passed, share_of(ledger, passed))}; there is one release at a time")
    newest = next(reversed(releases), None)
    number = passed.version if passed else newest.version if newest and newest.ahead else ""
    version = server.version_of(name, number) if number else None
    if version is None or not (
        passed or (newest and unfinished(newest, version.digest, version.tags.get(versions.RELEASE_TAG, "")))
    ):
        return None
    said = f"passed split {passed.number}" if passed else f"was released as number {len(releases)}"
    reason = f"version {version.version} {said}; that is carried out now"
    return ReleaseDecision(verdict=Verdict.PASS, reasons=[reason], released=True, **about_of(version, champion))


def _candidate(server: Mlflow, name: str, version: int | None) -> Registered | None:
    """The version that the form names, or the newest candidate; None where there is none yet.

    :raises BadInput: there is no such version.
    """
    if version is None:
        return server.with_alias(name, versions.CANDIDATE)
    found = server.version_of(name, str(version))
    if found is None:
        raise BadInput(f"{name} has no version {version} in the registry")
    return found


def about_of(candidate: Registered, champion: Registered | None) -> dict[str, Any]:
    """Return the fields that identify a decision: the version, and the digests of both models."""
    return {
        "version": candidate.version,
        "model_digest": candidate.digest,
        "champion_digest": champion.digest if champion else None,
    }


def nothing(reason: str) -> ReleaseDecision:
    """Return a decision to release nothing, with the reason."""
    return ReleaseDecision(verdict=Verdict.INSUFFICIENT_DATA, reasons=[reason])
