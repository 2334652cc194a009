"""What an environment owns in its AWS account: instances, disks, and everything named or tagged."""
