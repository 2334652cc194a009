"""The record of a run: written as it happens, signed, without secrets, kept in the bucket."""
