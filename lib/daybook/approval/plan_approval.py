"""The approval of a run's plan: stored while it is pending, claimed, decided, consumed once."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from daybook import git, signers, ui
from daybook.approval import gate, identity, pending, store
from daybook.approval.identity import Identity
from daybook.approval.pending import PendingPlan
from daybook.errors import ApprovalNeeded, ApprovalRefused, CommandFailed
from daybook.plan import Plan
from daybook.record import journal, provenance, seal, signing, statement
from daybook.record.statement import Party, Signed
from daybook.run import Run

OVER = ui.Notice(
    "This run has ended: its record is closed",
    ui.quiet("closed"),
    ("Start the step again from its first cell, and use the gate that it shows.",),
)


class PlanApproval:
    """The approval of one run's plan by its operator and, if required, by a second person.

    state: returns the version of the infrastructure's state that a plan is based on. has_bucket:
    False until the bucket in which others can see the plan exists.
    """

    def __init__(self, run: Run, state: Callable[[], str], has_bucket: Callable[[], bool]) -> None:
        self._run, self._state, self._has_bucket = run, state, has_bucket
        self._pending: PendingPlan | None = None
        self._own: gate.Approval | None = None
        self._gate: gate.Gate | None = None
        run.at_end.append(self._clear)

    @property
    def made_by(self) -> str:
        """Return the run that made the plan, "" while none is pending."""
        return self._pending.run if self._pending else ""

    @property
    def is_approved_by_hand(self) -> bool:
        """Tell whether the operator has approved in the notebook's gate."""
        return self._own is not None

    @property
    def has_saved_plan(self) -> bool:
        """Tell whether the run has claimed a plan that Terraform saved."""
        return self._pending is not None and self._run.plan_file.exists()

    @property
    def needs_names(self) -> bool:
        """Tell whether the plan's author must be known.

        That is not required for `auto`, nor before the bucket exists in which another person can
        see the plan.
        """
        run = self._run
        is_automatic = run.target.is_sandbox and run.parameters.get("approve") == gate.AUTO
        return not is_automatic and self._needs_second()

    def reset(self) -> None:
        """Discard the previous plan and its approval before a new plan is made."""
        if self._pending and self._pending.is_published:
            self._withdraw()
        self._pending = self._own = None
        self.close_gate(ui.Notice("Outdated: the plan cell was run again", ui.quiet("outdated")))

    def claim(self) -> None:
        """Claim the pending plan that the run was started to apply, if any."""
        run, digest = self._run, str(self._run.parameters.get("approve", ""))
        if digest in ("", gate.AUTO):
            digest = pending.digest_of(run.root, run.resumes)
        if digest:
            hours = run.settings.plan_hours
            self._pending = pending.claim(
                run.root, digest, self._basis(), hours, run.id, lambda: self._published(digest)
            )

    def store(self, plan: Plan) -> None:
        """Store a plan for its approval; a claimed plan must equal the one that was shown."""
        if plan.is_empty:
            self._pending = None
        elif self._pending is None:
            self._pending = self._keep(plan)
        elif (plan.digest, ui.text(plan)) != (self._pending.digest, self._pending.summary):
            before = self._pending
            self._discard()
            raise ApprovalRefused(
                "The plan changed after it was shown.",
                expected=before.digest,
                observed=plan.digest,
                details=_changed_lines(before.summary, ui.text(plan)),
                next=pending.NEW_PLAN.format(**before.basis),
            )
        self._mark_outdated(plan)

    def decide(self, plan: Plan, given: str) -> gate.Approval:
        """Return the approval of exactly this plan; ApprovalNeeded or ApprovalRefused otherwise."""
        if plan.is_empty:
            return gate.Approval(plan.digest, gate.NOT_NEEDED)
        try:
            self._require_pending(plan)
            return self._decide(plan, given)
        except ApprovalRefused:
            self._discard()
            raise
        except ApprovalNeeded:
            self._publish()
            raise

    def show_gate(
        self,
        plan: Plan,
        approved: Callable[[gate.Gate], ui.Notice],
        declined: Callable[[gate.Gate, str], ui.Notice],
    ) -> None:
        """Show the gate for a plan in the notebook, and close an earlier one."""
        title = f"{self._run.title}, {self._run.target.region}"
        self.close_gate(ui.Notice("This plan is shown again below", ui.quiet("outdated")))
        self._gate = gate.Gate(plan, self._run.env, title, approved=approved, declined=declined)
        self._gate.show()

    def close_gate(self, notice: ui.Notice) -> None:
        """Disable the current gate, if any."""
        if self._gate:
            self._gate.close(notice)

    def objection(self, shown: gate.Gate) -> ui.Notice | None:
        """Return the reason why a pressed gate is not for the current plan, or None."""
        if shown is self._gate and self._pending and shown.digest == self._pending.digest:
            return None
        now = f"digest {self._pending.digest}" if self._pending else "none is pending"
        lines = ("Nothing was approved or declined. Run the plan and approve cells again.",)
        return ui.Notice(f"This is not the newest plan ({now})", ui.warn("outdated"), lines)

    def approve_by_hand(self, given: gate.Approval) -> None:
        """Accept the operator's approval from the notebook's gate."""
        self._own = given

    def decline(self, reason: str) -> None:
        """Decline the plan, record the reason, and end the run."""
        run = self._run
        declined = ApprovalRefused(
            "The plan was declined.",
            observed=reason or None,
            next="start the step again from its first cell",
        )
        run.write("approval", digest=self._pending.digest, how=f"declined: {reason or 'no reason'}")
        self._discard()
        run.stop(declined)
        run.recorder.close("failed", f"declined: {reason}" if reason else "declined")

    def consume(self, plan: Plan, given: gate.Approval | None) -> dict[str, Any]:
        """Consume the approved plan, so that it is applied once; return its facts for the record.

        ApprovalRefused unless it is the plan that was shown and has every required approval.
        """
        if given is None or given.digest != plan.digest:
            self._discard()
            raise ApprovalRefused(
                "The approval is for another plan.",
                expected=plan.digest,
                observed=given.digest if given else "no approval",
                next=pending.NEW_PLAN.format(**self._basis()),
            )
        facts = {"digest": plan.digest, "summary": statement.sha256(ui.text(plan))}
        if plan.is_empty:
            return facts
        try:
            self._require_pending(plan)
            facts |= self._signatures(given)
            if self._pending.is_published and not self._published(plan.digest):
                raise ApprovalRefused(
                    f"{plan.digest} is no longer pending.",
                    expected="its entry in the state bucket",
                    observed="another run has applied or discarded it",
                    next=pending.NEW_PLAN.format(**self._pending.basis),
                )
        except ApprovalRefused:
            self._discard()
            raise
        pending.consume(self._run.root, self._pending, self._run.id)
        self._withdraw()
        self.close_gate(ui.Notice("This plan is being applied", ui.quiet("used")))
        return facts

    def _keep(self, plan: Plan) -> PendingPlan:
        run = self._run
        made = (journal.now(), self._basis(), self._operator())
        new = PendingPlan(run.id, plan.digest, *made, ui.text(plan))
        if self.needs_names:
            operator, allowed = self._identity(), run.load_signers()
            new = replace(new, operator={**new.operator, "signer": operator.name})
            planned, _ = statement.sign(
                new.about, statement.PLANNED, operator.key, allowed, workflow=operator.workflow
            )
            new = replace(new, planned=asdict(planned))
        return pending.keep(run.root, new, run.settings.plan_hours)

    def _require_pending(self, plan: Plan) -> None:
        """Raise ApprovalRefused unless this plan is the one that was shown and is still current."""
        current = self._pending
        if current is None or (current.digest, current.summary) != (plan.digest, ui.text(plan)):
            raise ApprovalRefused(
                f"{plan.digest} is not the plan that was shown.",
                expected=current.digest if current else "a pending plan",
                observed=plan.digest,
                next=pending.NEW_PLAN.format(**self._basis()),
            )
        pending.require_current(current, self._basis(), self._run.settings.plan_hours)

    def _decide(self, plan: Plan, given: str) -> gate.Approval:
        run = self._run
        command = run.command(approve=plan.digest)
        try:
            own = self._own if self._own and given in ("", plan.digest) else None
            own = own or gate.decide(plan, given, is_sandbox=run.target.is_sandbox, command=command)
        except ApprovalRefused:
            raise
        except ApprovalNeeded as needed:
            if not self._needs_second():
                raise
            self._store().request(self._pending)
            second = f"A second person must approve too: daybook approve {self._pending.run}"
            raise ApprovalNeeded(needed.message, details=[second], next=needed.next) from None
        if own.is_automatic or not self._needs_second():
            return own
        return self._add_second(own, command)

    def _add_second(self, own: gate.Approval, command: str) -> gate.Approval:
        """Return the operator's approval with the second person's; ApprovalNeeded without one."""
        run, plan = self._run, self._pending
        decisions = self._judge(self._store().decisions(plan), self._identity().party)
        for name, signed in decisions.declined.items():
            reason = str(signed.content["reason"])
            run.write("approval", digest=plan.digest, how=f"declined by {name}: {reason}")
            following = pending.NEW_PLAN.format(**plan.basis)
            raise ApprovalRefused(f"{name} declined this plan.", observed=reason, next=following)
        if not decisions.approved:
            self._store().request(plan)
            raise ApprovalNeeded(
                f"{plan.digest} is waiting for the approval of a second person.",
                details=decisions.ignored,
                expected=f"the signature of another person of {signers.FILE}",
                next=f"ask one to run: daybook approve {plan.run}; then: {command}",
            )
        by = tuple(
            gate.Signature(name, signed.statement, signed.signature)
            for name, signed in decisions.approved.items()
        )
        return replace(own, how=f"{own.how} and by {', '.join(decisions.approved)}", by=by)

    def _judge(self, decisions: list[Signed], applier: Party) -> store.Decisions:
        """Sort decisions; one by the plan's author or by the applier is invalid."""
        allowed = self._run.load_signers()
        operators = (store.planned_by(self._pending, allowed), applier)
        return store.judge(decisions, self._pending.about, operators, allowed)

    def _signatures(self, given: gate.Approval) -> dict[str, Any]:
        """Sign that this run applies the plan, and check the approvals against that signature.

        Returns the number of required second persons, and with one the signed statements. It is 0
        for `auto`. Before the first bootstrap, no second person can see the plan.
        """
        needs = 0 if given.is_automatic else self._run.load_approvals()
        if not needs or not self._has_bucket():
            return {"needs": needs}
        operator, current = self._identity(), self._pending
        applying, applier = statement.sign(
            current.about,
            statement.APPLYING,
            operator.key,
            self._run.load_signers(),
            workflow=operator.workflow,
        )
        signed = [Signed(signature.statement, signature.signature) for signature in given.by]
        decisions = self._judge(signed, applier)
        if not decisions.approved or decisions.declined:
            raise ApprovalRefused(
                f"No second person has approved {current.digest}.",
                expected=f"the signature of another person of {signers.FILE}",
                observed="; ".join(decisions.ignored) or "none",
                next=f"daybook approve {current.run}",
            )
        return {
            "made": current.made,
            "made_by": current.run,
            "needs": needs,
            "planned": dict(current.planned),
            "applying": asdict(applying),
        }

    def _needs_second(self) -> bool:
        return bool(self._run.load_approvals()) and self._has_bucket()

    def _identity(self) -> Identity:
        return identity.find(self._run.environment, self._run.load_signers())

    def _store(self) -> store.ApprovalStore:
        return store.ApprovalStore(self._run.environment)

    def _basis(self) -> dict[str, str]:
        """Return the facts that must be the same when the plan is applied."""
        run = self._run
        return {
            "environment": run.env,
            "step": run.step,
            "account": run.target.account,
            "region": run.target.region,
            "target": run.target.name,
            "commit": git.head(run.root),
            "settings": seal.digest(run.root / "environments" / f"{run.env}.yml"),
            "state": self._state(),
        }

    def _operator(self) -> dict[str, str]:
        key = signing.fingerprint(signing.public_key(self._run.environment.ssh_key))
        return {**provenance.operator(self._run.root), "key": key}

    def _mark_outdated(self, plan: Plan) -> None:
        """Show the newer plan in the gate of the previous one."""
        if self._gate:
            newer = "no changes" if plan.is_empty else f"digest {plan.digest}"
            lines = ("To approve it, run the approve cell again and use the gate that it shows.",)
            notice = ui.Notice(f"A newer plan was made ({newer})", ui.quiet("outdated"), lines)
            self._gate.show_notice(notice)
            self._gate = None

    def _publish(self) -> None:
        """Publish the plan for other machines; after a failure it is pending on this one only."""
        with suppress(CommandFailed):
            if self._pending and self._has_bucket():
                self._store().publish(replace(self._pending, is_published=True))
                self._pending = pending.note_published(self._run.root, self._pending, self._run.id)

    def _published(self, digest: str) -> PendingPlan | None:
        return self._store().published(self._run.env, digest) if self._has_bucket() else None

    def _withdraw(self) -> None:
        """Prevent other machines from applying the plan."""
        with suppress(CommandFailed):
            if self._has_bucket():
                self._store().withdraw(self._pending)

    def _discard(self) -> None:
        pending.discard(self._run.root, self._run.env, self._run.id)
        if self._pending:
            self._withdraw()
        self._pending = self._own = None
        self.close_gate(ui.Notice("This plan was discarded", ui.quiet("discarded")))

    def _clear(self) -> None:
        """Close the gate and delete outdated plans; this run's own plan stays while pending."""
        self.close_gate(OVER)
        pending.delete_outdated(self._run.root, self._run.env, self._run.settings.plan_hours)


def _changed_lines(before: str, now: str) -> list[str]:
    diff = difflib.unified_diff(before.splitlines(), now.splitlines(), n=0, lineterm="")
    return [line for line in diff if not line.startswith(("---", "+++", "@@"))]
