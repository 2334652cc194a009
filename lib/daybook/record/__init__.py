"""Records of runs: journalled while a run executes, redacted, signed, and uploaded to a bucket."""
