data "aws_iam_policy_document" "assumed_by_ec2" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "host" {
  # checkov:skip=CKV_AWS_111:Session Manager calls have no resource-level permissions; metrics are limited to a namespace
  # checkov:skip=CKV_AWS_356:as above, and the ECR login
  # Neither this call nor those of Session Manager have resource-level permissions:
  # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html
  statement {
    sid       = "Login"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Pull"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [data.aws_ecr_repository.this.arn]
  }

  # Decryption needs no statement: the key aws/ssm can be used by every principal that can read the parameter.
  # https://docs.aws.amazon.com/kms/latest/developerguide/services-parameter-store.html
  statement {
    sid       = "OwnParameters"
    actions   = ["ssm:GetParameter", "ssm:GetParameters", "ssm:GetParametersByPath"]
    resources = [local.parameters, "${local.parameters}/*"]
  }

  # Replaces AmazonSSMManagedInstanceCore, which can read every parameter of the account.
  statement {
    sid = "SessionManager"
    actions = [
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }

  # The hosts publish their disk usage, which EC2 does not measure.
  dynamic "statement" {
    for_each = local.has_alarms ? ["*"] : []

    content {
      sid       = "OwnMetrics"
      actions   = ["cloudwatch:PutMetricData"]
      resources = ["*"]

      condition {
        test     = "StringEquals"
        variable = "cloudwatch:namespace"
        values   = [local.metrics]
      }
    }
  }
}

resource "aws_iam_role" "host" {
  name                 = "${local.name}-host"
  description          = "What a host of ${local.name} may do: pull its images, read its parameters, be reached by Session Manager"
  assume_role_policy   = data.aws_iam_policy_document.assumed_by_ec2.json
  permissions_boundary = local.boundary
}

resource "aws_iam_role_policy" "host" {
  name   = "host"
  role   = aws_iam_role.host.id
  policy = data.aws_iam_policy_document.host.json
}

resource "aws_iam_instance_profile" "host" {
  name = "${local.name}-host"
  role = aws_iam_role.host.name
}
