"""EC2 instances as Docker containers, started and stopped by the API or from inside."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from docker import DockerClient
from docker.errors import NotFound
from docker.models.containers import Container
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance
from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from daybook_sandbox import console, containers, seed
from daybook_sandbox.api import transition
from daybook_sandbox.networks import Networks
from daybook_sandbox.state import LABEL, PREFIX, Home, Ports

LOG = logging.getLogger(__name__)
BOOT_S = 90
# The exit code of systemd as a container's PID 1 after a reboot.
REBOOTED = 129
REBOOT_SIGNAL = "SIGRTMIN+5"
INSTANCE_LABEL = f"{LABEL}.instance"


class BootFailed(Exception):
    """A machine's container exited during boot."""


@dataclass(frozen=True)
class Context:
    """The dependencies shared by all machines."""

    engine: DockerClient
    networks: Networks
    home: Home
    ports: Ports
    image: str


class Machine:
    """One instance's container; a dedicated thread runs its requests in order.

    A failed request still leaves the instance in a final state, so that waiters return.
    """

    def __init__(self, context: Context, instance: Instance) -> None:
        self._context = context
        self._instance = instance
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=instance.id)

    def submit(self, request: Callable[..., None], *args: int) -> None:
        """Queue one of the methods below."""
        self._thread.submit(self._run, request, *args)

    def launch(self) -> None:
        """Create and boot the container; terminate the instance if that fails, as EC2 does."""
        started = time.monotonic()
        try:
            self._create()
            self._boot()
        except Exception as error:
            self._fail("pending", "terminated", error)
            self._remove()
            return
        transition(self._instance, "pending", "running")
        LOG.info("%s is running after %.1f s", self._instance.id, time.monotonic() - started)
        self._store_host_keys()

    def start(self) -> None:
        """Boot a stopped machine with the same disk and address; cloud-init does not run again."""
        try:
            self._boot()
        except Exception as error:
            self._fail("pending", "stopped", error)
        transition(self._instance, "pending", "running")

    def stop(self) -> None:
        """Shut down cleanly."""
        try:
            self._container.stop(timeout=containers.STOP_TIMEOUT_S)
        finally:
            transition(self._instance, "stopping", "stopped")

    def reboot(self) -> None:
        """Request a reboot of systemd; `exited` boots the container again."""
        self._container.kill(signal=REBOOT_SIGNAL)

    def terminate(self) -> None:
        """Remove the container and its disk."""
        try:
            self._remove()
            console.forget(self._context.home.known_hosts, self._instance.id)
        finally:
            transition(self._instance, "shutting-down", "terminated")
            self._thread.shutdown(wait=False)

    def exited(self, exit_code: int) -> None:
        """Handle a container that exited by itself: boot after a reboot, stop after a poweroff."""
        if self._instance.state != "running" or self._container.status == "running":
            return
        if exit_code == REBOOTED:
            try:
                self._boot()
            except Exception as error:
                self._fail("running", "stopped", error)
        elif self._instance.instance_initiated_shutdown_behavior == "terminate":
            self._instance.terminate()
        else:
            reason = "Client.InstanceInitiatedShutdown: Instance initiated shutdown"
            transition(self._instance, "running", "stopped", reason)

    def console(self) -> str:
        """Return the output since the last boot, as EC2 does."""
        try:
            container = self._container
        except NotFound:
            return ""
        since = console.timestamp(container.attrs["State"]["StartedAt"])
        return container.logs(since=since).decode("utf-8", "replace")

    def execute(self, script: str) -> tuple[int, str, str]:
        """Run a script as root in a systemd service; return its exit code, stdout and stderr."""
        command = ["systemd-run", "--pipe", "--wait", "--quiet", "--collect", "sh", "-c", script]
        code, streams = self._container.exec_run(command, demux=True)
        out, err = ((stream or b"").decode("utf-8", "replace") for stream in streams)
        return code, out, err

    @property
    def _container(self) -> Container:
        return self._context.engine.containers.get(container_name(self._instance.id))

    def _run(self, request: Callable[..., None], *args: int) -> None:
        try:
            request(self, *args)
        except Exception:
            LOG.exception("%s: %s failed", self._instance.id, request.__name__)

    def _create(self) -> None:
        instance, context = self._instance, self._context
        vpc = instance.ec2_backend.get_vpc(instance.vpc_id)
        network = context.networks.of_vpc(vpc.id, vpc.cidr_block)
        container = containers.create(
            context.engine,
            context.image,
            name=container_name(instance.id),
            hostname=seed.hostname(instance),
            labels=context.home.labels | {INSTANCE_LABEL: instance.id},
            memory_bytes=memory_mib(instance.instance_type) << 20,
            network=network.name,
            ip=instance.private_ip,
        )
        contents = seed.files(instance, network, context.ports, context.home.ca_file)
        container.put_archive("/", seed.archive(contents))

    def _boot(self) -> None:
        """Start the container and wait for its sshd."""
        self._container.start()
        for attempt in Retrying(
            retry=retry_if_exception_type(OSError),
            stop=stop_after_delay(BOOT_S),
            wait=wait_fixed(0.1),
        ):
            with attempt:
                self._restart_if_rebooted()
                _read_banner(self._instance.private_ip)

    def _restart_if_rebooted(self) -> None:
        state = self._container.attrs["State"]
        if not state["Running"] and state["ExitCode"] != REBOOTED:
            raise BootFailed(f"its container exited with {state['ExitCode']} during boot")
        if not state["Running"]:
            self._container.start()

    def _remove(self) -> None:
        with suppress(NotFound):
            self._container.remove(v=True, force=True)

    def _fail(self, before: str, after: str, error: Exception) -> None:
        LOG.error("%s did not boot", self._instance.id, exc_info=error)
        transition(self._instance, before, after, f"Server.InternalError: {error}")

    def _store_host_keys(self) -> None:
        """Store the host keys from the console; only the first boot prints them."""
        keys = Retrying(
            retry=retry_if_result(lambda keys: not keys and self._instance.state == "running"),
            stop=stop_after_delay(BOOT_S),
            wait=wait_fixed(0.2),
        )(lambda: console.host_keys(self.console()))
        console.remember(self._context.home.known_hosts, self._instance.id, keys)


class Machines:
    """All machines; the API's interface to them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._machines: dict[str, Machine] = {}

    def start_watching(self) -> None:
        """Watch for containers that exit by themselves."""
        threading.Thread(target=self._watch, name="machines", daemon=True).start()

    def launch(self, instance: Instance) -> None:
        self._machines[instance.id] = Machine(self._context, instance)
        self._machines[instance.id].submit(Machine.launch)

    def start(self, instance: Instance) -> None:
        self._machines[instance.id].submit(Machine.start)

    def stop(self, instance: Instance) -> None:
        self._machines[instance.id].submit(Machine.stop)

    def reboot(self, instance: Instance) -> None:
        self._machines[instance.id].submit(Machine.reboot)

    def terminate(self, instance: Instance) -> None:
        self._machines[instance.id].submit(Machine.terminate)

    def console(self, instance: Instance) -> str:
        return self._machines[instance.id].console()

    def execute(self, instance: Instance, script: str) -> tuple[int, str, str]:
        """Run a script on a machine as its Systems Manager agent would."""
        return self._machines[instance.id].execute(script)

    def _watch(self) -> None:
        labels = [f"{key}={value}" for key, value in self._context.home.labels.items()]
        filters = {"type": "container", "event": "die", "label": labels}
        for event in self._context.engine.events(filters=filters, decode=True):
            attributes = event["Actor"]["Attributes"]
            if machine := self._machines.get(attributes.get(INSTANCE_LABEL, "")):
                machine.submit(Machine.exited, int(attributes["exitCode"]))


def container_name(instance_id: str) -> str:
    """Return the name of an instance's container."""
    return f"{PREFIX}-{instance_id}"


def memory_mib(instance_type: str) -> int:
    """Return the memory of an instance type; 1 GiB for unknown types."""
    return INSTANCE_TYPES.get(instance_type, {}).get("MemoryInfo", {}).get("SizeInMiB", 1024)


def _read_banner(ip: str) -> None:
    with socket.create_connection((ip, 22), timeout=2) as connection:
        if not connection.recv(4).startswith(b"SSH"):
            raise ConnectionError("no SSH banner")
