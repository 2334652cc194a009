# Daily snapshots of the hosts' disks, created by Data Lifecycle Manager. Existing snapshots remain after
# the environment is destroyed; teardown lists them.
locals {
  snapshots = var.snapshot_days > 0 ? toset(["snapshots"]) : toset([])

  # A single tag identifies the disks, because Data Lifecycle Manager selects disks that match any of several tags.
  snapshot_tag = { snapshots = local.name }

  ec2 = "arn:${data.aws_partition.this.partition}:ec2:${var.region}"
}

data "aws_iam_policy_document" "assumed_by_dlm" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["dlm.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

# https://docs.aws.amazon.com/ebs/latest/userguide/service-role.html, limited to this environment
data "aws_iam_policy_document" "snapshots" {
  statement {
    sid       = "Look"
    actions   = ["ec2:DescribeInstances", "ec2:DescribeSnapshots", "ec2:DescribeVolumes"]
    resources = ["*"]
  }

  statement {
    sid       = "CopyOwnDisks"
    actions   = ["ec2:CreateSnapshot"]
    resources = ["${local.ec2}:${local.account}:volume/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/snapshots"
      values   = [local.name]
    }
  }

  # A snapshot has no tags while it is created.
  statement {
    sid       = "MakeSnapshots"
    actions   = ["ec2:CreateSnapshot", "ec2:CreateTags"]
    resources = ["${local.ec2}::snapshot/*"]
  }

  statement {
    sid       = "RemoveOldOnes"
    actions   = ["ec2:DeleteSnapshot"]
    resources = ["${local.ec2}::snapshot/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/snapshots"
      values   = [local.name]
    }
  }
}

resource "aws_iam_role" "snapshots" {
  for_each = local.snapshots

  name                 = "${local.name}-snapshots"
  description          = "Makes and removes the daily snapshots of ${local.name}"
  assume_role_policy   = data.aws_iam_policy_document.assumed_by_dlm.json
  permissions_boundary = local.boundary
}

resource "aws_iam_role_policy" "snapshots" {
  for_each = local.snapshots

  name   = "snapshots"
  role   = aws_iam_role.snapshots[each.key].id
  policy = data.aws_iam_policy_document.snapshots.json
}

resource "aws_dlm_lifecycle_policy" "this" {
  for_each = local.snapshots

  description        = "Daily snapshots of ${local.name}"
  execution_role_arn = aws_iam_role.snapshots[each.key].arn

  policy_details {
    resource_types = ["VOLUME"]
    target_tags    = local.snapshot_tag

    schedule {
      name      = "daily"
      copy_tags = true

      create_rule {
        interval      = 24
        interval_unit = "HOURS"
        times         = ["03:00"]
      }

      retain_rule {
        interval      = var.snapshot_days
        interval_unit = "DAYS"
      }
    }
  }

  tags = { Name = local.name }

  depends_on = [aws_iam_role_policy.snapshots]
}
