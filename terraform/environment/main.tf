provider "aws" {
  region = var.region
  # A call that AWS goes on to fail is given up after a minute. Of the provider's own 25 tries, each pause
  # about twice the one before, a plan said nothing for more than five.
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
  name  = "${var.app}-${var.environment}"
  hosts = { for number in range(1, var.instance_count + 1) : tostring(number) => "${local.name}-${number}" }
  zones = slice(data.aws_availability_zones.this.names, 0, 2)

  account    = data.aws_caller_identity.this.account_id
  parameters = "arn:${data.aws_partition.this.partition}:ssm:${var.region}:${local.account}:parameter/${var.app}/${var.environment}"

  # The most that a role of this environment can do; terraform/account makes it.
  boundary = "arn:${data.aws_partition.this.partition}:iam::${local.account}:policy/${local.name}-boundary"
}

data "aws_availability_zones" "this" {
  # checkov:skip=CKV_AWS_394:the first two by name are taken, and AWS names a new zone after those there are
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
  name = var.zone
}
