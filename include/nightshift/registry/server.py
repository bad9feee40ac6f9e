"""How MLflow's server is reached, as MLflow's own client reaches it: login, proxy and certificates, from the same variables."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import httpx

from nightshift.errors import BadInput

URI = "MLFLOW_TRACKING_URI"
PAGES = "NIGHTSHIFT_MLFLOW_PAGES"
AUTHORITIES = "MLFLOW_TRACKING_SERVER_CERT_PATH"
OWN_CERTIFICATE = "MLFLOW_TRACKING_CLIENT_CERT_PATH"
INSECURE = "MLFLOW_TRACKING_INSECURE_TLS"
TLS = (AUTHORITIES, OWN_CERTIFICATE, INSECURE)
# Of the process, as for every client that is built on `requests`.
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def address(environment: Mapping[str, str]) -> str:
    """Return the address of the server without a login, as people may see it.

    :raises BadInput: it is not that of a server.
    """
    uri = environment.get(URI, "").rstrip("/")
    if not uri.startswith(("http://", "https://")):
        raise BadInput(f"{URI} is {uri!r}; a decision is shown by an MLflow server (http:// or https://)")
    return without_login(uri)


def pages(uri: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the address under which people see the pages of the server at `uri`: `NIGHTSHIFT_MLFLOW_PAGES`, or its own."""
    return environment.get(PAGES, "").rstrip("/") or without_login(uri)


def client_arguments(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of a client of httpx that asks the server.

    :param environment: what MLflow's client must know of it: `MLFLOW_TRACKING_*`.
    :raises BadInput: its address, the proxy or a file of certificates cannot be used.
    """
    uri = environment.get(URI, "").rstrip("/")
    login, token = environment.get("MLFLOW_TRACKING_USERNAME"), environment.get("MLFLOW_TRACKING_TOKEN")
    return {
        "base_url": f"{uri}/api/2.0/mlflow/",
        "auth": (login, environment.get("MLFLOW_TRACKING_PASSWORD", "")) if login else None,
        "headers": {"Authorization": f"Bearer {token}"} if token and not login else {},
        # Where no certificate is looked at, none is loaded: that takes longer than most questions.
        "verify": _certificates(environment) if uri.startswith("https://") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        "proxy": _proxy(uri),
        # httpx knows other variables for certificates, and no networks in NO_PROXY.
        "trust_env": False,
    }


def without_login(text: str) -> str:
    """Return a text with the logins in its addresses taken out."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def _proxy(uri: str) -> httpx.Proxy | None:
    """The proxy for an address: by `HTTP_PROXY`, `HTTPS_PROXY` or `ALL_PROXY`, unless `NO_PROXY` has its name or network.

    :raises BadInput: the variable names no proxy.
    """
    server, proxies = urlsplit(uri), getproxies_environment()
    proxy = proxies.get(server.scheme) or proxies.get("all")
    if not proxy or proxy_bypass_environment(server.netloc.rpartition("@")[2], proxies):
        return None
    for name in proxies.get("no", "").split(","):
        with suppress(ValueError):  # most are names
            if ip_address(server.hostname or "") in ip_network(name.strip(), strict=False):
                return None
    if proxy.startswith("socks") and not find_spec("socksio"):
        raise BadInput("MLflow is to be asked by a SOCKS proxy, which needs the package httpx[socks]: install it")
    try:
        return httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}")
    except (ValueError, httpx.InvalidURL):  # their words hold the proxy's login
        raise BadInput(
            f"MLflow is to be asked by a proxy, and {server.scheme.upper()}_PROXY or ALL_PROXY names none that can be used"
        ) from None


def _certificates(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Whose certificates are trusted, and the own one where the server asks for one."""
    if environment.get(INSECURE, "").lower() in {"true", "1"} and not environment.get(AUTHORITIES):
        context = httpx.create_ssl_context(verify=False, trust_env=False)
    elif named := _first((AUTHORITIES, environment), *((name, os.environ) for name in BUNDLES)):
        context = _read(*named, _trusting)
    else:
        context = httpx.create_ssl_context(trust_env=False)
    if own := _first((OWN_CERTIFICATE, environment)):
        _read(*own, context.load_cert_chain)
    return context


def _first(*places: tuple[str, Mapping[str, str]]) -> tuple[str, str] | None:
    """The first variable that is set, with its value."""
    return next(((name, value) for name, variables in places if (value := variables.get(name))), None)


def _trusting(path: str) -> ssl.SSLContext:
    if Path(path).is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)


def _read(name: str, path: str, read: Any) -> Any:
    try:
        return read(path)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"{name} names {path}, which holds no certificates that can be read: {error}") from error
