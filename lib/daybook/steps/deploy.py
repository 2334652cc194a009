"""Deploy: release an image from ECR, or promote another environment's release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from daybook import aws, checks, images, settings, ui
from daybook.errors import PreflightFailed
from daybook.hosts import states
from daybook.plan import Plan
from daybook.steps import parameters
from daybook.steps.release_step import ImageRef, ReleaseStep
from daybook_release.printable import LABEL_CHARS, printable

COMMIT_LENGTH = 12


class Deploy(ReleaseStep):
    """Release a tag, a commit or a digest; or promote the release of another environment."""

    name = "deploy"
    next = "look at the page; to go back: daybook run rollback -p env {env}"

    @dataclass(frozen=True, kw_only=True)
    class Parameters(parameters.Parameters):
        image: str = ""
        """A tag, a commit, sha256:…, or another environment; "" for the commit of app/."""

    parameters: Parameters

    def target_checks(self) -> Mapping[str, checks.Check]:
        return {**super().target_checks(), "image": self._image_exists}

    def make_plan(self) -> Plan:
        return self.plan_release(self.image, self.host_states(), self.secret_versions())

    def apply_plan(self, plan: Plan) -> ui.Shown:
        if plan.is_empty:
            return ui.Notice(f"No changes: {self.env} serves this release", ui.OK)
        return self.release(plan, plan.basis["digest"])

    @cached_property
    def image(self) -> ImageRef:
        """Return the image that the parameters name, looked up once."""
        given, root = self.parameters.image, self.environment.root
        if given in settings.environments(root):
            return self._served_by(given)
        name = given or images.version_of(root, "app")
        digest = self._digest(name)
        return ImageRef(digest, self._version(name, digest), given or "the commit of app/ here")

    def _digest(self, name: str) -> str:
        app = self.settings.app
        for tag in dict.fromkeys((name, name[:COMMIT_LENGTH])):
            if digest := aws.image_digest(self.target, app, tag):
                return digest
        raise PreflightFailed(
            f"ECR has no image {app}:{name}.",
            expected="a tag, a commit, a digest, or an environment's name",
            next="push it first: CI does, or daybook run first-deploy at that commit",
        )

    def _version(self, name: str, digest: str) -> str:
        """Return an image's version: the tag of its commit if it has one."""
        if name.startswith("sha256:") or name.endswith("latest"):
            tags = aws.image_tags(self.target, self.settings.app, digest)
            tag = next((tag for tag in sorted(tags) if not tag.endswith("latest")), digest[:19])
            return printable(tag, LABEL_CHARS)
        return name[:COMMIT_LENGTH] if set(name) <= set("0123456789abcdef") else name

    def _served_by(self, env: str) -> ImageRef:
        """Return the image that every host of another environment serves, by its digest."""
        hosts = states.host_states(self.environment.other(env).hosts)
        served = {
            (host.current.digest, host.current.version) if host.current else ("", "nothing")
            for host in hosts
        }
        if len(served) != 1 or ("", "nothing") in served:
            raise PreflightFailed(
                f"{env}'s hosts serve different releases or none; it cannot be promoted.",
                observed=", ".join(sorted(version for _, version in served)) or "no host",
                next=f"daybook release current {env}",
            )
        digest, version = served.pop()
        return ImageRef(self._digest(digest), version, env)

    def _image_exists(self, name: str) -> checks.CheckResult:
        image = self.image
        observed = f"{image.version} {image.digest[:19]}, from {image.origin}"
        return checks.CheckResult(name, "in ECR", observed, is_ok=True)
