"""Certificates for the right names, issued after an http-01 challenge on port 80."""

from __future__ import annotations

import shlex
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from daybook import probe

PLAY = """\
- name: Serve one more name
  hosts: staging
  become: true
  gather_facts: false
  vars:
    caddy_site: more
    caddy_domains: [{name}]
    caddy_certificate_wait_s: 30
  roles: [caddy]
  tasks:
    - name: Wait for the certificate
      ansible.builtin.import_role: {{name: caddy, tasks_from: certificates}}
"""

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(1800)]


def certificate(life, env: str, name: str) -> dict:
    """Return the certificate of an environment's host for a name; trust only the sandbox."""
    trust = ssl.create_default_context(cafile=life.sandbox.env["DAYBOOK_CA_FILE"])
    with (
        socket.create_connection((life.address(env), 443), 5) as connection,
        trust.wrap_socket(connection, server_hostname=name) as secured,
    ):
        return secured.getpeercert()


@pytest.mark.usefixtures("serving")
def test_a_host_has_certificates_only_for_its_names(life):
    for env, name in life.names.items():
        served = certificate(life, env, name)
        assert served["subjectAltName"] == (("DNS", name),)
        assert served["issuer"] == ((("commonName", "Daybook sandbox"),),)
    with pytest.raises(ssl.SSLError):
        certificate(life, "staging", life.names["production"])


@pytest.mark.usefixtures("serving")
def test_plain_http_redirects_to_tls_and_refuses_other_names(life):
    for env, name in life.names.items():
        answer = life.fetch(env, "/page?x=1", scheme="http")
        assert (answer.status_code, answer.headers["location"]) == (308, f"https://{name}/page?x=1")
        bare = probe.fetch(f"http://{life.address(env)}/", life.sandbox.env)
        assert bare.status_code == 421


def test_a_name_gets_no_certificate_if_port_80_is_closed_to_the_internet(serving, life, aws):
    name = f"more.{life.app}.test"
    (serving.root / "ansible/more.yml").write_text(PLAY.format(name=name))
    key = shlex.quote(life.sandbox.env["DAYBOOK_SSH_KEY"])
    play = f"ansible-playbook --private-key {key} -i ansible/inventories/staging ansible/more.yml"
    with record(life, aws("route53"), name):
        with port_80_for_operators(aws("ec2"), f"{life.app}-staging-host"):
            done = life.run(f"{play} -e caddy_certificate_wait_s=15")
        assert done.returncode == 2, done.stdout
        assert f"{name} has no certificate." in done.stdout
        assert f"Fetching http://{name}/.well-known/acme-challenge/" in done.stdout
        # Otherwise Caddy retries only after a minute.
        life.out("staging", "sudo systemctl restart caddy")
        life.shell(play)
        placeholder = probe.fetch(f"https://{name}/", life.sandbox.env)
        assert (placeholder.status_code, placeholder.text) == (503, "Nothing is released yet.")
        assert life.version("staging")["environment"] == "staging"
    remove = "sudo rm /etc/caddy/sites/more.caddy && sudo systemctl reload caddy"
    life.out("staging", remove)


@contextmanager
def record(life, route53, name: str) -> Iterator[None]:
    """Resolve a name to staging's host in this context."""
    [zone] = route53.list_hosted_zones_by_name(DNSName=f"{life.app}.test")["HostedZones"][:1]
    address = [{"Value": life.address("staging")}]
    record_set = {"Name": name, "Type": "A", "TTL": 60, "ResourceRecords": address}

    def change(action: str) -> None:
        batch = {"Changes": [{"Action": action, "ResourceRecordSet": record_set}]}
        route53.change_resource_record_sets(HostedZoneId=zone["Id"], ChangeBatch=batch)

    change("UPSERT")
    yield
    change("DELETE")


@contextmanager
def port_80_for_operators(ec2, group_name: str) -> Iterator[None]:
    """Open a group's port 80 only to the operators' address in this context."""
    wanted = [{"Name": "group-name", "Values": [group_name]}]
    [group] = ec2.describe_security_groups(Filters=wanted)["SecurityGroups"]
    of_group = [{"Name": "group-id", "Values": [group["GroupId"]]}]
    rules = ec2.describe_security_group_rules(Filters=of_group)["SecurityGroupRules"]
    [rule] = [candidate for candidate in rules if candidate["FromPort"] == 80]
    kept = {key: rule[key] for key in ("IpProtocol", "FromPort", "ToPort", "Description")}

    def open_to(cidr: str) -> None:
        changed = {"SecurityGroupRuleId": rule["SecurityGroupRuleId"]}
        changed["SecurityGroupRule"] = kept | {"CidrIpv4": cidr}
        ec2.modify_security_group_rules(GroupId=group["GroupId"], SecurityGroupRules=[changed])

    open_to("203.0.113.7/32")
    yield
    open_to(rule["CidrIpv4"])
