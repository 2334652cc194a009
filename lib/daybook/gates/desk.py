"""Where a run's plan is approved: kept while it waits, taken up, decided, used once."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from daybook import aws, ui
from daybook.errors import ApprovalNeeded, ApprovalRefused, CommandFailed
from daybook.gates import approval, gate, waiting
from daybook.gates.waiting import Waiting
from daybook.record import journal, provenance, record, signing
from daybook.run import Run


class Desk:
    """The approval of one run's plan, by its operator and, where settings ask, a second person.

    state: says which state of the infrastructure a plan rests on. has_bucket: False while there
    is nowhere that others could see the plan.
    """

    def __init__(self, run: Run, state: Callable[[], str], has_bucket: Callable[[], bool]) -> None:
        self._run, self._state, self._has_bucket = run, state, has_bucket
        self._waiting: Waiting | None = None
        self._own: gate.Approval | None = None
        run.at_end.append(self._clear)

    @property
    def made_by(self) -> str:
        """Return the run whose plan this is, "" while none waits."""
        return self._waiting.run if self._waiting else ""

    @property
    def is_approved_by_hand(self) -> bool:
        """Tell whether the operator has given their own approval in the notebook."""
        return self._own is not None

    @property
    def has_saved_plan(self) -> bool:
        """Tell whether the run has taken up a plan that Terraform saved."""
        return self._waiting is not None and self._run.plan_file.exists()

    def take_up(self) -> None:
        """Take up the waiting plan that the run is given an approval for, if any."""
        self._waiting = self._own = None
        run, given = self._run, str(self._run.parameters.get("approve", ""))
        wanted = given if given not in ("", gate.AUTO) else waiting.left_by(run.root, run.resumes)
        if wanted:
            hours = run.settings.plan_hours
            self._waiting = waiting.take_up(
                run.root, wanted, self._basis(), hours, run.id, lambda: self._left_elsewhere(wanted)
            )

    def lay(self, plan: gate.Plan) -> None:
        """Keep a plan for its approval; one that was taken up must be what was shown."""
        if plan.is_empty:
            self._waiting = None
        elif self._waiting is None:
            said, digest = ui.text(plan), plan.digest
            made = (journal.now(), self._basis(), self._operator())
            new = Waiting(self._run.id, digest, *made, said)
            self._waiting = waiting.keep(self._run.root, new, self._run.settings.plan_hours)
        elif (plan.digest, ui.text(plan)) != (self._waiting.digest, self._waiting.summary):
            self._discard()
            raise ApprovalRefused(
                "The plan is not what it was when it was shown.",
                expected=self._waiting.digest,
                observed=plan.digest,
                details=_changed_lines(self._waiting.summary, ui.text(plan)),
                next=waiting.NEW_PLAN.format(**self._waiting.basis),
            )

    def decide(self, plan: gate.Plan, given: str) -> gate.Approval:
        """Return the approval of exactly this plan, or raise what it lacks."""
        if plan.is_empty:
            return gate.Approval(plan.digest, gate.NOT_NEEDED)
        try:
            hours = self._run.settings.plan_hours
            waiting.require_current(self._waiting, self._basis(), hours)
            return self._decide(plan, given)
        except ApprovalRefused:
            self._discard()
            raise
        except ApprovalNeeded:
            self._leave()
            raise

    def approve_by_hand(self, given: gate.Approval) -> None:
        """Take the operator's own approval, given in the notebook."""
        self._own = given

    def decline(self, reason: str) -> None:
        """Refuse the plan for good; the record says why."""
        run = self._run
        declined = ApprovalRefused(
            "The plan was declined.",
            observed=reason or None,
            next="start again when it is right",
        )
        run.write("approval", digest=self._waiting.digest, how=f"declined: {reason or 'no reason'}")
        self._discard()
        run.stop(declined)
        run.recorder.close("failed", f"declined: {reason}" if reason else "declined")

    def use(self) -> None:
        """Take the approved plan away: it is applied once."""
        if not self._waiting:
            return
        if self._waiting.is_left and not self._left_elsewhere(self._waiting.digest):
            self._discard()
            raise ApprovalRefused(
                f"{self._waiting.digest} does not wait any more.",
                expected="a plan that nobody has applied or refused",
                observed="another computer has taken it",
                next=waiting.NEW_PLAN.format(**self._waiting.basis),
            )
        waiting.use(self._run.root, self._waiting, self._run.id)
        self._take_away()

    def _decide(self, plan: gate.Plan, given: str) -> gate.Approval:
        run = self._run
        command = run.command(approve=plan.digest)
        try:
            own = self._own or gate.decide(
                plan, given, is_sandbox=run.target.is_sandbox, command=command
            )
        except ApprovalRefused:
            raise
        except ApprovalNeeded as needed:
            if not self._needs_second():
                raise
            self._office().ask(self._waiting)
            also = f"and somebody else: daybook approve {self._waiting.run}"
            raise ApprovalNeeded(needed.message, details=[also], next=needed.next) from None
        return own if own.is_automatic or not self._needs_second() else self._second(own, command)

    def _second(self, own: gate.Approval, command: str) -> gate.Approval:
        """Return the approval with a second person's; raise while there is none."""
        run, plan = self._run, self._waiting
        operators = {
            name
            for operator in (plan.operator, self._operator())
            for name in approval.identities(operator, run.root)
        }
        judged = approval.judge(self._office().answers(plan), plan, run.root, operators)
        for name, answer in judged.declined.items():
            reason = answer.said["reason"]
            run.write("approval", digest=plan.digest, how=f"declined by {name}: {reason}")
            following = waiting.NEW_PLAN.format(**plan.basis)
            raise ApprovalRefused(f"{name} declined this plan.", observed=reason, next=following)
        if not judged.approved:
            self._office().ask(plan)
            raise ApprovalNeeded(
                f"{plan.digest} waits for a second person.",
                details=judged.ignored,
                expected="the signature of somebody of environments/signers but the operator",
                next=f"ask one to run: daybook approve {plan.run}; then: {command}",
            )
        by = tuple(
            gate.Signature(name, answer.statement, answer.signature)
            for name, answer in judged.approved.items()
        )
        return replace(own, how=f"{own.how} and by {', '.join(judged.approved)}", by=by)

    def _needs_second(self) -> bool:
        return bool(self._run.settings.approvals) and self._has_bucket()

    def _office(self) -> approval.Office:
        target = self._run.target
        return approval.Office(target, aws.state_bucket(target, self._run.settings.app))

    def _basis(self) -> dict[str, str]:
        """Return what must still be so when the plan is applied."""
        run = self._run
        return {
            "environment": run.env,
            "step": run.step,
            "account": run.target.account,
            "region": run.target.region,
            "target": run.target.name,
            "commit": provenance.git(run.root)["commit"],
            "settings": record.digest(run.root / "environments" / f"{run.env}.yml"),
            "state": self._state(),
        }

    def _operator(self) -> dict[str, str]:
        key = signing.fingerprint(signing.public_key(self._run.ssh_key))
        return {**provenance.operator(self._run.root), "key": key}

    def _leave(self) -> None:
        """Let another machine know of the plan; where that fails it waits on this one alone."""
        with suppress(CommandFailed):
            if self._waiting and self._has_bucket():
                self._office().leave(replace(self._waiting, is_left=True))
                self._waiting = waiting.note_left(self._run.root, self._waiting, self._run.id)

    def _left_elsewhere(self, digest: str) -> Waiting | None:
        return self._office().left(self._run.env, digest) if self._has_bucket() else None

    def _take_away(self) -> None:
        """Let no other machine apply it again."""
        with suppress(CommandFailed):
            if self._has_bucket():
                self._office().take_away(self._waiting)

    def _discard(self) -> None:
        waiting.discard(self._run.root, self._run.env, self._run.id)
        if self._waiting:
            self._take_away()

    def _clear(self) -> None:
        """Forget what is over, this run's own plan included unless it waits."""
        waiting.forget_old(self._run.root, self._run.env, self._run.settings.plan_hours)


def _changed_lines(before: str, now: str) -> list[str]:
    found = difflib.unified_diff(before.splitlines(), now.splitlines(), n=0, lineterm="")
    return [line for line in found if not line.startswith(("---", "+++", "@@"))]
