"""What tests of manifests share: the restricted pod security standard, as a function of a pod's spec."""

from collections.abc import Callable
from typing import Any

import pytest

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
HOST = ("hostNetwork", "hostPID", "hostIPC")


@pytest.fixture
def violations() -> Callable[[dict[str, Any]], list[str]]:
    """Return the check of a pod's spec."""
    return violations_of


def violations_of(pod: dict[str, Any]) -> list[str]:
    """Return what an API server that enforces `restricted` would refuse in a pod's spec."""
    found = [f"{key} is set" for key in HOST if pod.get(key)]
    for volume in pod.get("volumes", []):
        found += [f"volume {volume['name']}: {kind}" for kind in volume.keys() - {"name"} - VOLUMES]
    shared = pod.get("securityContext", {})
    for kind in ("containers", "initContainers", "ephemeralContainers"):
        for container in pod.get(kind, []):
            found += [f"{container['name']}: {what}" for what in _of_container(container, shared)]
    return found


def _of_container(container: dict[str, Any], shared: dict[str, Any]) -> list[str]:
    own = container.get("securityContext", {})
    both = {**shared, **own}
    capabilities = own.get("capabilities", {})
    checks = {
        "privileged": not own.get("privileged"),
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
        "capabilities are not dropped": capabilities.get("drop") == ["ALL"],
        "capabilities are added": set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
        "runs as root": both.get("runAsNonRoot") is True and both.get("runAsUser") != 0,
        "no seccomp profile": both.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"},
        "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
        "procMount": own.get("procMount", "Default") == "Default",
    }
    return [what for what, holds in checks.items() if not holds]
