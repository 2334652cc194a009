# IAM roles for GitHub workflows, without long-lived keys: a workflow exchanges its OpenID Connect token
# for credentials that are valid for an hour.
# https://docs.github.com/en/actions/concepts/security/openid-connect
locals {
  has_github  = var.github.repository != ""
  github_host = "token.actions.githubusercontent.com"

  github_application = coalesce(var.github.application, var.github.repository, "none")

  # The token subjects that may assume each role: released branches push images, pull requests of the
  # repository itself plan, and a job of an environment runs Daybook in that environment only.
  github_subjects = local.has_github ? merge(
    {
      push = [for name in var.github.branches : "repo:${local.github_application}:ref:refs/heads/${name}"]
      plan = ["repo:${var.github.repository}:pull_request"]
    },
    { for env in local.environments : "run-${env}" => ["repo:${var.github.repository}:environment:${env}"] },
  ) : {}

  github_policies = merge(
    {
      push = one(data.aws_iam_policy_document.push[*].json)
      plan = one(data.aws_iam_policy_document.plan[*].json)
    },
    { for env, document in data.aws_iam_policy_document.run : "run-${env}" => document.json },
  )
}

# An account has at most one such provider, shared by all applications.
resource "aws_iam_openid_connect_provider" "github" {
  count = local.has_github && var.github.create_provider ? 1 : 0

  url            = "https://${local.github_host}"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "assumed_by_github" {
  # checkov:skip=CKV_AWS_358:checkov does not resolve each.value; a test pins all subjects, and the settings refuse patterns
  for_each = local.github_subjects

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = ["arn:${local.partition}:iam::${local.account}:oidc-provider/${local.github_host}"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github_host}:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github_host}:sub"
      values   = each.value
    }
  }
}

resource "aws_iam_role" "github" {
  for_each = local.github_subjects

  name               = "${var.app}-github-${each.key}"
  description        = "For ${join(", ", each.value)}"
  assume_role_policy = data.aws_iam_policy_document.assumed_by_github[each.key].json

  depends_on = [aws_iam_openid_connect_provider.github]
}

resource "aws_iam_role_policy" "github" {
  for_each = local.github_subjects

  name   = each.key
  role   = aws_iam_role.github[each.key].id
  policy = local.github_policies[each.key]
}

resource "aws_iam_policy" "machines" {
  for_each = data.aws_iam_policy_document.machines

  name        = "${var.app}-github-run-${each.key}-machines"
  description = "What workflows of ${each.key} of ${var.app} may do to EC2"
  policy      = each.value.json
}

resource "aws_iam_role_policy_attachment" "machines" {
  for_each = aws_iam_policy.machines

  role       = aws_iam_role.github["run-${each.key}"].name
  policy_arn = each.value.arn
}
