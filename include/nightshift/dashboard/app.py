"""The web application that Airflow's API server mounts at `/nightshift`: pages for users who are logged in.

It is read-only, except for reviews.
"""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlencode

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as AnyHTTPException

from nightshift.dashboard import mailbox, overview, reports, review, run
from nightshift.dashboard.access import Asking
from nightshift.dashboard.airflow_state import housekeeping, storage_uri
from nightshift.dashboard.application import gather
from nightshift.dashboard.application_files import application_of
from nightshift.dashboard.headers import HEADERS, SecurityHeaders
from nightshift.dashboard.own_threads import in_own_threads
from nightshift.dashboard.pages import airflow_root, render
from nightshift.dashboard.panels import panel

READ = ["GET", "HEAD"]

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, dependencies=[Depends(get_user)])
app.add_middleware(SecurityHeaders)
app.include_router(reports.router)
app.include_router(mailbox.router)
app.include_router(review.router)
# Style sheets and scripts contain no data, so they need no login.
app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")


@app.api_route("/", methods=READ)
@in_own_threads
def every_application(request: Request, asking: Asking) -> HTMLResponse:
    """Show all applications that the user may see, a row each."""
    known = asking.applications()
    may_see_runs = {one.name: asking.may_see_runs(one.name) for one in known}
    found = panel(lambda: overview.rows(known, storage_uri(), may_see_runs))
    keeping = panel(lambda: housekeeping(datetime.now(UTC))) if known else None
    return render(request, "overview.html.jinja", rows=found, keeping=keeping)


@app.api_route("/apps/{application}", methods=READ)
@in_own_threads
def one_application(request: Request, application: str, asking: Asking) -> HTMLResponse:
    """Show one application."""
    known = asking.application(application)
    if known.settings is None:
        return render(request, "unreadable.html.jinja", known=known)
    may_see_runs = asking.may_see_runs(application)
    page = gather(known.settings, storage_uri(), may_see_runs=may_see_runs)
    may_acknowledge = asking.may_acknowledge(application)
    return render(request, "application.html.jinja", page=page, app=known.settings, may_acknowledge=may_acknowledge)


@app.api_route("/apps/{application}/runs/{dag_id}/{run_id:path}", methods=READ)
@in_own_threads
def one_run(request: Request, application: str, dag_id: str, run_id: str, asking: Asking) -> HTMLResponse:
    """Show one run of an application."""
    known = asking.application(application)
    if application_of(dag_id) != application or known.settings is None:
        raise HTTPException(404, f"“{dag_id}” is not a DAG of “{application}”.")
    if not asking.may_see_runs(application):
        raise HTTPException(404, f"There is no run “{run_id}” of {dag_id}, or you may not see it.")
    page = run.gather(known.settings, storage_uri(), dag_id, run_id)
    if page is None:
        raise HTTPException(
            404, f"There is no run “{run_id}” of {dag_id}, or you may not see it. It may have been deleted."
        )
    return render(request, "run.html.jinja", page=page, app=known.settings, namespace_of=run.namespace_of)


@app.api_route("/dags/{dag_id}", methods=READ)
def tab_of_dag(request: Request, dag_id: str, asking: Asking) -> Response:
    """Redirect from the tab on a DAG's page to its application. Airflow shows the tab on every DAG."""
    return _to(request, f"apps/{_visible(dag_id, asking)}")


@app.api_route("/dags/{dag_id}/runs/{run_id:path}", methods=READ)
def tab_of_run(request: Request, dag_id: str, run_id: str, asking: Asking) -> Response:
    """Redirect from the tab on a run's page to the dashboard's page of the run."""
    return _to(request, f"apps/{_visible(dag_id, asking)}/runs/{quote(dag_id, safe='')}/{quote(run_id, safe='')}")


@app.api_route("/{anything:path}", methods=READ)
def nothing(anything: str) -> Response:
    """Answer 404 for every other address to users who are logged in."""
    raise HTTPException(404, "There is no such page.")


@app.exception_handler(AnyHTTPException)
def in_words(request: Request, error: AnyHTTPException) -> Response:
    """Answer an error with a page that explains it; users without a login are sent to Airflow's login."""
    if (
        error.status_code == HTTPStatus.UNAUTHORIZED
        and request.method in READ
        and "text/html" in request.headers.get("accept", "")
    ):
        wanted = f"{request.url.path}?{request.url.query}".rstrip("?")
        return RedirectResponse(
            f"{airflow_root()}/api/v2/auth/login?{urlencode({'next': wanted})}", HTTPStatus.SEE_OTHER
        )
    if request.method not in READ:
        return JSONResponse({"detail": str(error.detail)}, error.status_code)  # a script asked
    return render(
        request,
        "message_only.html.jinja",
        error.status_code,
        title=_title(error.status_code),
        message=str(error.detail),
    )


@app.exception_handler(RequestValidationError)
def not_an_address(request: Request, _error: RequestValidationError) -> Response:
    """Answer an invalid address with 404, an incomplete form with 422."""
    if request.method not in READ:
        return JSONResponse({"detail": "A field of this form is missing or invalid."}, 422)
    return render(
        request, "message_only.html.jinja", HTTPStatus.NOT_FOUND, title=_title(404), message="There is no such page."
    )


@app.exception_handler(Exception)
def broken(request: Request, error: Exception) -> Response:
    """Answer an internal error; Starlette raises it again, so that the API server's log has the trace."""
    message = f"This page cannot be shown ({type(error).__name__}). The API server's log says why."
    page = render(
        request, "message_only.html.jinja", HTTPStatus.INTERNAL_SERVER_ERROR, title=_title(500), message=message
    )
    page.headers.update(HEADERS)  # this handler runs outside of all middleware
    return page


def _visible(dag_id: str, asking: Asking) -> str:
    name = application_of(dag_id)
    if name is None or not asking.sees(name):
        raise HTTPException(404, f"“{dag_id}” belongs to no Nightshift application that you may see.")
    return name


def _to(request: Request, path: str) -> RedirectResponse:
    return RedirectResponse(f"{request.scope.get('root_path', '')}/{path}", HTTPStatus.SEE_OTHER)


def _title(status: int) -> str:
    return {401: "Not logged in", 403: "Not allowed", 404: "Not found", 503: "Not readable"}.get(status, "Not shown")
