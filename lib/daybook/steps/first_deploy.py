"""First deploy: push the application's image to ECR, and release it on the hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from daybook import aws, checks, compose, delivery, images, process, ui
from daybook.environment import Environment
from daybook.errors import ApplyFailed
from daybook.plan import Change, Plan
from daybook.steps import parameters
from daybook.steps.release_step import ImageRef, ReleaseStep
from daybook_release import caddyfile


class FirstDeploy(ReleaseStep):
    """Build and push the image of app/ unless ECR has it, and release it."""

    name = "first-deploy"
    next = "open the page; for releases by git push: daybook github workflow {env} CHECKOUT"

    @dataclass(frozen=True, kw_only=True)
    class Parameters(parameters.Parameters):
        repository: str = ""
        """A checkout of the application's own repository, to write the workflow into."""

    parameters: Parameters

    def local_checks(self) -> Mapping[str, checks.Check]:
        root = self.environment.root
        return {
            **super().local_checks(),
            "docker": checks.tool_version(
                ("docker", "--version"),
                self.target.environ,
                "apt install docker-cli",
                at_least=(20, 10),
            ),
            "Dockerfile": checks.file_exists(
                self._app / "Dockerfile", root, "write app/Dockerfile"
            ),
            "compose.yaml": self._can_be_released,
            "Caddyfile": self._caddyfile_can_be_released,
        }

    def target_checks(self) -> Mapping[str, checks.Check]:
        return {**super().target_checks(), "Docker engine": self._engine_answers}

    def make_plan(self) -> Plan:
        version = self._version()
        digest = aws.image_digest(self.target, self.settings.app, version) or ""
        build = Change("build and push", f"{self.settings.app}:{version}", "app/")
        return self.plan_release(
            ImageRef(digest, version, "app/"),
            self.host_states(),
            self.secret_versions(),
            before=(*(() if digest else (build,)), *self._workflow()),
            app=images.tree_hash(self._app),
        )

    def apply_plan(self, plan: Plan) -> ui.Shown:
        if plan.is_empty:
            return ui.Notice(f"No changes: {self.env} serves this version", ui.OK)
        self._write_workflow()
        version = plan.basis["version"]
        digest = plan.basis["digest"] or self._build_and_push(version)
        return self.release(plan, digest)

    @property
    def _app(self) -> Path:
        return self.environment.root / "app"

    def _workflow(self) -> tuple[Change, ...]:
        """Return the workflow's files that the application's repository lacks."""
        if not (folder := self.parameters.repository):
            return ()
        missing = delivery.missing(Path(folder))
        return tuple(Change("write", str(file), f"into {folder}") for file in missing)

    def _write_workflow(self) -> None:
        if not self._workflow():
            return
        for line in delivery.write(self.environment, self.parameters.repository):
            self.run.changed(tool="daybook", action="wrote", what=line)

    def _build_and_push(self, version: str) -> str:
        """Build the image with the labels of a release, push it, and return its digest."""
        registry, user, password = aws.registry_login(self.target)
        self.run.hide("ECR_PASSWORD", password)
        tags = [f"{registry}/{self.settings.app}:{tag}" for tag in (version, self._moving_tag)]
        start = self.environment.start
        env = images.builder_environment(self.target.environ, start)
        with (
            ui.Progress(f"image {version}") as progress,
            images.login(registry, user, password, env=env, start=start) as logged_in,
        ):
            progress.row("build", ui.busy("building"), "app/")
            build = images.build_command(self._app, tags, self._labels(version))
            self.environment.start(
                build,
                env=env,
                on_line=_show_steps(progress),
                shown=images.typed_build(build, self._app),
            )
            progress.row("build", ui.good("built"), "app/")
            for tag in tags:
                progress.row(tag, ui.busy("pushing"))
                self.environment.start(images.push_command(tag), env=logged_in)
                progress.row(tag, ui.good("pushed"))
                self.run.changed(tool="docker", action="pushed", what=tag)
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
        commit = images.commit_of(self.environment.root, "app")
        return images.labels(self._app, version=version, commit=commit)

    def _version(self) -> str:
        return images.version_of(self.environment.root, "app")

    def _can_be_released(self, name: str) -> checks.CheckResult:
        """Check the compose file with the host's rules."""
        path = self._app / "compose.yaml"
        if not path.is_file():
            return checks.file_exists(path, self.environment.root, "write app/compose.yaml")(name)
        problems = compose.read(path, self.settings.secrets).problems
        fix = f"correct app/{path.name}; see docs/releases.md"
        observed = "; ".join(problems) or "can be"
        return checks.CheckResult(
            name, "can be released without downtime", observed, not problems, fix
        )

    def _caddyfile_can_be_released(self, name: str) -> checks.CheckResult:
        """Check the application's Caddyfile, if it has one, with the host's rules."""
        path = self._app / images.CARRIED["daybook.caddyfile"]
        if not path.is_file():
            return checks.CheckResult(name, "can be released", "Daybook's own", is_ok=True)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return checks.CheckResult(
                name, "UTF-8", "another encoding", False, f"convert app/{name}"
            )
        problems = caddyfile.check(text, self.settings.domains)
        observed = "; ".join(map(str, problems)) or "can be"
        fix = f"correct app/{name}; see docs/releases.md"
        return checks.CheckResult(name, "can be released", observed, not problems, fix)

    def _engine_answers(self, name: str) -> checks.CheckResult:
        """Check the Docker engine, unless ECR has the image."""
        version = self._version()
        if aws.image_digest(self.target, self.settings.app, version):
            return checks.CheckResult(name, "not needed", f"ECR has {version}", is_ok=True)
        return _engine_version(self.environment)(name)


def _engine_version(environment: Environment) -> checks.Check:
    """Check the Docker engine that builds images."""
    return checks.tool_version(
        ("docker", "version", "--format", "{{.Server.Version}}"),
        environment.target.environ,
        "start Docker, or add yourself to the docker group",
        at_least=(20, 10),
        start=environment.start,
    )


def _show_steps(progress: ui.Progress) -> process.OnLine:
    """Return a callback that shows the steps of a build."""

    def on_line(line: str) -> None:
        if line.startswith("Step ") and " : LABEL " not in line:
            progress.say(line)

    return on_line
