"""Daybook: the life of an application on AWS EC2 as notebooks that leave a record."""
