"""Configure: packages, Docker, Caddy and the application's folders on the hosts, with Ansible."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import httpx

from daybook import checks, github, images, playbooks, probe, ui
from daybook.errors import DaybookError
from daybook.plan import Change, Plan
from daybook.steps.base import Step

CADDY_S = 30


class Configure(Step):
    """Bring the environment's hosts to the state that ansible/ describes."""

    name = "configure"
    next = "daybook run first-deploy -p env {env}"

    def local_checks(self) -> Mapping[str, checks.Check]:
        root = self.environment.root
        return {
            "ansible": playbooks.ansible_version(self.environment),
            "playbook": checks.file_exists(
                root / "ansible" / f"{self.env}.yml",
                root,
                f"write ansible/{self.env}.yml, like ansible/staging.yml",
            ),
            "SSH key": playbooks.ssh_key_exists(self.environment),
        }

    def target_checks(self) -> Mapping[str, checks.Check]:
        return {
            "inventory": playbooks.inventory_is_known(self.environment),
            "hosts": playbooks.hosts_are_running(self.environment),
            "secrets": checks.secrets_are_set(self.environment),
            **({"runner": self._can_be_registered} if self._has_runner else {}),
        }

    def make_plan(self) -> Plan:
        changes = [
            Change("configure", host["name"], f"{host['public_ip']}: ansible/{self.env}.yml")
            for host in self.outputs()["instances"]
        ]
        basis = {
            **self.environment.digest_context,
            # Inventories name files of this computer; their hosts are in the changes.
            "ansible": images.tree_hash(
                self.environment.root / "ansible", without=("inventories",)
            ),
            "keys": self.environment.team_keys(),
        }
        return Plan(f"{self.run.title}: hosts to configure", tuple(changes), basis)

    def apply_plan(self, plan: Plan) -> ui.Shown:
        played = playbooks.play(
            self.environment,
            f"{self.env}.yml",
            variables=self._registration(),
            on_change=self.run.changed,
        )
        if not self._has_runner and self.settings.github.path:
            # GitHub removes a silent runner itself; without a token there was none.
            with suppress(DaybookError):
                github.deregister_runners(self.environment, self.run.changed)
        return played

    def look(self) -> ui.Shown:
        rows = [
            self._served(name, host)
            for host in self.outputs()["instances"]
            for name in self.settings.domains
        ]
        title = f"{self.run.title}: seen from outside"
        by_hand = [
            f"By hand: {probe.curl(f'https://{name}/', host['public_ip'], self.target.environ)}"
            for host in self.outputs()["instances"]
            for name in self.settings.domains[:1]
        ]
        return ui.Table(title, ("status", "URL", "answer"), rows, notes=by_hand)

    @property
    def _has_runner(self) -> bool:
        return self.settings.deploy_via == "runner"

    def _can_be_registered(self, name: str) -> checks.CheckResult:
        """List the runners on GitHub; the call needs the permission to register one."""
        repository = github.repository(self.environment)
        known = ", ".join(f"{runner.name} {runner.status}" for runner in repository.runners())
        return checks.CheckResult(name, f"of {repository.path}", known or "none yet", is_ok=True)

    def _registration(self) -> dict[str, object]:
        """Return the variables of role github_runner: a token for an hour, and known runners."""
        if not self._has_runner:
            return {}
        repository = github.repository(self.environment)
        token = repository.registration_token()
        self.run.hide("GITHUB_RUNNER_TOKEN", token)
        known = [runner.name for runner in repository.runners()]
        return {"github_runner_token": token, "github_runner_known": known}

    def _served(self, name: str, host: Mapping[str, str]) -> tuple:
        """Return a row about a name at a host, once HTTP redirects to HTTPS and HTTPS answers."""
        url = f"https://{name}/"
        subject = f"{url} at {host['name']}"

        def look() -> httpx.Response:
            plain = probe.fetch(f"http://{name}/", self.target.environ, at=host["public_ip"])
            if plain.status_code == httpx.codes.MISDIRECTED_REQUEST:
                return plain
            if plain.headers.get("location") != url:
                raise probe.NotYet(
                    f"http://{name}/: HTTP {plain.status_code}, no redirect to {url}"
                )
            return probe.fetch(url, self.target.environ, at=host["public_ip"])

        seen = probe.wait_until(look, condition=subject, timeout_s=CADDY_S)
        if seen.status_code == httpx.codes.MISDIRECTED_REQUEST:
            return ui.warn("not served"), subject, "a new name: the next release serves it"
        server = seen.headers.get("server", "no name")
        return ui.good("answers"), subject, f"{server}, HTTP {seen.status_code}"
