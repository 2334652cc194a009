provider "aws" {
  region = var.region
  # Ends a failing call after about a minute. With the default of 25 retries and exponential backoff, a
  # plan shows no output for more than five minutes.
  max_retries = 10

  default_tags {
    tags = {
      app         = var.app
      environment = var.environment
      managed_by  = "daybook"
    }
  }
}

locals {
  name               = "${var.app}-${var.environment}"
  hosts              = { for number in range(1, var.instance_count + 1) : tostring(number) => "${local.name}-${number}" }
  availability_zones = slice(data.aws_availability_zones.this.names, 0, 2)

  account    = data.aws_caller_identity.this.account_id
  parameters = "arn:${data.aws_partition.this.partition}:ssm:${var.region}:${local.account}:parameter/${var.app}/${var.environment}"

  # The permissions boundary of all roles of this environment; terraform/account creates it.
  boundary = "arn:${data.aws_partition.this.partition}:iam::${local.account}:policy/${local.name}-boundary"
}

data "aws_availability_zones" "this" {
  # checkov:skip=CKV_AWS_394:the first two zones by name are used, and AWS gives new zones later names
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

data "aws_ecr_repository" "this" {
  name = var.app
}

data "aws_route53_zone" "this" {
  name = var.dns_zone
}
