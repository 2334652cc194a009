"""Teardown: everything of one environment goes, and it is shown that nothing is left."""

from __future__ import annotations

from daybook import aws, probe, terraform, ui
from daybook.errors import VerifyFailed
from daybook.steps import common


class Teardown(common.TerraformStep):
    """Destroy one environment; the account's state, images and DNS zone stay."""

    name = "teardown"
    next = "nothing; `daybook run provision -p env {env}` makes it again"

    def make_plan(self) -> terraform.Plan:
        return super().make_plan(destroy=True)

    def apply_plan(self, plan: terraform.Plan) -> ui.Shown:
        applied = common.apply_terraform(self, common.environment_terraform(self), plan)
        common.inventory_path(self).unlink(missing_ok=True)
        common.known_hosts_path(self).unlink(missing_ok=True)
        return applied

    def look(self) -> ui.Shown:
        left = aws.leftovers(self.target, self.settings.app, self.env)
        left += [f"DNS record {name}" for name in self.settings.names if self._resolves(name)]
        if left:
            raise VerifyFailed(
                f"{len(left)} things of {self.env} are left.",
                expected="nothing with its tags or its name",
                details=left,
                changed="Everything else was destroyed.",
                next=f"daybook run teardown -p env {self.env}, or remove these by hand",
            )
        kept = "the state bucket, the images in ECR, the DNS zone, the records in runs/"
        lines = (f"Nothing with the tags or the name of {self.env} is left.", f"Kept: {kept}.")
        return ui.Notice(f"{self.run.title}: seen from outside", ui.good("gone"), lines)

    def _resolves(self, name: str) -> bool:
        try:
            return bool(probe.addresses(name, self.target.environ))
        except probe.NotYet:
            return False
