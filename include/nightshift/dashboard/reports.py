"""Reports of jobs in storage, if the manifest of their partition lists them. They are shown as untrusted content."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, Response

from nightshift.dashboard.access import Asking
from nightshift.dashboard.airflow_state import storage_uri
from nightshift.dashboard.headers import REPORT_POLICY
from nightshift.dashboard.own_threads import in_own_threads
from nightshift.dashboard.pages import REPORTS, render
from nightshift.dashboard.panels import panel
from nightshift.dashboard.stored import Store

# Data docs are stored with their examples, without a manifest; Great Expectations names their files.
WITHOUT_MANIFEST = {"data_docs"}
PART = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,80}$")
PAGE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,120}\.html$")

router = APIRouter()
Address = Annotated[str, Path(max_length=400)]


@router.api_route("/apps/{application}/reports/{kind}/{address:path}", methods=["GET", "HEAD"])
@in_own_threads
def framed(request: Request, application: str, kind: str, address: Address, asking: Asking) -> HTMLResponse:
    """Show a report in a frame, with a link back."""
    known = asking.application(application)
    _report(Store(storage_uri(), known.name), kind, address)
    return render(request, "report.html.jinja", name=known.name, kind=kind, address=address)


@router.api_route("/apps/{application}/raw/{kind}/{address:path}", methods=["GET", "HEAD"])
@in_own_threads
def raw(application: str, kind: str, address: Address, asking: Asking) -> Response:
    """Return a report as stored, sandboxed in an opaque origin."""
    known = asking.application(application)
    content = _report(Store(storage_uri(), known.name), kind, address)
    headers = {"Content-Security-Policy": REPORT_POLICY, "Referrer-Policy": "no-referrer"}
    return HTMLResponse(content, headers=headers)


def _report(store: Store, kind: str, address: str) -> bytes:
    """The content of a page in a published partition.

    :raises HTTPException: 404: there is no such page; 503: storage cannot be read.
    """
    *folders, name = address.split("/")
    sound = kind in REPORTS and len(folders) == REPORTS[kind] and all(map(PART.match, folders)) and PAGE.match(name)
    found = panel(lambda: _read(store, kind, folders, name)) if sound else None
    if found and found.trouble:
        raise HTTPException(503, found.trouble)
    if found is None or found.shown is None:
        raise HTTPException(404, f"There is no such report of “{store.application}”, or it is no longer published.")
    return found.shown


def _read(store: Store, kind: str, folders: list[str], name: str) -> bytes | None:
    if kind in WITHOUT_MANIFEST:
        return store.read(kind, *folders, name) if name in store.names(kind, *folders) else None
    manifest = store.manifest(kind, *folders)
    listed = next((file for file in manifest.files if file.name == name), None) if manifest else None
    # The manifest may be forged: a listed file must also be inside the partition.
    if listed is None or not all(map(re.compile(r"^[\w-][\w.-]*$").match, listed.path.split("/"))):
        return None
    return store.read(kind, *folders, listed.path)
