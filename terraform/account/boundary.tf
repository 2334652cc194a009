# The permissions boundary of every role of an environment: an upper limit for the role's own policies.
# A workflow can create roles only under the boundary of its own environment. A new role therefore gains
# neither permissions that Daybook lacks nor access to another environment.
locals {
  partition = data.aws_partition.this.partition
  account   = data.aws_caller_identity.this.account_id

  # Built from names, so that the first plan shows the ARNs instead of "known after apply".
  repository_arn = "arn:${local.partition}:ecr:${var.region}:${local.account}:repository/${var.app}"
  boundary_arns  = { for env in local.environments : env => "arn:${local.partition}:iam::${local.account}:policy/${var.app}-${env}-boundary" }

  environments = toset(keys(var.environments))
}

data "aws_iam_policy_document" "boundary" {
  for_each = local.environments

  # checkov:skip=CKV_AWS_111:a boundary grants no permissions; the policies of the roles name their resources
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

  # These calls have no resource-level permissions, or change only the caller's own resources.
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

  # A snapshot has no tags while it is created; the snapshots of other environments have tags.
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

# Up to version 0.2, one boundary served all environments. Roles keep it until the next provision of
# their environment.
removed {
  from = aws_iam_policy.boundary

  lifecycle {
    destroy = false
  }
}
