# Releases through Systems Manager (deploy_via: ssm): a GitHub workflow sends this one document to hosts of
# this environment. The document runs only the command that a GitHub runner could run there too.
locals {
  has_ssm         = var.deploy_via == "ssm"
  release_name    = "${local.name}-release"
  github_host     = "token.actions.githubusercontent.com"
  repository_form = replace(data.aws_ecr_repository.this.repository_url, ".", "[.]")
}

resource "aws_ssm_document" "release" {
  count = local.has_ssm ? 1 : 0

  name            = local.release_name
  document_type   = "Command"
  document_format = "JSON"
  target_type     = "/AWS::EC2::Instance"

  content = jsonencode({
    schemaVersion = "2.2"
    description   = "Release an image of ${var.app} on a host of ${var.environment}"
    parameters = {
      image = {
        type           = "String"
        description    = "The image, by its digest"
        allowedPattern = "^${local.repository_form}@sha256:[0-9a-f]{64}$"
      }
      run = {
        type           = "String"
        description    = "Number of the workflow's run"
        default        = "0"
        allowedPattern = "^[0-9]{1,20}$"
      }
    }
    mainSteps = [{
      action = "aws:runShellScript"
      name   = "release"
      inputs = {
        timeoutSeconds = "1500"
        runCommand     = ["exec /usr/local/sbin/release-image '{{ image }}' '{{ run }}'"]
      }
    }]
  })
}

data "aws_iam_policy_document" "assumed_by_github" {
  # checkov:skip=CKV_AWS_358:the subject is one branch of one repository, and the settings refuse patterns
  count = local.has_ssm ? 1 : 0

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = ["arn:${data.aws_partition.this.partition}:iam::${local.account}:oidc-provider/${local.github_host}"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github_host}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github_host}:sub"
      values   = ["repo:${var.github.repository}:ref:refs/heads/${var.github.branch}"]
    }
  }
}

data "aws_iam_policy_document" "release" {
  # checkov:skip=CKV_AWS_111:the calls of `Look` have no resource-level permissions and are read-only
  # checkov:skip=CKV_AWS_356:as above
  count = local.has_ssm ? 1 : 0

  statement {
    sid       = "OneDocument"
    actions   = ["ssm:SendCommand"]
    resources = aws_ssm_document.release[*].arn
  }

  # https://docs.aws.amazon.com/systems-manager/latest/userguide/run-command-setting-up.html
  statement {
    sid       = "OwnHosts"
    actions   = ["ssm:SendCommand"]
    resources = ["arn:${data.aws_partition.this.partition}:ec2:${var.region}:${local.account}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/environment"
      values   = [var.environment]
    }

    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/app"
      values   = [var.app]
    }
  }

  statement {
    sid       = "Look"
    actions   = ["ssm:ListCommandInvocations", "ssm:ListCommands"]
    resources = ["*"]
  }
}

resource "aws_iam_role" "release" {
  count = local.has_ssm ? 1 : 0

  name                 = local.release_name
  description          = "For ${var.github.branch} of ${var.github.repository}: to ask for a release"
  assume_role_policy   = data.aws_iam_policy_document.assumed_by_github[0].json
  permissions_boundary = local.boundary
}

resource "aws_iam_role_policy" "release" {
  count = local.has_ssm ? 1 : 0

  name   = "release"
  role   = aws_iam_role.release[0].id
  policy = data.aws_iam_policy_document.release[0].json
}
