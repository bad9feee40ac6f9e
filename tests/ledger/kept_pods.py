"""Accounts of pods in storage, for the tests of what is made of them."""

from datetime import UTC, datetime, timedelta

from upath import UPath

from nightshift.ledger.pod_accounts import PodUsage, usage_address

NOW = datetime.now(UTC)


def pod(name, job="train", *, hours=2.0, ended=NOW, **more):
    return PodUsage(
        pod=name, uid=f"{name}-0123456789", job=job, dag_id="bank_finetune", task_id=job,
        started=ended - timedelta(hours=hours), ended=ended,
        **{"run_id": "r1", "gpus": 4, "price_per_hour": 10.0, **more},
    )  # fmt: skip


def keep(storage, *pods, application="bank"):
    """Write accounts, and return the address of the last one."""
    for one in pods:
        address = usage_address(UPath(storage), application, one)
        address.parent.mkdir(parents=True, exist_ok=True)
        address.write_bytes(one.model_dump_json().encode())
    return address
