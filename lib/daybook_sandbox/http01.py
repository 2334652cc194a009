"""The proof that a name is somebody's: its web server answers what the authority asked for.

RFC 8555, section 8.3. Let's Encrypt also follows redirects; here the first answer counts.
"""

from __future__ import annotations

import dns.name
import dns.rcode
import dns.rdatatype
import httpx

from daybook_sandbox import zones
from daybook_sandbox.api import Cloud
from daybook_sandbox.orders import AcmeProblem, Authorization

# Not an operator: only what is open to everybody lets it in.
CALLS_FROM = "127.53.0.1"
PORT = 80
TIMEOUT_S = 10.0


async def prove(cloud: Cloud, authorization: Authorization) -> None:
    """Fetch the proof over plain HTTP, as a stranger on the internet; AcmeProblem when it fails."""
    name = authorization.name
    address = _address(cloud, name)
    path = f"/.well-known/acme-challenge/{authorization.token}"
    try:
        stranger = httpx.AsyncHTTPTransport(local_address=CALLS_FROM)
        async with httpx.AsyncClient(transport=stranger, timeout=TIMEOUT_S) as client:
            answer = await client.get(f"http://{address}:{PORT}{path}", headers={"Host": name})
    except httpx.HTTPError as error:
        said = f"{address}: Fetching http://{name}{path}: {str(error) or type(error).__name__}"
        raise AcmeProblem("connection", said) from error
    if answer.status_code != httpx.codes.OK or answer.text.rstrip() != authorization.proof:
        said = f"{address}: Invalid response from http://{name}{path}: HTTP {answer.status_code}"
        raise AcmeProblem("unauthorized", said)


def _address(cloud: Cloud, name: str) -> str:
    reply = zones.lookup(cloud.route53, dns.name.from_text(name), dns.rdatatype.A)
    if not reply.answer or reply.rest:
        code = dns.rcode.to_text(reply.rcode)
        raise AcmeProblem("dns", f"No A record of {name} in a public zone here: {code}")
    return reply.answer[-1][0].to_text()
