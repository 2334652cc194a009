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
  # checkov:skip=CKV_AWS_18:CloudTrail says who changed it; an access log would need a bucket of its own, and so on
  # checkov:skip=CKV_AWS_144:versions guard against mistakes; a copy in a second region is for those who run in two
  # checkov:skip=CKV_AWS_145:encrypted with S3's own key; a KMS key adds a price and a way to lock oneself out
  # checkov:skip=CKV2_AWS_62:nobody waits for an event
  # checkov:skip=CKV2_AWS_61:a few kilobytes a version, and the old ones are what a broken state is mended from
  bucket = local.buckets.state

  lifecycle {
    prevent_destroy = true
  }
}

# Every closed record of every run, where neither a lost laptop nor its owner removes one.
resource "aws_s3_bucket" "records" {
  # checkov:skip=CKV_AWS_18:CloudTrail says who changed it; an access log would need a bucket of its own, and so on
  # checkov:skip=CKV_AWS_144:versions guard against mistakes; a copy in a second region is for those who run in two
  # checkov:skip=CKV_AWS_145:encrypted with S3's own key; a KMS key adds a price and a way to lock oneself out
  # checkov:skip=CKV2_AWS_62:nobody waits for an event
  # checkov:skip=CKV2_AWS_61:records are kept; whoever wants to remove old ones decides so, after record_days
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

  # S3 locks objects in versioned buckets only.
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

  # S3 answers one change of a bucket's access at a time with a conflict.
  depends_on = [aws_s3_bucket_public_access_block.this]
}
