"""A search of an application with a champion, from its rows on: what the tests of its jobs share."""

from upath import UPath

from nightshift.evaluation.halving import read_plan
from nightshift.jobs import search_plan, search_result, search_trial, snapshot
from nightshift.orchestration.search import best, contenders
from nightshift.settings.gate import Gate
from nightshift.settings.intake import Ingest, Splits
from nightshift.settings.search import Choices, Search
from nightshift.storage.manifest import require_manifest

SPLITS = Splits(train=0.5, held_out=0.2, development=0.3)


def searching(application, choices, **search):
    """The application with a small search."""
    small = {"rows": 5, "eta": 2, "final_rows": 30, **search}
    return application.model_copy(
        update={
            "ingest": Ingest(splits=SPLITS),
            "gate": Gate(min_examples=10),
            "search": Search(choices=Choices.model_validate(choices), **small),
        }
    )


def publish_rows(publish_day, application, answer, development=90):
    """A day of rows on all sides, all with one answer."""
    return publish_day(
        "2026-11-02",
        [
            *((f"train with number {n * 6421}", answer, "train") for n in range(6)),
            *((f"hold out the number {n * 5003}", answer, "held_out") for n in range(3)),
            *((f"where is card number {n * 7919} of mine", answer, "development") for n in range(development)),
        ],
        application=application.name,
    )


def planned(application, storage, model, progress):
    """Run the jobs `snapshot` and `search_plan`; return the spec of the second and its result."""
    common = {"application": application, "storage": storage}
    made = snapshot.run(snapshot.Spec(**common, min_examples=1), progress)
    in_use = {"model": model[0], "model_digest": model[1]}
    spec = search_plan.Spec(**common, **in_use, snapshot=made.snapshot, digest=made.digest)
    return spec, search_plan.run(spec, progress)


def plan_of(result):
    return read_plan(UPath(result.plan), require_manifest(UPath(result.plan), result.digest))


class Run:
    """A run of the search DAG, task by task."""

    def __init__(self, application, storage, in_use, progress):
        self.common, self.progress = {"application": application, "storage": storage}, progress
        _, result = planned(application, storage, in_use, progress)
        self.planned, self.plan = result, plan_of(result)

    def specs(self, rungs):
        arguments = contenders.function(self.planned.model_dump(), rungs)
        return [search_trial.Spec(**self.common, **one) for one in arguments]

    def rungs(self):
        rungs = []
        for _ in range(3):
            rungs.append([search_trial.run(spec, self.progress).model_dump() for spec in self.specs(rungs)])
        return rungs

    def result(self, rungs):
        spec = search_result.Spec(**self.common, **best.function(self.planned.model_dump(), rungs))
        return search_result.run(spec, self.progress)

    @property
    def answers(self):
        return sorted(
            path.name
            for path in (UPath(self.common["storage"]) / self.common["application"].name / "answers").iterdir()
        )
