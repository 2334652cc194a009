# The most that any role of an environment can do, whatever its own policy says. A workflow may make
# roles under its environment's boundary only, so it gains nothing by making one: neither rights that
# Daybook lacks nor another environment's.
locals {
  partition = data.aws_partition.this.partition
  account   = data.aws_caller_identity.this.account_id

  # By their names, so that a first plan can show what it grants.
  repository_arn = "arn:${local.partition}:ecr:${var.region}:${local.account}:repository/${var.app}"
  boundary_arns  = { for env in local.environments : env => "arn:${local.partition}:iam::${local.account}:policy/${var.app}-${env}-boundary" }

  environments = toset(keys(var.environments))
}

data "aws_iam_policy_document" "boundary" {
  for_each = local.environments

  # checkov:skip=CKV_AWS_111:a boundary grants nothing; the roles' own policies name their resources
  # checkov:skip=CKV_AWS_356:as above
  # checkov:skip=CKV_AWS_108:as above
  statement {
    sid = "Pull"
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:GetDownloadUrlForLayer",
    ]
    resources = [local.repository_arn]
  }

  statement {
    sid       = "Parameters"
    actions   = ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"]
    resources = local.own_parameters[each.key]
  }

  statement {
    sid       = "Metrics"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = ["${var.app}/${each.key}"]
    }
  }

  statement {
    sid       = "FlowLogs"
    actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = local.log_groups[each.key]
  }

  # These calls know no resource, or change none but the caller's own.
  statement {
    sid = "NoResource"
    actions = [
      "ec2:DescribeInstances",
      "ec2:DescribeSnapshots",
      "ec2:DescribeVolumes",
      "ecr:GetAuthorizationToken",
      "logs:DescribeLogGroups",
      "ssm:ListCommandInvocations",
      "ssm:ListCommands",
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }

  # A snapshot in the making has no tags yet; one of another environment has.
  statement {
    sid       = "Snapshots"
    actions   = ["ec2:CreateSnapshot", "ec2:CreateTags"]
    resources = ["arn:${local.partition}:ec2:${var.region}::snapshot/*", "arn:${local.partition}:ec2:${var.region}:${local.account}:volume/*"]

    dynamic "condition" {
      for_each = local.own_tags[each.key]

      content {
        test     = "StringEqualsIfExists"
        variable = "aws:ResourceTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  statement {
    sid       = "OldSnapshots"
    actions   = ["ec2:DeleteSnapshot"]
    resources = ["arn:${local.partition}:ec2:${var.region}::snapshot/*"]

    dynamic "condition" {
      for_each = local.own_tags[each.key]

      content {
        test     = "StringEquals"
        variable = "aws:ResourceTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  statement {
    sid       = "Release"
    actions   = ["ssm:SendCommand"]
    resources = [local.documents[each.key]]
  }

  statement {
    sid       = "ReleaseOnOwnHosts"
    actions   = ["ssm:SendCommand"]
    resources = ["arn:${local.partition}:ec2:${var.region}:${local.account}:instance/*"]

    dynamic "condition" {
      for_each = local.own_tags[each.key]

      content {
        test     = "StringEquals"
        variable = "ssm:resourceTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }
}

resource "aws_iam_policy" "environment" {
  for_each = local.environments

  name        = "${var.app}-${each.key}-boundary"
  description = "The most that a role of ${each.key} of ${var.app} can do"
  policy      = data.aws_iam_policy_document.boundary[each.key].json
}

# One for all environments, until 0.2. Roles keep it until their environment is provisioned again.
removed {
  from = aws_iam_policy.boundary

  lifecycle {
    destroy = false
  }
}
