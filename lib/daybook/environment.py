"""An environment: its name, settings and target, and access to its resources."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from botocore.client import BaseClient

from daybook import aws, process, settings, signers, target, terraform
from daybook.errors import PreflightFailed
from daybook.hosts import ssh_keys
from daybook.hosts.client import Host
from daybook.hosts.inventory import Inventory
from daybook.hosts.keys import HostKeys
from daybook.settings import Settings
from daybook.target import Target

ACCOUNT = "account"
"""The name of the lock and the Terraform folder of resources that environments share."""


@dataclass(frozen=True)
class Environment:
    """One environment of the application, such as `staging`.

    start: starts tools, as `process.run` does; a run passes a function that also records them.
    """

    name: str
    root: Path
    settings: Settings
    target: Target
    start: process.Start = field(default=process.run, repr=False, compare=False)

    @classmethod
    def load(cls, root: Path, name: str, *, rehearse: bool = False) -> Environment:
        """Load an environment from its settings; SettingsError lists every mistake.

        rehearse: target the sandbox instead of the account in the settings.
        """
        loaded = settings.load(root, name)
        resolved = target.resolve(loaded, root, rehearse=rehearse)
        return cls(name, root, loaded, resolved, process.run)

    def with_start(self, start: process.Start) -> Environment:
        """Return a copy of the environment that starts tools with `start`."""
        return replace(self, start=start)

    @property
    def prefix(self) -> str:
        """Return the prefix of the environment's names in AWS: `hello-staging`."""
        return f"{self.settings.app}-{self.name}"

    @property
    def is_rehearsal(self) -> bool:
        """True if the target is the sandbox and the settings name an AWS account."""
        return self.target.is_sandbox and self.settings.account != "sandbox"

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags of the environment's resources."""
        return {"app": self.settings.app, "environment": self.name, "managed_by": "daybook"}

    @property
    def digest_context(self) -> dict[str, str]:
        """Return the part of a plan's basis that identifies the target."""
        return {
            "account": self.target.account,
            "region": self.target.region,
            "target": self.target.name,
        }

    def client(self, service: str) -> BaseClient:
        """Return the boto3 client of an AWS service; it is created once."""
        return aws.client(self.target, service)

    @property
    def state_bucket(self) -> str:
        """Return the bucket for Terraform's state, locks and pending plans."""
        return f"{self.settings.app}-state-{self.target.account}"

    @property
    def records_bucket(self) -> str:
        """Return the bucket for closed records."""
        return f"{self.settings.app}-records-{self.target.account}"

    @property
    def ssh_key(self) -> Path:
        """Return the operator's private key."""
        return target.ssh_key(self.settings, self.target)

    @property
    def ssh_public_key(self) -> Path:
        """Return the public key beside the private key."""
        return self.ssh_key.with_name(self.ssh_key.name + ".pub")

    def team_keys(self) -> list[str]:
        """Return the public keys that may log in to the hosts, including the operator's."""
        own = self.ssh_public_key.read_text(encoding="utf-8")
        team = ssh_keys.public_keys(signers.load(self.root), self.prefix)
        return ssh_keys.keys_for_hosts(own, team)

    @cached_property
    def others(self) -> Mapping[str, Environment]:
        """Return the project's other environments with valid settings, by name."""
        return {
            name: replace(self, name=name, settings=loaded)
            for name, loaded in settings.others(self.root, self.name)[0]
        }

    @cached_property
    def invalid_others(self) -> tuple[str, ...]:
        """Return the names of the other environments with invalid settings."""
        return tuple(settings.others(self.root, self.name)[1])

    @cached_property
    def of_account(self) -> Mapping[str, Settings]:
        """Return the settings of the application's environments in this account, by name."""
        return settings.of_account(self.root, self.name, self.settings)

    def other(self, name: str) -> Environment:
        """Return another environment of the project; it targets the sandbox if this one does."""
        loaded = Environment.load(self.root, name, rehearse=self.target.is_sandbox)
        return loaded.with_start(self.start)

    @property
    def state_key(self) -> str:
        """Return the key of the Terraform state in its bucket."""
        return terraform.state_lock.state_key("environment", self.name)

    def state(self) -> str:
        """Return the Terraform state, which may contain secrets; "" before the first apply."""
        return aws.state_text(self.target, self.state_bucket, self.state_key)

    def state_version(self) -> str:
        """Return the state's serial and lineage, without its content."""
        return aws.state_version(self.target, self.state_bucket, self.state_key)

    def outputs(self) -> terraform.Outputs:
        """Return Terraform's outputs from the state; PreflightFailed if not provisioned."""
        outputs = terraform.outputs_in(self.state())
        self._require_own_hosts(outputs)
        return outputs

    @property
    def backend(self) -> dict[str, str]:
        """Return Terraform's settings for the S3 backend."""
        return {
            "bucket": self.state_bucket,
            "region": self.target.region,
            "use_path_style": "true",
        }

    def terraform(
        self,
        folder: Path | None = None,
        *,
        log: Path | None = None,
        on_lock: Callable[[str], None] = lambda _id: None,
    ) -> terraform.Terraform:
        """Return Terraform for terraform/environment, in the environment's workspace.

        folder: another folder, in its default workspace: terraform/account, or a copy of it.
        """
        workspace = "default" if folder else self.name
        folder = folder or self.root / "terraform" / "environment"
        return terraform.Terraform(
            folder,
            workspace=workspace,
            env={**self.target.environ, **terraform.mirror_config(self.root)},
            data_dir=self.terraform_data_dir(folder.name, workspace),
            start=self.start,
            log=log,
            on_lock=on_lock,
            unlock=self._unlock_command(ACCOUNT if workspace == "default" else self.name),
        )

    def terraform_data_dir(self, folder: str = "environment", workspace: str = "") -> Path:
        """Return Terraform's data directory for a folder and workspace."""
        target, workspace = self.target, workspace or self.name
        name = f"{target.name}-{target.account}-{self.settings.app}-{folder}-{workspace}"
        return self.root / ".cache" / "terraform" / name

    @cached_property
    def inventory(self) -> Inventory:
        """Return the Ansible inventory; a rehearsal uses a separate one."""
        name = f"rehearsal-{self.name}" if self.is_rehearsal else self.name
        return Inventory(self.root / "ansible" / "inventories" / name)

    @cached_property
    def host_keys(self) -> HostKeys:
        """Return the store of the hosts' SSH keys, next to the Terraform state."""
        key = f"env:/{self.name}/environment/known_hosts"
        return HostKeys(self.client("s3"), self.state_bucket, key)

    def write_inventory(self) -> Inventory:
        """Write the inventory from the state and return it; PreflightFailed if there are no hosts.

        The file in the checkout is only a copy: edits to it have no effect.
        """
        outputs, keys = self.outputs(), self.host_keys.read()
        if not keys:
            raise PreflightFailed(
                f"The SSH host keys of {self.name} are unknown.",
                expected=self.host_keys.url,
                observed="no object",
                next=f"daybook run provision -p env {self.name}",
            )
        self.inventory.write(outputs, keys)
        return self.inventory

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Write the inventory and return its hosts, in its order."""
        inventory = self.write_inventory()
        return tuple(
            Host(
                name,
                address,
                self.ssh_key,
                inventory.known_hosts,
                self.target.environ,
                self.start,
            )
            for name, address in inventory.hosts().items()
        )

    def _unlock_command(self, name: str) -> str:
        """Return the command that removes Terraform's lock on a state, with a placeholder {id}."""
        words = ["daybook", "lock", "break", name, *(["--rehearse"] if self.is_rehearsal else [])]
        return shlex.join([*words, "--reason", "Terraform was killed", "--terraform"]) + " {id}"

    def _require_own_hosts(self, outputs: Mapping) -> None:
        if not outputs.get("instances"):
            raise PreflightFailed(
                f"{self.name} is not provisioned.",
                expected="at least one instance in Terraform's outputs",
                observed="none",
                next=f"daybook run provision -p env {self.name}",
            )
        names = [host["name"] for host in outputs["instances"]]
        if outputs["environment"] != self.name or not all(
            name.startswith(self.prefix) for name in names
        ):
            raise PreflightFailed(
                f"The hosts in the state of {self.name} belong to another environment.",
                expected=f"hosts of {self.name}, named {self.prefix}…",
                observed=f"{', '.join(names)} of {outputs['environment']}",
                next=f"check the workspace: terraform workspace select {self.name}",
            )
