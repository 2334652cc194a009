"""AMI: compare the hosts' image with Debian's newest; nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping

from daybook import checks, ui
from daybook.aws import images
from daybook.plan import Change, Plan
from daybook.steps.base import ReadOnlyStep


class Ami(ReadOnlyStep):
    """Compare the hosts' image with Debian's newest, and print the setting that selects it."""

    name = "ami"
    next = "at a convenient time: commit the setting, then daybook run provision -p env {env}"

    def target_checks(self) -> Mapping[str, checks.Check]:
        return {"Debian 13": self._is_offered}

    def make_plan(self) -> Plan:
        hosts = self.outputs()["instances"]
        newest = self._newest()
        running = images.of_instances(self.target, [host["id"] for host in hosts])
        changes = tuple(
            Change("renew", host["name"], f"{_label(newest)} in place of {_label(image)}")
            for host in hosts
            if (image := running[host["id"]]) < newest
        )
        return Plan(f"{self.run.title}: images", changes, {"ami": newest.id})

    def look(self) -> ui.Shown:
        if self._plan.is_empty:
            return ui.Notice(f"{self.run.title}: the hosts run Debian's newest", ui.OK)
        lines = (
            f"In environments/{self.env}.yml, under instance:",
            f"  ami: {self._plan.basis['ami']}",
            "With it, provision replaces the hosts and their disks: take snapshots first.",
            "There is no hurry: the present hosts install security updates themselves.",
        )
        return ui.Notice(f"{self.run.title}: Debian has a newer image", ui.warn("newer"), lines)

    def _newest(self) -> images.Image | None:
        return images.newest(self.target, self.settings.instance.type)

    def _is_offered(self, name: str) -> checks.CheckResult:
        newest, kind = self._newest(), self.settings.instance.type
        fix = "correct instance.type in the settings, or the region"
        return checks.CheckResult(
            name, f"for {kind}", _label(newest) if newest else "none", bool(newest), fix
        )


def _label(image: images.Image) -> str:
    return f"{image.id} of {image.created or 'unknown age'}"
