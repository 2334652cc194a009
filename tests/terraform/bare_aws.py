"""A simulated AWS API without machines, for Terraform: prints its port and serves until killed.

Administrators may make all calls. AssumeRoleWithWebIdentity accepts JSON in place of GitHub's
token, and its credentials are limited to the policies of the role.
"""

import json
import os
import tempfile
import threading
from pathlib import Path

DEBIAN = {
    "ami_id": "ami-0debian1300000001",
    "name": "debian-13-amd64-20250814-2204",
    "owner_id": "136693071363",
    "description": "Debian 13",
    "public": True,
    "virtualization_type": "hvm",
    "architecture": "x86_64",
    "state": "available",
    "platform": None,
    "image_type": "machine",
    "hypervisor": "xen",
    "sriov": "simple",
    "root_device_name": "/dev/xvda",
    "root_device_type": "ebs",
    "image_location": "amazon/debian-13",
    "creation_date": "2025-08-14T22:04:00.000Z",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        amis = Path(scratch) / "amis.json"
        amis.write_text(json.dumps([DEBIAN]))
        os.environ["MOTO_AMIS_PATH"] = str(amis)  # read when moto is imported
        from moto.server import ThreadedMotoServer

        from daybook_sandbox import (
            atomic_writes,
            bucket_policies,
            cloudtrail,
            instances,
            permissions,
            simulator,
            snapshot_lifecycle,
            webidentity,
        )

        bucket_policies.patch()
        atomic_writes.patch()
        instances.patch()
        simulator.patch()
        permissions.patch()
        webidentity.patch(json.loads)
        snapshot_lifecycle.patch("123456789012")
        cloudtrail.patch()
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        print(server.get_host_and_port()[1], flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
