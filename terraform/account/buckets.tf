locals {
  buckets = {
    state   = "${var.app}-state-${data.aws_caller_identity.this.account_id}"
    records = "${var.app}-records-${data.aws_caller_identity.this.account_id}"
  }
  bucket_arns = {
    for key, name in local.buckets : key => "arn:${data.aws_partition.this.partition}:s3:::${name}"
  }
}

resource "aws_s3_bucket" "state" {
  # checkov:skip=CKV_AWS_18:CloudTrail records changes; an access log would need another bucket
  # checkov:skip=CKV_AWS_144:versioning protects against mistakes; applications run in one region
  # checkov:skip=CKV_AWS_145:encrypted with the S3 managed key; a KMS key adds cost and the risk of losing access
  # checkov:skip=CKV2_AWS_62:no consumer of event notifications exists
  # checkov:skip=CKV2_AWS_61:a version has a few kilobytes; old versions are needed to restore a damaged state
  bucket = local.buckets.state

  lifecycle {
    prevent_destroy = true
  }
}

# The record of every finished run. Object Lock protects records from deletion and from lost laptops.
resource "aws_s3_bucket" "records" {
  # checkov:skip=CKV_AWS_18:CloudTrail records changes; an access log would need another bucket
  # checkov:skip=CKV_AWS_144:versioning protects against mistakes; applications run in one region
  # checkov:skip=CKV_AWS_145:encrypted with the S3 managed key; a KMS key adds cost and the risk of losing access
  # checkov:skip=CKV2_AWS_62:no consumer of event notifications exists
  # checkov:skip=CKV2_AWS_61:records are kept; deleting old records, after record_days, is a manual decision
  bucket              = local.buckets.records
  object_lock_enabled = true

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_object_lock_configuration" "records" {
  bucket = aws_s3_bucket.records.id

  rule {
    default_retention {
      mode = "GOVERNANCE"
      days = var.record_days
    }
  }

  # S3 Object Lock requires versioning.
  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets

  bucket = each.value

  versioning_configuration {
    status = "Enabled"
  }

  depends_on = [aws_s3_bucket.state, aws_s3_bucket.records]
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = each.value

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }

  depends_on = [aws_s3_bucket.state, aws_s3_bucket.records]
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket = each.value

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true

  depends_on = [aws_s3_bucket.state, aws_s3_bucket.records]
}

data "aws_iam_policy_document" "tls_only" {
  for_each = local.bucket_arns

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [each.value, "${each.value}/*"]

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

resource "aws_s3_bucket_policy" "this" {
  for_each = local.buckets

  bucket = each.value
  policy = data.aws_iam_policy_document.tls_only[each.key].json

  # S3 refuses concurrent changes of a bucket's access settings with a conflict.
  depends_on = [aws_s3_bucket_public_access_block.this]
}
