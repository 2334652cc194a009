"""The http-01 challenge: the name's web server must return the key authorization.

RFC 8555, section 8.3. Unlike Let's Encrypt, redirects are not followed.
"""

from __future__ import annotations

import dns.name
import dns.rcode
import dns.rdatatype
import httpx

from daybook_sandbox import zones
from daybook_sandbox.api import Cloud
from daybook_sandbox.orders import AcmeProblem, Authorization

# Not an operator's address: it passes only rules that are open to the internet.
CALLS_FROM = "127.53.0.1"
PORT = 80
TIMEOUT_S = 10.0


async def prove(cloud: Cloud, authorization: Authorization) -> None:
    """Fetch the proof over plain HTTP from an internet address; raise AcmeProblem on failure."""
    name = authorization.name
    address = _address(cloud, name)
    path = f"/.well-known/acme-challenge/{authorization.token}"
    try:
        transport = httpx.AsyncHTTPTransport(local_address=CALLS_FROM)
        async with httpx.AsyncClient(transport=transport, timeout=TIMEOUT_S) as client:
            response = await client.get(f"http://{address}:{PORT}{path}", headers={"Host": name})
    except httpx.HTTPError as error:
        detail = f"{address}: Fetching http://{name}{path}: {str(error) or type(error).__name__}"
        raise AcmeProblem("connection", detail) from error
    if response.status_code != httpx.codes.OK or response.text.rstrip() != authorization.proof:
        detail = (
            f"{address}: Invalid response from http://{name}{path}: HTTP {response.status_code}"
        )
        raise AcmeProblem("unauthorized", detail)


def _address(cloud: Cloud, name: str) -> str:
    reply = zones.lookup(cloud.route53, dns.name.from_text(name), dns.rdatatype.A)
    if not reply.answer or reply.rest:
        code = dns.rcode.to_text(reply.rcode)
        raise AcmeProblem("dns", f"No A record of {name} in a public zone here: {code}")
    return reply.answer[-1][0].to_text()
