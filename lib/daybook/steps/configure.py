"""Configure: packages, Docker, Caddy and the application's folders on the hosts, with Ansible."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import httpx

from daybook import checks, github, images, probe, ui
from daybook.approval import gate
from daybook.errors import DaybookError
from daybook.hosts import located
from daybook.steps import common, infrastructure, playbooks, runners
from daybook.steps.base import Step

CADDY_S = 30


class Configure(Step):
    """Bring the environment's hosts to what ansible/ says."""

    name = "configure"
    next = "daybook run first-deploy -p env {env}"

    def questions_here(self) -> Mapping[str, checks.Check]:
        return {
            "ansible": playbooks.ansible_is_there(self),
            "playbook": checks.file_exists(
                self.root / "ansible" / f"{self.env}.yml",
                self.root,
                f"write ansible/{self.env}.yml, as ansible/staging.yml is",
            ),
            "SSH key": checks.file_exists(
                self.run.ssh_key,
                self.root,
                "correct ssh_key in the settings, or set DAYBOOK_SSH_KEY",
            ),
        }

    def questions_there(self) -> Mapping[str, checks.Check]:
        return {
            "inventory": located.are_known(self),
            "hosts": playbooks.hosts_are_running(self),
            "secrets": common.secrets_are_set(self),
            **({"runner": self._can_be_registered} if self._has_runner else {}),
        }

    def make_plan(self) -> gate.Proposal:
        tasks = [
            gate.Task("configure", host["name"], f"{host['public_ip']}: ansible/{self.env}.yml")
            for host in infrastructure.outputs(self)["instances"]
        ]
        basis = {
            **common.context(self),
            # Inventories name files of this computer; their hosts are the tasks.
            "ansible": images.tree_hash(self.root / "ansible", without=("inventories",)),
            "keys": common.team_keys(self),
        }
        return gate.Proposal(f"{self.run.title}: hosts to configure", tuple(tasks), basis)

    def apply_plan(self, plan: gate.Proposal) -> ui.Shown:
        played = playbooks.play(self, f"{self.env}.yml", self._registration())
        if not self._has_runner and self.settings.github.path:
            # Without a token there was none; GitHub drops by itself one that it does not hear of.
            with suppress(DaybookError):
                runners.forget(self)
        return played

    def look(self) -> ui.Shown:
        rows = [
            self._served(name, host)
            for host in infrastructure.outputs(self)["instances"]
            for name in self.settings.names
        ]
        return ui.Table(f"{self.run.title}: seen from outside", ("status", "what", "answer"), rows)

    @property
    def _has_runner(self) -> bool:
        return self.settings.deploy_via == "runner"

    def _can_be_registered(self, name: str) -> checks.CheckResult:
        """Ask GitHub for the runners that it has, as who may register one."""
        here = github.repository(self.target, self.env, self.settings)
        known = ", ".join(f"{each.name} {each.status}" for each in here.runners())
        return checks.CheckResult(name, f"of {here.path}", known or "none yet", is_ok=True)

    def _registration(self) -> dict[str, object]:
        """Return what role github_runner is told: a token for an hour, and whom GitHub knows."""
        if not self._has_runner:
            return {}
        here = github.repository(self.target, self.env, self.settings)
        token = here.registration_token()
        self.run.hide("GITHUB_RUNNER_TOKEN", token)
        known = [each.name for each in here.runners()]
        return {"github_runner_token": token, "github_runner_known": known}

    def _served(self, name: str, host: Mapping[str, str]) -> tuple:
        """Return a row about a name at a host, once plain HTTP leads to TLS and TLS answers."""
        url = f"https://{name}/"
        where = f"{url} at {host['name']}"

        def look() -> httpx.Response:
            plain = probe.fetch(f"http://{name}/", self.target.environ, at=host["public_ip"])
            if plain.status_code == httpx.codes.MISDIRECTED_REQUEST:
                return plain
            if plain.headers.get("location") != url:
                raise probe.NotYet(f"http://{name}/: HTTP {plain.status_code}, not led to {url}")
            return probe.fetch(url, self.target.environ, at=host["public_ip"])

        seen = probe.wait_until(look, what=where, timeout_s=CADDY_S)
        if seen.status_code == httpx.codes.MISDIRECTED_REQUEST:
            return ui.warn("not served"), where, "a new name: the next release serves it"
        server = seen.headers.get("server", "no name")
        return ui.good("answers"), where, f"{server}, HTTP {seen.status_code}"
