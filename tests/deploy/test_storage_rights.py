"""The rights to a bucket of docs/storage-rights.md: what they say for each action and address.

None of the clouds is asked: small evaluators read the policies and conditions as the clouds' documentation describes them.
"""

import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from bucket_rights import DELETE, KEPT, MADE, READ, WRITE, by_pages, of_policy

from nightshift.stack.place import CHECKOUT

PAGE = CHECKOUT / "docs/storage-rights.md"
TITLES = {"eks": "Amazon EKS", "gke": "GKE", "aks": "AKS"}
CLOUDS = ["eks", "gke", "aks"]


def head(cloud: str) -> str:
    """The section of a cloud."""
    return PAGE.read_text().split(f"## {TITLES[cloud]}\n")[1].split("\n## ")[0]


def objects_in(text: str) -> list[dict[str, Any]]:
    """The JSON objects that stand in a text, each at the beginning of a line."""
    starts = [found.start(1) for found in re.finditer(r'^ *(\{"[A-Z])', text, re.MULTILINE)]
    found, end = [], 0
    for start in starts:
        if start >= end:
            value, end = json.JSONDecoder().raw_decode(text, start)
            found.append(value)
    return found


def of_condition(condition: str, terms: dict[str, Callable[..., bool]], signs: dict[str, str]) -> bool:
    """The value of an expression.

    :param terms: what each kind of term says, by its pattern, whose groups it takes.
    :param signs: Python's words for the language's.
    """
    for pattern, says in terms.items():
        condition = re.sub(pattern, lambda found, says=says: str(says(*found.groups())), condition)
    for sign, word in signs.items():
        condition = condition.replace(sign, f" {word} ")
    assert re.fullmatch(r"(True|False|and|or|not|[()\s])+", condition), condition
    return bool(eval(" ".join(condition.split())))  # noqa: S307  (the words of the line before)


def on_s3(identity: str, action: str, path: str) -> bool:
    jobs, reader = (policy["Statement"] for policy in objects_in(head("eks")))
    statements = {"jobs": jobs, "airflow": jobs[:-1], "api-server": reader}[identity]
    actions = {READ: "s3:GetObject", WRITE: "s3:PutObject", DELETE: "s3:DeleteObject"}
    return of_policy(statements, actions[action], path)


def on_google(identity: str, action: str, path: str) -> bool:
    if action == READ:
        return True  # roles/storage.objectViewer
    if identity == "airflow" or (identity == "api-server" and action == DELETE):
        return identity == "airflow"
    of_jobs, of_pages = head("gke").split("The account of `airflow-scheduler`")
    text = of_jobs if identity == "jobs" else of_pages
    condition = re.search(r"^ {6}!?resource\.name.*?(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)[0]
    name = f"projects/_/buckets/example-bucket/objects/{path}"

    def is_not_below(before: str, after: str) -> bool:
        found = re.search(f"{re.escape(before)}(.*?){re.escape(after)}", name)
        return (found[1] if found else "") == ""

    terms = {
        r'resource\.name\.extract\("([^"{]*)\{application\}([^"]*)"\) == ""': is_not_below,
        r'resource\.name\.extract\("([^"{]*)\{application\}([^"]*)"\) != ""': lambda *ends: not is_not_below(*ends),
        r'resource\.name\.startsWith\("([^"]*)"\)': name.startswith,
    }
    return of_condition(condition, terms, {"&&": "and", "||": "or", "!": "not"})


def on_azure(identity: str, action: str, path: str) -> bool:
    """Also whether blobs may be added, which is an action of its own: it may where they may be written."""
    blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
    if action == READ or identity == "airflow":
        return True
    text = head("aks")
    role = objects_in(text)[identity == "api-server"]
    start = [found.start() for found in re.finditer(r"\(\(!\(ActionMatches", text)][identity == "api-server"]
    condition = (text + "\n\n")[start : (text + "\n\n").index("\n\n", start)]

    def allows(data_action: str) -> bool:
        terms = {
            r"ActionMatches\{'([^']*)'\}": data_action.__eq__,
            rf"@Resource\[{blobs}:path\] StringLike '([^']*)'": lambda pattern: fnmatchcase(path, pattern),
            rf"@Resource\[{blobs}:path\] StringNotLike '([^']*)'": lambda pattern: not fnmatchcase(path, pattern),
        }
        return data_action in role["DataActions"] and of_condition(
            condition, terms, {"!": "not", "AND": "and", "OR": "or"}
        )

    if action == WRITE:
        written, added = allows(f"{blobs}/write"), allows(f"{blobs}/add/action")
        assert written == added
        return written
    return allows(f"{blobs}/{action}")


RIGHTS = dict(zip(CLOUDS, [on_s3, on_google, on_azure], strict=True))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_jobs_read_everything_and_write_all_but_what_only_airflow_writes(cloud: str) -> None:
    for path in [*KEPT, *MADE]:
        assert RIGHTS[cloud]("jobs", READ, f"nightshift/{path}"), path
        for action in (WRITE, DELETE):
            assert RIGHTS[cloud]("jobs", action, f"nightshift/{path}") == (path in MADE), f"{action} {path}"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_jobs_write_nothing_outside_of_the_storage(cloud: str) -> None:
    for path in ("another/bank/models/0123/manifest.json", "nightshift-2/bank/models/0123/manifest.json"):
        assert not RIGHTS[cloud]("jobs", WRITE, path)
        assert not RIGHTS[cloud]("jobs", DELETE, path)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("path", [*KEPT, *MADE])
def test_airflow_writes_everything_and_its_api_server_only_reviews(cloud: str, path: str) -> None:
    for action in (READ, WRITE, DELETE):
        assert RIGHTS[cloud]("airflow", action, f"nightshift/{path}")
        assert RIGHTS[cloud]("api-server", action, f"nightshift/{path}") == by_pages(action, path)


@pytest.mark.parametrize("folder", ["", "/bank", "/bank/ledger", "/bank/alerts", "/bank/usage", "/audit", "/janitor"])
def test_on_azure_jobs_cannot_take_away_the_folder_of_what_only_airflow_writes(folder: str) -> None:
    """Of blobs there are no folders; with a hierarchical namespace, which is not meant to be used, there are."""
    assert not on_azure("jobs", DELETE, f"nightshift{folder}")
    assert not on_azure("jobs", WRITE, f"nightshift{folder}")


def test_on_azure_jobs_can_neither_delete_the_container_nor_rename_nor_sign_for_others() -> None:
    role, pages = objects_in(head("aks"))
    containers = "Microsoft.Storage/storageAccounts/blobServices/containers"

    assert role["Actions"] == [f"{containers}/read"]
    assert set(role["DataActions"]) == {
        f"{containers}/blobs/{one}" for one in ("read", "write", "add/action", "delete")
    }
    assert set(pages["DataActions"]) == {f"{containers}/blobs/{one}" for one in ("write", "add/action")}


def test_the_evaluators_find_what_a_condition_without_one_of_its_terms_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path.read_text

    def without(path: Path, *args: Any, **kwargs: Any) -> str:
        return text(path, *args, **kwargs).replace("/audit/", "/other/")

    monkeypatch.setattr(Path, "read_text", without)
    for cloud in CLOUDS:
        assert RIGHTS[cloud]("jobs", WRITE, "nightshift/audit/000000/000000001.jsonl")


def test_the_page_of_a_deployment_says_of_every_part_of_airflow_what_it_needs() -> None:
    page = (CHECKOUT / "docs/kubernetes.md").read_text()
    for name in ("airflow-scheduler", "airflow-triggerer", "airflow-dag-processor", "airflow-api-server"):
        assert re.search(rf"^\|.*`{name}`.*\|", page, re.MULTILINE), name
        assert all(name in head(cloud) for cloud in CLOUDS)
