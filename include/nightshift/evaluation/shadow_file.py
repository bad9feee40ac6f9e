"""The result of a shadow as one small file, at an address that candidate and champion determine, where a release reads it."""

from __future__ import annotations

from pydantic import BaseModel
from upath import UPath

from nightshift.evaluation.estimates import METRICS, Estimate, Metric
from nightshift.settings.application import Application
from nightshift.storage.manifest import Manifest, digest_of, read_manifest
from nightshift.storage.partition import partition_of, read_file
from nightshift.verdict import Verdict

SHADOW, REPORT, PAIRS = "shadow.json", "report.html", "pairs.parquet"
VERSION = 1  # of how prompts are chosen and answers compared; raising it compares again

# The measures of the answers, in the order of the report.
MEASURES: dict[str, Metric] = {
    **{name: METRICS[name] for name in ("exact_match", "rouge_l", "chrf", "judge", "valid")},
    "likeness": Metric("chrF to the champion's answer"),
    "characters": Metric("characters an answer", "amount"),
    **{name: METRICS[name] for name in ("tokens", "latency_ms", "cost")},
}


class ShadowFile(BaseModel):
    """The content of `shadow.json`.

    :param prompts: number of `answered` prompts for which both answers have a score.
    :param metric: by which the answers were compared; None: no score is available.
    :param difference: candidate minus champion, with a lower and an upper bound, each at the level of the look.
    :param look: the last look, of `looks`.
    :param means: champion's and candidate's mean by measure; None: not measured.
    """

    application: str
    version: str
    champion: str
    verdict: Verdict
    reasons: list[str]
    answered: int
    prompts: int
    metric: str | None
    difference: Estimate | None
    margin: float
    level: float
    look: int
    looks: int
    means: dict[str, tuple[float | None, float | None]]

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Title, champion's and candidate's mean of each measure, formatted."""
        return [
            (metric.title, _shown(metric, self.means[name][0]), _shown(metric, self.means[name][1]))
            for name, metric in MEASURES.items()
            if name in self.means
        ]

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that a decision records."""
        numbers = {"logged prompts of the shadow": float(self.prompts)}
        if self.metric and self.difference:
            what = f"difference in {MEASURES[self.metric].title} on logged prompts"
            numbers |= {
                what: self.difference.value,
                f"{what}, low": self.difference.low,
                f"{what}, bound": -self.margin,
            }
        return numbers


def shadow_partition(storage: str, application: Application, candidate: str, champion: str) -> UPath:
    """Return the address of a shadow: one for each pair of versions (by digest) and settings of their comparison.

    The intervals are not part of it: the first result stands, or a candidate could try again each interval until it is lucky.
    """
    inputs = {
        "candidate": candidate,
        "champion": champion,
        "shadow": application.shadow.model_dump(mode="json") if application.shadow else None,
        "metric": application.gate.metric,
        "judge": application.judged_by,
        "version": VERSION,
    }
    return partition_of(storage, application.name, "shadows", digest_of(inputs)[:16])


def read_shadow(partition: UPath, manifest: Manifest | None = None) -> ShadowFile | None:
    """Return the result of a shadow, or None if it has not ended.

    :raises BadInput: the manifest or the file is damaged.
    """
    manifest = manifest or read_manifest(partition)
    return None if manifest is None else ShadowFile.model_validate_json(read_file(partition, manifest, SHADOW))


def _shown(metric: Metric, mean: float | None) -> str:
    return "\N{EN DASH}" if mean is None else metric.shown(mean)
