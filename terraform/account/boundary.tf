# The most that any role of an environment can be, whatever its own policy says. Who runs Daybook
# may make roles only under it, and so never one that may do more than Daybook.
locals {
  partition = data.aws_partition.this.partition
  account   = data.aws_caller_identity.this.account_id

  # By their names, so that a first plan can show what it grants.
  repository_arn = "arn:${local.partition}:ecr:${var.region}:${local.account}:repository/${var.app}"
  boundary_arn   = "arn:${local.partition}:iam::${local.account}:policy/${var.app}-boundary"
}

data "aws_iam_policy_document" "boundary" {
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
    resources = ["arn:${local.partition}:ssm:*:${local.account}:parameter/${var.app}/*"]
  }

  statement {
    sid = "HostsAndTheirKeepers"
    actions = [
      "cloudwatch:PutMetricData",
      "ec2:CreateSnapshot",
      "ec2:CreateTags",
      "ec2:DeleteSnapshot",
      "ec2:DescribeInstances",
      "ec2:DescribeSnapshots",
      "ec2:DescribeVolumes",
      "ecr:GetAuthorizationToken",
      "logs:CreateLogStream",
      "logs:DescribeLogGroups",
      "logs:DescribeLogStreams",
      "logs:PutLogEvents",
      "ssm:ListCommandInvocations",
      "ssm:ListCommands",
      "ssm:SendCommand",
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_policy" "boundary" {
  name        = "${var.app}-boundary"
  description = "The most that a role of an environment of ${var.app} can be"
  policy      = data.aws_iam_policy_document.boundary.json
}
