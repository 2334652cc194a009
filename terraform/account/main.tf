provider "aws" {
  region = var.region
  # Ends a failing call after about a minute. With the default of 25 retries and exponential backoff, a
  # plan shows no output for more than five minutes.
  max_retries = 10

  default_tags {
    tags = {
      app        = var.app
      managed_by = "daybook"
    }
  }
}

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

locals {
  zone = one(concat(aws_route53_zone.this, data.aws_route53_zone.given))
}

resource "aws_ecr_repository" "this" {
  # checkov:skip=CKV_AWS_51:the tags latest and staging-latest move; hosts run immutable digests
  # checkov:skip=CKV_AWS_136:encrypted with the ECR managed key; images hold no secrets
  name                 = var.app
  image_tag_mutability = "MUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }
}

# Hosts run images by digest, and a lifecycle rule cannot know which digests a rollback needs. Tagged
# images are therefore kept. Every released image has the tag of its commit, which never moves.
resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Layers of unfinished pushes"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 30 }
        action       = { type = "expire" }
      },
    ]
  })
}

resource "aws_route53_zone" "this" {
  # checkov:skip=CKV2_AWS_38:DNSSEC needs a DS record at the registrar, outside AWS; an incomplete setup makes the domain unreachable
  # checkov:skip=CKV2_AWS_39:no operator task needs query logs of a public zone
  count = var.zone_id == null ? 1 : 0

  name    = var.dns_zone
  comment = "${var.app}, by Daybook"

  lifecycle {
    prevent_destroy = true
  }
}

data "aws_route53_zone" "given" {
  count = var.zone_id == null ? 0 : 1

  zone_id = var.zone_id
}
