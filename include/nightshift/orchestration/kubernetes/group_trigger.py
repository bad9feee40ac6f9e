"""The trigger that follows a group of pods, of a Job or a TrainJob, with the log of its first node in the task's log."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.providers.cncf.kubernetes.utils.pod_manager import AsyncPodManager
from airflow.triggers.base import BaseTrigger, TriggerEvent

from nightshift.orchestration.kubernetes.kinds import KINDS, condition, nodes_of
from nightshift.orchestration.kubernetes.labels import GROUP
from nightshift.orchestration.kubernetes.manifests import CONTAINERS
from nightshift.settings.compute import Launcher

POLL_SECONDS = 5
LOG_SECONDS = 15
EVENT_SECONDS = 20
REFUSALS = 12  # a minute of them
INDEX = "batch.kubernetes.io/job-completion-index"


class GroupTrigger(BaseTrigger):
    """Waits for the end of a group of pods.

    An API server that does not answer is asked again: the cluster itself ends a Job that runs too long.

    :param launcher: what started the pods; triggers of older releases leave it out.
    :param pending_seconds: longest wait for pods, and of pods for a node, an image or a volume.
    """

    def __init__(
        self,
        *,
        name: str,
        namespace: str,
        connection: str,
        in_cluster: bool | None,
        pending_seconds: float,
        launcher: Launcher = "job",
    ) -> None:
        super().__init__()
        self.name = name
        self.launcher = launcher
        self.namespace = namespace
        self.connection = connection
        self.in_cluster = in_cluster
        self.pending_seconds = pending_seconds
        self._seen: set[str] = set()
        self._next_events = 0.0
        self._state = ""
        self._pending_since: float | None = None
        self._read_of: tuple[str, Any, float] = ("", None, 0.0)  # pod, read up to, when

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and arguments with which the triggerer recreates this trigger."""
        names = ("name", "launcher", "namespace", "connection", "in_cluster", "pending_seconds")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    @cached_property
    def cluster(self) -> AsyncKubernetesHook:
        """The cluster of the connection."""
        return AsyncKubernetesHook(conn_id=self.connection, in_cluster=self.in_cluster)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, `{"phase": "ended" | "gone" | "stuck" | "forbidden"}`, when the wait is over."""
        from kubernetes_asyncio.client.exceptions import ApiException

        refusals = 0
        while True:
            phase, text = None, ""
            try:
                phase = await self._look()
                refusals = 0
            except ApiException as error:
                text = f"{error.status} {error.reason}"
                refusals = refusals + 1 if error.status in {401, 403} else 0
                if error.status == 404:
                    phase = "gone"
                elif refusals >= REFUSALS:
                    phase = "forbidden"
                else:
                    self.log.warning("the cluster does not answer, asking again: %s", text)
            except Exception as error:
                self.log.warning("the cluster cannot be reached, asking again: %s", error)
            if phase:
                yield TriggerEvent({"phase": phase, "text": text})
                return
            await asyncio.sleep(POLL_SECONDS)

    async def on_kill(self) -> None:
        """Delete the Job with all that it owns: a person ended the task."""
        from kubernetes_asyncio.client import CustomObjectsApi

        self.log.info("deleting %s in namespace %s", self.name, self.namespace)
        async with self.cluster.get_conn() as connection:
            await CustomObjectsApi(connection).delete_namespaced_custom_object(
                **KINDS[self.launcher].objects_of(self.namespace), name=self.name, propagation_policy="Background"
            )

    async def _look(self) -> str | None:
        from kubernetes_asyncio.client import CoreV1Api, CustomObjectsApi

        async with self.cluster.get_conn() as connection:
            core = CoreV1Api(connection)
            job = await CustomObjectsApi(connection).get_namespaced_custom_object(
                **KINDS[self.launcher].objects_of(self.namespace), name=self.name
            )
            pods = (await core.list_namespaced_pod(self.namespace, label_selector=f"{GROUP}={self.name}")).items
            over = condition(job, "Complete", "Failed") is not None
            self._tell(job, pods)
            await self._logging_errors(self._events(core))
        await self._logging_errors(self._follow(pods, to_the_end=over))
        if over:
            return "ended"
        return "stuck" if self._is_stuck(job, pods) else None

    async def _logging_errors(self, reading: Awaitable[None]) -> None:
        """Await events or the log; their errors are logged, since they must not hide the end of the pods."""
        try:
            await reading
        except Exception as error:
            if str(error) not in self._seen:
                self.log.warning("events or the log cannot be read: %s", error)
            self._seen.add(str(error))

    def _tell(self, job: Any, pods: list[Any]) -> None:
        phases = Counter(pod.status.phase for pod in pods)
        waits = job["spec"].get("suspend")
        state = "waits to be admitted" if waits else ", ".join(f"{n} {p}" for p, n in sorted(phases.items()))
        if state != self._state:
            self._state = state
            self.log.info("%s: %s of %d nodes", self.name, state or "no pod yet", nodes_of(job))

    def _is_stuck(self, job: Any, pods: list[Any]) -> bool:
        # Deadlines of pods do not apply without a pod, as when Kubeflow Trainer is down or the namespace is full.
        waits = job["spec"].get("suspend") or not pods or any(pod.status.phase == "Pending" for pod in pods)
        if not waits:
            self._pending_since = None
            return False
        self._pending_since = self._pending_since or time.monotonic()
        return time.monotonic() - self._pending_since > self.pending_seconds

    async def _events(self, core: Any) -> None:
        if time.monotonic() < self._next_events:
            return
        self._next_events = time.monotonic() + EVENT_SECONDS
        for event in (await core.list_namespaced_event(self.namespace, field_selector="type=Warning")).items:
            key, name = f"{event.metadata.uid}/{event.count}", event.involved_object.name or ""
            # Events of the group, its pods and the objects that Trainer made in between.
            ours = name == self.name or name.startswith(f"{self.name}-")
            if ours and key not in self._seen:
                self._seen.add(key)
                self.log.warning("%s: %s: %s", name, event.reason, event.message)

    async def _follow(self, pods: list[Any], *, to_the_end: bool) -> None:
        first = [pod for pod in pods if (pod.metadata.annotations or {}).get(INDEX) == "0"]
        first = [pod for pod in first if pod.status.phase in {"Running", "Succeeded", "Failed"}]
        if not first:
            return
        newest = max(first, key=lambda pod: pod.metadata.creation_timestamp)
        name, since, when = self._read_of
        if name != newest.metadata.name:
            if last := [pod for pod in first if pod.metadata.name == name]:
                # The end of its log explains why the pod was replaced.
                await self._read(last[0], since)
            since, when = None, 0.0
        if to_the_end or time.monotonic() - when >= LOG_SECONDS:
            read = await self._read(newest, since)
            self._read_of = (newest.metadata.name, read or since, time.monotonic())

    async def _read(self, pod: Any, since: Any) -> Any:
        manager = AsyncPodManager(self.cluster)
        return await manager.fetch_container_logs_before_current_sec(pod, CONTAINERS[self.launcher], since_time=since)
