"""An environment's resources in AWS: instances, disks, and everything with its name or tags."""
