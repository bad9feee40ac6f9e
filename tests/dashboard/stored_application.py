"""An application's part of storage, made with the package's own functions, for the tests of pages and of their speed."""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from nightshift.ledger.gate_records import record
from nightshift.ledger.records import Claim, Decision, GateRecord, Order, Outcome, Release, Snooze
from nightshift.ledger.store import Ledger
from nightshift.settings.interval import Interval
from nightshift.storage.files import scratch
from nightshift.storage.manifest import digest_of
from nightshift.storage.partition import partition_of, publish

MODELS = {"1": "a1" * 32, "2": "b2" * 32}  # version -> digest
PAGE = "<!DOCTYPE html><html lang='en'><head><title>report</title></head><body><p>REPORT OF A JOB</p></body></html>"
METRICS = ("exact_match", "prompt_topic", "prompt_tokens", "response_tokens", "sentiment", "toxicity")
LAST = date(2026, 11, 27)


@dataclass
class StoredApplication:
    """Writes what jobs of one application leave."""

    storage: str
    name: str

    @property
    def ledger(self):
        return Ledger(self.storage, self.name)

    def partition(self, kind, folder, address, files, *, interval=None, facts=None, counts=None, **inputs):
        partition = partition_of(self.storage, self.name, folder, *address)
        work = scratch(partition)
        for name, content in files.items():
            (work / name).write_text(content, encoding="utf-8")
        manifest = publish(
            partition, work, kind=kind, application=self.name, inputs={"address": address, "facts": facts, **inputs},
            interval=interval, facts=facts, counts=counts,
        )  # fmt: skip
        shutil.rmtree(work, ignore_errors=True)
        return partition, manifest

    def interactions(self, day, exact_match=0.9, rows=480, version="1", means=None):
        """A night as the job `score` publishes it; the means are those of exact match, unless others are given."""
        facts = {"means": means or {"exact_match": exact_match}, "model": version, "model_digest": MODELS[version]}
        return self.partition(
            "interactions", "interactions", [day.isoformat()], {"interactions.parquet": "rows"}, interval=of(day),
            facts=facts, counts={"rows": rows},
        )  # fmt: skip

    def challenged(self, day, share, exact_match=0.95, version="2"):
        """What a challenger answered of a night in the first split."""
        arm = {"split": 1, "challenger": True, "key": "k", "unit": "subject", "share": share}
        self.partition(
            "interactions", "arms", ["0001", day.isoformat()], {"interactions.parquet": "rows"}, interval=of(day), arm=arm,
            facts={"means": {"exact_match": exact_match}, "model": version}, counts={"rows": round(480 * share)},
        )  # fmt: skip

    def drift(
        self,
        day,
        verdict="PASS",
        *,
        excess=0.05,
        version="1",
        reason="none of six metrics moved",
        new=(),
        moved=METRICS[0],
        interactions="",
    ):
        """A night as the job `drift` publishes it; what moved most is `moved`."""
        metrics = [
            {"metric": metric, "verdict": verdict if place == 0 else "PASS", "excess": excess / (place + 1),
             "effect": excess + 0.02, "expected_by_chance": 0.02, "warn": 0.1, "fail": 0.2, "direction": "mean 0.9 → 0.4",
             "rows": 480, "reference_rows": 1800, "p_value": 0.001, "q_value": 0.001, "learned": False}
            for place, metric in enumerate((moved, *METRICS[1:]))
        ]  # fmt: skip
        content = {"verdict": verdict, "rows": 480, "metrics": metrics, "segments": [], "reasons": [reason]}
        files = {
            "verdict.json": json.dumps(content),
            "report.html": PAGE,
            "report.json": json.dumps({"new": [{"prompt": text, "response": "?", "novelty": "0.9"} for text in new]}),
        }
        worst = moved if verdict == "FAIL" else None
        return self._verdict("drift", day, verdict, version, reason, files, worst, interactions)

    def bias(self, day, verdict="PASS", *, gap=0.04, version="1", reason="all 27 gaps are within ±10%"):
        """A night as the job `bias` publishes it."""
        findings = [
            {"section": "outputs", "dimension": "prompt_language", "group": group, "metric": "toxicity", "value": gap,
             "low": 0.0, "high": 0.1, "verdict": verdict, "only_above": False}
            for group in ("de", "es")
        ]  # fmt: skip
        content = {"verdict": verdict, "findings": findings, "policy": {"max_gap": 0.1}, "reasons": [reason]}
        files = {"verdict.json": json.dumps(content), "report.html": PAGE}
        return self._verdict("bias", day, verdict, version, reason, files, None)

    def champion(self, version="1", score=0.87, released=datetime(2026, 11, 1, tzinfo=UTC)):
        """A release with the evaluation that led to it, and the gate's decision."""
        partition, manifest = self.evaluation(version, score)
        decision = GateRecord(
            application=self.name, version=version, model_digest=MODELS[version], champion_digest=None,
            evaluation=str(partition), evaluation_digest=manifest.digest, policy="p" * 64, verdict="PASS",
            reasons=[f"exact match of the candidate is {score:.1%}"], numbers={"candidate": score}, released=True, by="gate",
            decided=released,
        )  # fmt: skip
        record(self.ledger, decision)
        self.partition("reference", "references", [MODELS[version][:16]], {"sample.parquet": "rows"})
        number = len(self.ledger.releases()) + 1
        self.ledger.create(
            Release(
                number=number,
                model_digest=MODELS[version],
                version=version,
                evaluation=str(partition),
                released=released,
            )
        )

    def evaluation(self, version, score, verdict="PASS"):
        """A comparison as the job `evaluate` publishes it."""
        scores = {
            role: {"exact_match": {"value": value, "low": value - 0.04, "high": value + 0.04},
                   "loss": {"value": "Infinity" if role == "base" else 0.2, "low": 0.1, "high": 0.3}}
            for role, value in {"base": 0.05, "candidate": score}.items()
        }  # fmt: skip
        content = {
            "models": {"base": "0" * 64, "candidate": MODELS[version]},
            "comparison": {"examples": 300, "scores": scores, "differences": {}},
            "decision": {
                "verdict": verdict,
                "reasons": [f"exact match of the candidate is {score:.1%}"],
                "numbers": {},
            },
        }
        files = {"scores.json": json.dumps(content), "report.html": PAGE}
        return self.partition(
            "evaluation", "evaluations", [digest_of([version, score])[:16]], files, facts={"verdict": verdict}
        )

    def decision(
        self, day, action="none", reason="0 of the newest 3 intervals with a verdict failed", number=None, numbers=None
    ):
        """What the ledger keeps after a night."""
        decided = Decision(
            id=f"{day}-{digest_of(str(day))[:12]}", action=action, code="tripped" if action == "retrain" else "quiet",
            reason=reason, order=number, model_digest=MODELS["1"], decided=of(day).end + timedelta(hours=5),
            numbers=numbers or {},
        )  # fmt: skip
        self.ledger.create(decided)
        return decided

    def retraining(self, number, day, *, run_id="scheduled__1", ended=True, hours=0.4):
        """An order with its claim and, once ended, its outcome."""
        decided = self.decision(day, "retrain", "2 of the newest 3 intervals with a verdict failed", number)
        self.ledger.create(Order(number=number, decision=decided, created=decided.decided))
        self.ledger.create(Claim(number=number, dag_id=f"{self.name}_finetune", run_id=run_id, claimed=decided.decided))
        if ended:
            self.ledger.create(
                Outcome(
                    number=number, result="registered", explanation="version 2, its gate says PASS", run_id=run_id,
                    model_version="2", verdict="PASS", hours=hours, ended=decided.decided + timedelta(hours=1),
                )
            )  # fmt: skip

    def snooze(self, by, reason, created, until):
        self.ledger.create(Snooze(id=digest_of(reason)[:12], until=until, reason=reason, by=by, created=created))

    def _verdict(self, monitor, day, verdict, version, reason, files, worst, interactions=""):  # noqa: PLR0917
        facts = {
            "monitor": monitor, "interval": day.isoformat(), "verdict": verdict, "model_digest": MODELS[version],
            "model_version": version, "failing": [worst] if worst else [], "worst": worst, "worst_segment": None,
            "reasons": [reason], "interactions": interactions, "rows": 480, "run_url": "http://mlflow.test/#/experiments/1/runs/2",
        }  # fmt: skip
        address = [day.isoformat(), digest_of([monitor, facts])[:16]]
        return self.partition(monitor, monitor, address, files, interval=of(day), facts=facts, counts={"rows": 480})


def of(day):
    """The interval of a day."""
    start = datetime.combine(day, datetime.min.time(), UTC)
    return Interval(start=start, end=start + timedelta(days=1))


def days(count, last=LAST):
    """The `count` days up to the last one, in order."""
    return [last - timedelta(days=back) for back in reversed(range(count))]
