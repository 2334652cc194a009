provider "aws" {
  region = var.region
  # A call that AWS goes on to fail is given up after a minute. Of the provider's own 25 tries, each pause
  # about twice the one before, a plan said nothing for more than five.
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
  # checkov:skip=CKV_AWS_51:latest and staging-latest move; hosts run digests, which cannot
  # checkov:skip=CKV_AWS_136:encrypted with ECR's own key; images hold no secret
  name                 = var.app
  image_tag_mutability = "MUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }
}

# Hosts run images by digest, and no rule can know which digests they may go back to. So what has a
# tag stays, and every image that is pushed for a release has its commit's, which never moves.
resource "aws_ecr_lifecycle_policy" "this" {
  repository = aws_ecr_repository.this.name

  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Leftovers of unfinished pushes"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 30 }
        action       = { type = "expire" }
      },
    ]
  })
}

resource "aws_route53_zone" "this" {
  # checkov:skip=CKV2_AWS_38:DNSSEC begins at the registrar, whom nothing here can reach; half of it takes a domain off the net
  # checkov:skip=CKV2_AWS_39:a public zone's queries say nothing that an operator here acts on
  count = var.zone_id == null ? 1 : 0

  name    = var.zone
  comment = "${var.app}, by Daybook"

  lifecycle {
    prevent_destroy = true
  }
}

data "aws_route53_zone" "given" {
  count = var.zone_id == null ? 0 : 1

  zone_id = var.zone_id
}
