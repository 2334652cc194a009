"""First deploy: the application's image into ECR, and from there onto the hosts."""

from __future__ import annotations

from collections.abc import Mapping

from daybook import aws, checks, images, probe, ui
from daybook.errors import ApplyFailed, VerifyFailed
from daybook.gates import gate
from daybook.step import Step
from daybook.steps import common

ANSWER_S = 60


class FirstDeploy(Step):
    """Build and push what is in app/ unless ECR has it, start it, and look at its page."""

    name = "first-deploy"
    next = "open the page; to take everything down again: daybook run teardown -p env {env}"

    def questions_here(self) -> Mapping[str, checks.Question]:
        configure = f"daybook run configure -p env {self.env}"
        return {
            "docker": checks.tool_is(
                ("docker", "--version"),
                self.target.environ,
                "apt install docker-cli",
                at_least=(20, 10),
            ),
            "ansible": common.ansible_is_there(self),
            "Dockerfile": checks.file_is(
                self.root / "app" / "Dockerfile", self.root, "write app/Dockerfile"
            ),
            "inventory": checks.file_is(common.inventory_path(self), self.root, configure),
        }

    def questions_there(self) -> Mapping[str, checks.Question]:
        return {
            "hosts": common.hosts_are_running(self),
            "ECR repository": checks.repository_is(
                self.target, self.settings.app, common.BOOTSTRAP_FIRST.format(env=self.env)
            ),
            "Docker engine": common.engine_answers(self),
            "secrets": common.secrets_are_set(self),
        }

    def make_plan(self) -> gate.Proposal:
        version = images.version_of(self.root, "app", env=self.target.environ, start=self.run.start)
        running = self._running_version()
        tasks = []
        if not aws.image_digest(self.target, self.settings.app, version):
            tasks.append(gate.Task("build and push", f"{self.settings.app}:{version}", "app/"))
        if running != version:
            tasks.append(gate.Task("release", version, f"in place of {running or 'nothing'}"))
        basis = {
            **common.context(self),
            "environment": self.env,
            "version": version,
            "app": images.tree_hash(self.root / "app"),
        }
        return gate.Proposal(f"{self.run.title}: image and release", tuple(tasks), basis)

    def apply_plan(self, plan: gate.Proposal) -> ui.Shown:
        if plan.is_empty:
            return ui.Notice(f"No changes: {self.env} runs this version", ui.OK)
        version, repository = plan.basis["version"], self.settings.app
        if not aws.image_digest(self.target, repository, version):
            self._build_and_push(version)
        digest = aws.image_digest(self.target, repository, version)
        if not digest:
            raise ApplyFailed(
                f"ECR has no image {repository}:{version} after the push.",
                changed="The image was built and pushed; nothing was released.",
                next="look at the push's log in the record's attachments",
            )
        registry = aws.registry_login(self.target)[0]
        release = {
            "release_image": f"{registry}/{repository}@{digest}",
            "release_version": version,
        }
        return common.play(self, "release.yml", release)

    def look(self) -> ui.Shown:
        url = f"https://{self.settings.names[0]}/"
        version = self._plan.basis["version"]
        seen = probe.wait_until(
            self._running_version_or_wait, what=f"{url}version", timeout_s=ANSWER_S
        )
        if seen != version:
            raise VerifyFailed(
                f"{url} serves another version.",
                expected=version,
                observed=seen,
                changed="The release was started.",
                next=f"daybook run first-deploy -p env {self.env}",
            )
        return ui.Notice(url, ui.good("serving"), (f"Version {seen} answers from outside.",))

    def _build_and_push(self, version: str) -> None:
        registry, user, password = aws.registry_login(self.target)
        self.run.hide("ECR_PASSWORD", password)
        moving = "latest" if self.env == "production" else f"{self.env}-latest"
        tags = [f"{registry}/{self.settings.app}:{tag}" for tag in (version, moving)]
        env = images.builder_environment(self.target.environ, self.run.start)
        with (
            ui.Progress(f"image {version}") as progress,
            images.login(registry, user, password, env=env, start=self.run.start) as logged_in,
        ):
            progress.row("build", ui.busy("building"), "app/")
            self.run.start(
                images.build_command(self.root / "app", tags),
                env=env,
                on_line=lambda line: line.startswith("Step ") and progress.say(line),
            )
            progress.row("build", ui.good("built"), "app/")
            for tag in tags:
                progress.row(tag, ui.busy("pushing"))
                self.run.start(images.push_command(tag), env=logged_in)
                progress.row(tag, ui.good("pushed"))

    def _running_version(self) -> str | None:
        try:
            return self._running_version_or_wait()
        except probe.NotYet:
            return None

    def _running_version_or_wait(self) -> str:
        url = f"https://{self.settings.names[0]}/version"
        answer = probe.fetch(url, self.target.environ)
        if answer.status_code != 200:
            raise probe.NotYet(f"{url}: HTTP {answer.status_code}")
        return answer.json()["version"]
