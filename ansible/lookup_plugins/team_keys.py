"""The team's public SSH keys, from environments/signers."""

from __future__ import annotations

import sys
from pathlib import Path

from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
    name: team_keys
    short_description: The public SSH keys that may log in to the hosts
    description:
      - The keys of environments/signers, and the public key of the login.
    options:
      _terms:
        description: The project's folder.
        required: true
"""
LIBRARY = Path(__file__).resolve().parents[2] / "lib"


class LookupModule(LookupBase):
    """Returns lines of authorized_keys: ["ssh-ed25519 AAAA… ann@example.com"]."""

    def run(self, terms, variables=None, **kwargs):
        signers, ssh_keys, settings_error = _daybook()
        try:
            allowed = signers.load(Path(terms[0]))
        except settings_error as err:
            raise AnsibleLookupError(str(err)) from err
        # Hosts are named hello-staging-1. A key of workflows is valid for one environment.
        prefix = variables["inventory_hostname"].rpartition("-")[0]
        return ssh_keys.keys_for_hosts(_own_key(), ssh_keys.public_keys(allowed, prefix))


def _daybook() -> tuple:
    """Return the modules and the error class of Daybook, also outside its virtual environment."""
    if str(LIBRARY) not in sys.path:
        sys.path.append(str(LIBRARY))
    try:
        from daybook import signers
        from daybook.errors import SettingsError
        from daybook.hosts import ssh_keys
    except ImportError as err:
        # Ansible appends the cause.
        raise AnsibleLookupError(
            f"{sys.executable} cannot import Daybook; run `make setup && source .venv/bin/activate`"
        ) from err
    return signers, ssh_keys, SettingsError


def _own_key() -> str:
    """Return the public key of this login, which must stay authorized; "" if an agent holds it."""
    private = context.CLIARGS.get("private_key_file")
    if not private:
        return ""
    public = Path(f"{private}.pub").expanduser()
    if not public.is_file():
        raise AnsibleLookupError(
            f"{public} is missing; without it, the hosts would no longer accept your key. "
            f"Run: ssh-keygen -y -f {private} > {public}"
        )
    return public.read_text(encoding="utf-8")
