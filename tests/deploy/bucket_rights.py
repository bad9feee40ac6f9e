"""Which addresses of a bucket only Airflow writes, and what IAM makes of a policy: what tests of rights share."""

from fnmatch import fnmatchcase
from typing import Any

READ, WRITE, DELETE = "read", "write", "delete"
# What only Airflow writes, and what jobs write, below the storage's address.
KEPT = [
    "bank/ledger/orders/0001.json",
    "bank/ledger/gate/a-b-c-d-gate-0000.json",
    "bank/ledger/index.json",
    "bank/reviews/2026-11-29/01234567-0123456789ab.json",
    "bank/alerts/waiting/mail/a.json",
    "all-applications/alerts/waiting/a.json",
    "bank/usage/2026-11-29/0123456789ab-train-0-01234567.json",
    "audit/000000/000000001.jsonl",
    "janitor/0123/kubernetes.json",
]
MADE = [
    "bank/arrivals/00000001.json",
    "bank/arrivals/newest",
    "bank/examples/2026-11-29/manifest.json",
    "bank/examples/2026-11-29/validation.json",
    "bank/models/0123/attempt/model.safetensors",
    "bank/responses/champions/0123.txt",
    "bank/results/bank_finetune/manual__2026-11-29/train/try-1/result.json",
]


def by_pages(action: str, path: str) -> bool:
    """Whether the API server may: it reads, and adds what people say on the review page."""
    return action == READ or (action == WRITE and path.startswith(("bank/reviews/", "bank/arrivals/")))


def of_policy(statements: list[dict[str, Any]], action: str, key: str) -> bool:
    """What IAM makes of a request for an object: a Deny that matches counts more than an Allow; a star matches anything."""

    def matches(statement: dict[str, Any]) -> bool:
        resources, actions = (
            given if isinstance(given, list) else [given] for given in (statement["Resource"], statement["Action"])
        )
        return action in actions and any(fnmatchcase(f"arn:aws:s3:::example-bucket/{key}", one) for one in resources)

    return {statement["Effect"] for statement in statements if matches(statement)} == {"Allow"}
