"""The rehearsal cloud: an AWS API whose EC2 instances are Debian machines on this computer."""
