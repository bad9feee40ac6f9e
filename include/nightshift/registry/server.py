"""The connection to MLflow's server: login, proxy and certificates, from the same variables as MLflow's own client."""

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
# Read from the process, like in every client based on `requests`.
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def address(environment: Mapping[str, str]) -> str:
    """Return the address of the server without a login.

    :raises BadInput: it is not the address of a server.
    """
    uri = environment.get(URI, "").rstrip("/")
    if not uri.startswith(("http://", "https://")):
        raise BadInput(f"{URI} is {uri!r}; light tasks need an MLflow server (http:// or https://)")
    return without_login(uri)


def pages(uri: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the address of the server's pages for people: `NIGHTSHIFT_MLFLOW_PAGES`, or `uri`."""
    return environment.get(PAGES, "").rstrip("/") or without_login(uri)


def client_arguments(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of an httpx client for the server.

    :param environment: variables of MLflow's client: `MLFLOW_TRACKING_*`.
    :raises BadInput: the address, the proxy or a certificate file is invalid.
    """
    uri = environment.get(URI, "").rstrip("/")
    login, token = environment.get("MLFLOW_TRACKING_USERNAME"), environment.get("MLFLOW_TRACKING_TOKEN")
    return {
        "base_url": f"{uri}/api/2.0/mlflow/",
        "auth": (login, environment.get("MLFLOW_TRACKING_PASSWORD", "")) if login else None,
        "headers": {"Authorization": f"Bearer {token}"} if token and not login else {},
        # Certificates are loaded only for https: that takes longer than most requests.
        "verify": _certificates(environment) if uri.startswith("https://") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        "proxy": _proxy(uri),
        # httpx reads other variables for certificates, and does not support networks in NO_PROXY.
        "trust_env": False,
    }


def without_login(text: str) -> str:
    """Return a text without the logins in its addresses."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def _proxy(uri: str) -> httpx.Proxy | None:
    """The proxy for an address: by `HTTP_PROXY`, `HTTPS_PROXY` or `ALL_PROXY`, unless `NO_PROXY` has its name or network.

    :raises BadInput: the variable does not name a valid proxy.
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
        raise BadInput("MLflow's proxy is a SOCKS proxy, which needs the package httpx[socks]: install it")
    try:
        return httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}")
    except (ValueError, httpx.InvalidURL):  # their words hold the proxy's login
        raise BadInput(f"{server.scheme.upper()}_PROXY or ALL_PROXY is not a valid proxy for MLflow") from None


def _certificates(environment: Mapping[str, str]) -> ssl.SSLContext:
    """The trusted certificates, and the client's own one if configured."""
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
        raise BadInput(f"{name} names {path}, which has no readable certificates: {error}") from error
