"""The team's public SSH keys, as Daybook reads them from environments/signers."""

from __future__ import annotations

from pathlib import Path

from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
    name: team_keys
    short_description: The public SSH keys that hosts let in
    description:
      - Those of environments/signers, and the public half of the key that this play logs in with.
    options:
      _terms:
        description: The project's folder.
        required: true
"""


class LookupModule(LookupBase):
    """Returns the keys as authorized_keys has them: ["ssh-ed25519 AAAA… ann@example.com"]."""

    def run(self, terms, variables=None, **kwargs):
        from daybook import signers
        from daybook.errors import SettingsError
        from daybook.hosts import ssh_keys

        try:
            allowed = signers.load(Path(terms[0]))
        except SettingsError as err:
            raise AnsibleLookupError(str(err)) from err
        # Hosts are called hello-staging-1: a key of workflows is for one environment.
        hosts = variables["inventory_hostname"].rpartition("-")[0]
        return ssh_keys.keys_for_hosts(_own(), ssh_keys.public_keys(allowed, hosts))


def _own() -> str:
    """Return the key in use, so that nobody shuts himself out; "" when an agent holds it."""
    private = context.CLIARGS.get("private_key_file")
    if not private:
        return ""
    public = Path(f"{private}.pub").expanduser()
    if not public.is_file():
        raise AnsibleLookupError(
            f"{public} is missing, and the hosts would let you in no more. "
            f"Make it: ssh-keygen -y -f {private} > {public}"
        )
    return public.read_text(encoding="utf-8")
