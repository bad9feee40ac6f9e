"""What Helm renders of the chart for each example, as tests read it."""

import json
from itertools import chain
from typing import Any

import yaml
from render_chart import RENDERED

CASES = ["aws", "azure", "google", "share"]
RELEASES = ["1.36", "1.37"]
# Kinds that an extension brings, with schemas of their own.
ELSEWHERE = {"kueue.x-k8s.io", "monitoring.coreos.com"}
PARTS = ["scheduler", "triggerer", "dagProcessor", "apiServer"]


def read(case: str) -> list[dict[str, Any]]:
    documents = yaml.safe_load_all((RENDERED / f"{case}.yaml").read_text())
    # Anchors are shared objects in Python; what a client would send has none.
    return [json.loads(json.dumps(document)) for document in documents if document]


ALL = {case: read(case) for case in CASES}
EVERY = list(chain(*ALL.values()))


def of_kind(kind: str, case: str | None = None) -> list[dict[str, Any]]:
    return [document for document in (ALL[case] if case else EVERY) if document["kind"] == kind]


def named(name: str, kind: str, case: str) -> dict[str, Any]:
    (found,) = [document for document in of_kind(kind, case) if document["metadata"]["name"] == name]
    return found


def airflow_values(case: str) -> dict[str, Any]:
    return yaml.safe_load(named("nightshift-airflow-values", "ConfigMap", case)["data"]["values.yaml"])


def pods(case: str | None = None) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for kind in ("Deployment", "StatefulSet") for one in of_kind(kind, case)]
