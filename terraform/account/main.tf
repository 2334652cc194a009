provider "aws" {
  region = var.region

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
  state_bucket = "${var.app}-state-${data.aws_caller_identity.this.account_id}"
  state_arn    = "arn:${data.aws_partition.this.partition}:s3:::${local.state_bucket}"
  zone         = one(concat(aws_route53_zone.this, data.aws_route53_zone.given))
}

resource "aws_s3_bucket" "state" {
  bucket = local.state_bucket

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "state" {
  bucket = aws_s3_bucket.state.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "state" {
  bucket = aws_s3_bucket.state.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "state" {
  bucket = aws_s3_bucket.state.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

data "aws_iam_policy_document" "tls_only" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [local.state_arn, "${local.state_arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "state" {
  bucket = aws_s3_bucket.state.id
  policy = data.aws_iam_policy_document.tls_only.json

  # S3 answers one change of a bucket's access at a time with a conflict.
  depends_on = [aws_s3_bucket_public_access_block.state]
}

resource "aws_ecr_repository" "this" {
  name                 = var.app
  image_tag_mutability = "MUTABLE" # latest and staging-latest move; hosts run digests

  image_scanning_configuration {
    scan_on_push = true
  }
}

# Hosts run images by digest and rollback wants the older ones, so nothing with a tag goes before
# 500 newer ones have come.
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
      {
        rulePriority = 2
        description  = "Keep the newest 500 images"
        selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 500 }
        action       = { type = "expire" }
      },
    ]
  })
}

resource "aws_route53_zone" "this" {
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
