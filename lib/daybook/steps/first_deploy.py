"""First deploy: the application's image into ECR, and from there onto the hosts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from daybook import aws, checks, compose, delivery, images, process, ui
from daybook.approval import gate
from daybook.errors import ApplyFailed
from daybook.steps import common
from daybook.steps.deploy import ImageRef, deploy, proposal
from daybook.steps.releasing import ReleaseStep
from daybook_release import caddyfile


class FirstDeploy(ReleaseStep):
    """Build and push what is in app/ unless ECR has it, release it, and look at its page.

    repository: a checkout of the application's own repository, which then gets the workflow that
    releases its pushes; "" for none.
    """

    name = "first-deploy"
    next = "open the page; for releases by git push: daybook github workflow {env} CHECKOUT"

    def questions_here(self) -> Mapping[str, checks.Check]:
        dockerfile = self.root / "app" / "Dockerfile"
        return {
            **super().questions_here(),
            "docker": checks.tool_version(
                ("docker", "--version"),
                self.target.environ,
                "apt install docker-cli",
                at_least=(20, 10),
            ),
            "Dockerfile": checks.file_exists(dockerfile, self.root, "write app/Dockerfile"),
            "compose.yaml": self._can_be_released,
            "Caddyfile": self._caddyfile_can_be_released,
        }

    def questions_there(self) -> Mapping[str, checks.Check]:
        return {**super().questions_there(), "Docker engine": self._engine_answers}

    def make_plan(self) -> gate.Proposal:
        version = self._version()
        digest = aws.image_digest(self.target, self.settings.app, version) or ""
        build = gate.Task("build and push", f"{self.settings.app}:{version}", "app/")
        return proposal(
            self,
            ImageRef(digest, version, "app/"),
            self.look_around(),
            tasks=(*(() if digest else (build,)), *self._workflow()),
            app=images.tree_hash(self.root / "app"),
        )

    def apply_plan(self, plan: gate.Proposal) -> ui.Shown:
        if plan.is_empty:
            return ui.Notice(f"No changes: {self.env} serves this version", ui.OK)
        self._write_workflow()
        version = plan.basis["version"]
        digest = plan.basis["digest"] or self._build_and_push(version)
        return deploy(self, digest, plan)

    def _workflow(self) -> tuple[gate.Task, ...]:
        """Return the files of the workflow that the application's repository has not."""
        if not (folder := self.run.parameters.get("repository")):
            return ()
        missing = delivery.missing(Path(str(folder)))
        return tuple(gate.Task("write", str(file), f"into {folder}") for file in missing)

    def _write_workflow(self) -> None:
        if not self._workflow():
            return
        folder = str(self.run.parameters["repository"])
        for said in delivery.write(self.root, self.target, self.settings, folder):
            self.run.write("change", tool="daybook", action="wrote", what=said)

    def _build_and_push(self, version: str) -> str:
        """Build the image with all that makes it a release, push it, and return its digest."""
        registry, user, password = aws.registry_login(self.target)
        self.run.hide("ECR_PASSWORD", password)
        tags = [f"{registry}/{self.settings.app}:{tag}" for tag in (version, self._moving_tag)]
        env = images.builder_environment(self.target.environ, self.run.start)
        with (
            ui.Progress(f"image {version}") as progress,
            images.login(registry, user, password, env=env, start=self.run.start) as logged_in,
        ):
            progress.row("build", ui.busy("building"), "app/")
            self.run.start(
                images.build_command(self.root / "app", tags, self._labels(version)),
                env=env,
                on_line=_saying(progress),
            )
            progress.row("build", ui.good("built"), "app/")
            for tag in tags:
                progress.row(tag, ui.busy("pushing"))
                self.run.start(images.push_command(tag), env=logged_in)
                progress.row(tag, ui.good("pushed"))
                self.run.write("change", tool="docker", action="pushed", what=tag)
        return self._pushed(version)

    def _pushed(self, version: str) -> str:
        if digest := aws.image_digest(self.target, self.settings.app, version):
            return digest
        raise ApplyFailed(
            f"ECR has no image {self.settings.app}:{version} after the push.",
            changed="The image was built and pushed; nothing was released.",
            next="look at the push's log in the record's attachments",
        )

    @property
    def _moving_tag(self) -> str:
        return "latest" if self.env == "production" else f"{self.env}-latest"

    def _labels(self, version: str) -> dict[str, str]:
        start, env = self.run.start, self.target.environ
        commit = images.commit_of(self.root, "app", env=env, start=start)
        return images.labels(self.root / "app", version=version, commit=commit)

    def _version(self) -> str:
        return images.version_of(self.root, "app", env=self.target.environ, start=self.run.start)

    def _can_be_released(self, name: str) -> checks.CheckResult:
        """Hold the compose file to the rules that the host's program has too."""
        path = self.root / "app" / "compose.yaml"
        if not path.is_file():
            return checks.file_exists(path, self.root, "write app/compose.yaml")(name)
        problems = compose.read(path, self.settings.secrets).problems
        fix = f"mend app/{path.name}; see docs/releases.md"
        observed = "; ".join(problems) or "can be"
        return checks.CheckResult(
            name, "can be released without downtime", observed, not problems, fix
        )

    def _caddyfile_can_be_released(self, name: str) -> checks.CheckResult:
        """Check the application's Caddyfile, if it has one, as a host checks its words."""
        path = self.root / "app" / images.CARRIED["daybook.caddyfile"]
        if not path.is_file():
            return checks.CheckResult(name, "can be released", "Daybook's own", is_ok=True)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return checks.CheckResult(
                name, "UTF-8", "another encoding", False, f"convert app/{name}"
            )
        found = caddyfile.check(text, self.settings.names)
        observed = "; ".join(map(str, found)) or "can be"
        fix = f"correct app/{name}; see docs/releases.md"
        return checks.CheckResult(name, "can be released", observed, not found, fix)

    def _engine_answers(self, name: str) -> checks.CheckResult:
        """Ask for the engine that builds, unless there is nothing to build."""
        version = self._version()
        if aws.image_digest(self.target, self.settings.app, version):
            return checks.CheckResult(name, "not needed", f"ECR has {version}", is_ok=True)
        return common.engine_answers(self)(name)


def _saying(progress: ui.Progress) -> process.OnLine:
    """Return what tells the steps of a build; a label's text is for the host."""

    def on_line(line: str) -> None:
        if line.startswith("Step ") and " : LABEL " not in line:
            progress.say(line)

    return on_line
