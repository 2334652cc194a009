"""Deploy: an image that ECR has onto every host, or to here what another environment serves."""

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
        for each in dict.fromkeys((name, name[:COMMIT_LENGTH])):
            if found := aws.image_digest(self.target, app, each):
                return found
        raise PreflightFailed(
            f"ECR has no image {app}:{name}.",
            expected="a tag, a commit, a digest, or an environment's name",
            next="push it first: CI does, or daybook run first-deploy at that commit",
        )

    def _version(self, name: str, digest: str) -> str:
        """Return what people call an image: the tag of its commit, when that is known."""
        if name.startswith("sha256:") or name.endswith("latest"):
            tags = aws.image_tags(self.target, self.settings.app, digest)
            tag = next((tag for tag in sorted(tags) if not tag.endswith("latest")), digest[:19])
            return printable(tag, LABEL_CHARS)
        return name[:COMMIT_LENGTH] if set(name) <= set("0123456789abcdef") else name

    def _served_by(self, env: str) -> ImageRef:
        """Return what every host of another environment serves, and none of it by a tag."""
        hosts = states.host_states(self.environment.other(env).hosts)
        found = {
            (each.current.digest, each.current.version) if each.current else ("", "nothing")
            for each in hosts
        }
        if len(found) != 1 or ("", "nothing") in found:
            raise PreflightFailed(
                f"{env}'s hosts serve different releases or none; it cannot be promoted.",
                observed=", ".join(sorted(version for _, version in found)) or "no host",
                next=f"daybook release current {env}",
            )
        digest, version = found.pop()
        return ImageRef(self._digest(digest), version, env)

    def _image_exists(self, name: str) -> checks.CheckResult:
        image = self.image
        observed = f"{image.version} {image.digest[:19]}, from {image.origin}"
        return checks.CheckResult(name, "in ECR", observed, is_ok=True)
