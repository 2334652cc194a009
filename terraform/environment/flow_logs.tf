# Flow logs of the VPC: off by default, because they are billed by the gigabyte.
locals {
  flow           = var.flow_log_days > 0 ? toset(["flow"]) : toset([])
  flow_log_group = "${local.name}-flow"
}

resource "aws_cloudwatch_log_group" "flow" {
  # checkov:skip=CKV_AWS_158:encrypted with the CloudWatch managed key; addresses and ports only, deleted after flow_log_days
  for_each = local.flow

  name              = local.flow_log_group
  retention_in_days = var.flow_log_days
}

data "aws_iam_policy_document" "assumed_by_flow_logs" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["vpc-flow-logs.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

data "aws_iam_policy_document" "flow" {
  for_each = local.flow

  statement {
    actions   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = ["arn:${data.aws_partition.this.partition}:logs:${var.region}:${local.account}:log-group:${local.flow_log_group}:*"]
  }

  # Has no resource-level permissions: https://docs.aws.amazon.com/vpc/latest/userguide/flow-logs-iam-role.html
  statement {
    actions   = ["logs:DescribeLogGroups"]
    resources = ["*"]
  }
}

resource "aws_iam_role" "flow" {
  for_each = local.flow

  name                 = "${local.name}-flow"
  description          = "Lets the VPC of ${local.name} write its flow logs"
  assume_role_policy   = data.aws_iam_policy_document.assumed_by_flow_logs.json
  permissions_boundary = local.boundary
}

resource "aws_iam_role_policy" "flow" {
  for_each = local.flow

  name   = "flow"
  role   = aws_iam_role.flow[each.key].id
  policy = data.aws_iam_policy_document.flow[each.key].json
}

resource "aws_flow_log" "this" {
  for_each = local.flow

  vpc_id          = aws_vpc.this.id
  traffic_type    = "ALL"
  log_destination = aws_cloudwatch_log_group.flow[each.key].arn
  iam_role_arn    = aws_iam_role.flow[each.key].arn

  tags = { Name = local.name }

  depends_on = [aws_iam_role_policy.flow]
}
