"""Deploy: an image that ECR has onto every host, or to here what another environment serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daybook import aws, checks, images, settings, ui
from daybook.approval import gate
from daybook.errors import PreflightFailed
from daybook.hosts import states
from daybook.hosts.states import HostState
from daybook.steps import common
from daybook.steps.releasing import HostChange, ReleasePlan, ReleaseStep, repository
from daybook_release.printable import LABEL_CHARS, printable

COMMIT_LENGTH = 12


@dataclass(frozen=True)
class ImageRef:
    """An image that is to be served. origin: where its name came from."""

    digest: str
    version: str
    origin: str


class Deploy(ReleaseStep):
    """Release a tag, a commit or a digest; or promote what another environment serves."""

    name = "deploy"
    next = "look at the page; to go back: daybook run rollback -p env {env}"

    def questions_there(self) -> Mapping[str, checks.Check]:
        return {**super().questions_there(), "image": self._image_is_there}

    def make_plan(self) -> gate.Proposal:
        return proposal(self, self.wanted(), self.look_around())

    def apply_plan(self, plan: gate.Proposal) -> ui.Shown:
        if plan.is_empty:
            return ui.Notice(f"No changes: {self.env} serves this release", ui.OK)
        return deploy(self, plan.basis["digest"], plan)

    def wanted(self) -> ImageRef:
        """Return the image that the parameters ask for."""
        given = str(self.run.parameters.get("image") or "")
        if given in settings.environments(self.root):
            return self._served_by(given)
        name = given or images.version_of(
            self.root, "app", env=self.target.environ, start=self.run.start
        )
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
        place = states.Place.of(self.root, env, rehearse=self.target.is_sandbox)
        found = {
            (each.current.digest, each.current.version) if each.current else ("", "nothing")
            for each in states.host_states(place, self.run.start)
        }
        if len(found) != 1 or ("", "nothing") in found:
            raise PreflightFailed(
                f"{env} serves no one release that could be promoted.",
                observed=", ".join(sorted(version for _, version in found)) or "no host",
                next=f"daybook release current {env}",
            )
        digest, version = found.pop()
        return ImageRef(self._digest(digest), version, env)

    def _image_is_there(self, name: str) -> checks.CheckResult:
        found = self.wanted()
        observed = f"{found.version} {found.digest[:19]}, from {found.origin}"
        return checks.CheckResult(name, "in ECR", observed, is_ok=True)


def proposal(
    step: ReleaseStep, wanted: ImageRef, serving: Sequence[HostState], *, tasks: tuple = (), **basis
) -> ReleasePlan:
    """Propose an image for each host that does not serve it with today's secrets and settings."""
    pinned = step.pinned()
    changing = [each for each in serving if not each.serves(wanted.digest, pinned)]
    tasks += tuple(
        gate.Task("release", each.host.name, f"{wanted.version} in place of {each.version}")
        for each in changing
    )
    rests_on = {
        **common.context(step),
        "environment": step.env,
        "digest": wanted.digest,
        "version": wanted.version,
        "secrets": pinned,
        "hosts": {e.host.name: [e.status.current, e.status.settings] for e in serving},
        **basis,
    }
    differences = tuple(row for each in changing for row in _differences(each, wanted, pinned))
    title = f"{step.run.title}: {wanted.version} from {wanted.origin}"
    return ReleasePlan(title, tasks, rests_on, differences)


def deploy(step: ReleaseStep, digest: str, plan: gate.Proposal) -> ui.Shown:
    """Release an image on every host that a plan names."""
    image, secrets = f"{repository(step)}@{digest}", plan.basis["secrets"]
    named = {task.address for task in plan.changes if task.action == "release"}

    def change(before: HostState) -> HostChange:
        facts = {"by": step.by(), "run": step.run.id, "secrets": secrets}
        return HostChange(before, lambda tell: before.host.deploy(image, on_progress=tell, **facts))

    return step.roll([change(each) for each in step.look_around() if each.host.name in named])


def _differences(
    serving: HostState, wanted: ImageRef, pinned: Mapping[str, int]
) -> list[tuple[str, str, str]]:
    now = serving.current
    before = dict(now.secrets) if now else {}
    rows = [("image", now.digest[:19] if now else "none", wanted.digest[:19])]
    rows += [
        (name, f"version {before[name]}" if name in before else "none", f"version {version}")
        for name, version in sorted(pinned.items())
        if before.get(name) != version
    ]
    rows += [(name, f"version {before[name]}", "none") for name in sorted(before.keys() - pinned)]
    if now and serving.status.settings and now.settings != serving.status.settings:
        rows.append(("settings of the host", now.settings[:19], serving.status.settings[:19]))
    host = serving.host.name
    return [(f"{host}: {what}", was, will) for what, was, will in rows if was != will]
