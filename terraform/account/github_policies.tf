# What the roles of github.tf may do.
data "aws_iam_policy_document" "push" {
  count = local.has_github ? 1 : 0

  statement {
    sid       = "Login"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Images"
    actions   = local.image_calls
    resources = [local.repository_arn]
  }
}

# What Terraform reads for a plan, and no parameter: anybody who opens a pull request has it.
data "aws_iam_policy_document" "plan" {
  count = local.has_github ? 1 : 0

  # checkov:skip=CKV_AWS_356:the calls change nothing, and most know no resource
  statement {
    sid = "Look"
    actions = [
      "cloudwatch:DescribeAlarms",
      "cloudwatch:ListTagsForResource",
      "dlm:GetLifecyclePolicies",
      "dlm:GetLifecyclePolicy",
      "ec2:Describe*",
      "ecr:DescribeRepositories",
      "ecr:ListTagsForResource",
      "iam:GetInstanceProfile",
      "iam:GetRole",
      "iam:GetRolePolicy",
      "iam:ListAttachedRolePolicies",
      "iam:ListRolePolicies",
      "logs:DescribeLogGroups",
      "logs:ListTagsForResource",
      "route53:GetHostedZone",
      "route53:ListHostedZones",
      "route53:ListHostedZonesByName",
      "route53:ListResourceRecordSets",
      "route53:ListTagsForResource",
      "sns:GetSubscriptionAttributes",
      "sns:GetTopicAttributes",
      "sns:ListTagsForResource",
      "ssm:DescribeDocument",
      "ssm:DescribeDocumentPermission",
      "ssm:GetDocument",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "Buckets"
    actions   = ["s3:GetBucketLocation", "s3:ListBucket"]
    resources = [local.bucket_arns.state]
  }

  statement {
    sid       = "States"
    actions   = ["s3:GetObject"]
    resources = ["${local.bucket_arns.state}/env:/*"]
  }
}

# Every step but bootstrap: who could change these very roles could do anything.
data "aws_iam_policy_document" "run" {
  count = local.has_github ? 1 : 0

  # checkov:skip=CKV_AWS_111:EC2's part is bound to the region here, and to what Daybook made by `Strangers`
  # checkov:skip=CKV_AWS_356:the calls of `Look` and `Machines` know no resource, or none before it exists
  # checkov:skip=CKV_AWS_108:states, records and parameters are what a run works on, and named
  # checkov:skip=CKV_AWS_109:roles are made under the boundary alone
  statement {
    sid       = "Machines"
    actions   = ["ec2:*"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.region]
    }
  }

  # What has another application's tag, or none, is not ended, emptied or detached.
  statement {
    sid    = "Strangers"
    effect = "Deny"
    actions = [
      "ec2:DeleteInternetGateway",
      "ec2:DeleteKeyPair",
      "ec2:DeleteRouteTable",
      "ec2:DeleteSecurityGroup",
      "ec2:DeleteSnapshot",
      "ec2:DeleteSubnet",
      "ec2:DeleteVolume",
      "ec2:DeleteVpc",
      "ec2:ModifyInstanceAttribute",
      "ec2:RebootInstances",
      "ec2:ReleaseAddress",
      "ec2:StopInstances",
      "ec2:TerminateInstances",
    ]
    resources = ["*"]

    condition {
      test     = "StringNotEquals"
      variable = "aws:ResourceTag/app"
      values   = [var.app]
    }
  }

  statement {
    sid = "Look"
    actions = [
      "cloudtrail:LookupEvents",
      "cloudwatch:DescribeAlarms",
      "cloudwatch:ListTagsForResource",
      "dlm:GetLifecyclePolicies",
      "ecr:GetAuthorizationToken",
      "iam:GetRole",
      "iam:GetInstanceProfile",
      "iam:ListInstanceProfiles",
      "iam:ListRoles",
      "logs:DescribeLogGroups",
      "route53:GetChange",
      "route53:ListHostedZones",
      "route53:ListHostedZonesByName",
      "ssm:DescribeParameters",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "Images"
    actions   = local.image_calls
    resources = [local.repository_arn]
  }

  statement {
    sid       = "Names"
    actions   = ["route53:ChangeResourceRecordSets", "route53:GetHostedZone", "route53:ListResourceRecordSets", "route53:ListTagsForResource"]
    resources = [local.zone.arn]
  }

  statement {
    sid       = "Buckets"
    actions   = ["s3:GetBucketLocation", "s3:ListBucket"]
    resources = values(local.bucket_arns)
  }

  # The account's own state is read; a record is written once and never removed; a person's approval
  # counts by its signature, whoever put it there.
  statement {
    sid       = "States"
    actions   = ["s3:GetObject"]
    resources = ["${local.bucket_arns.state}/*", "${local.bucket_arns.records}/*"]
  }

  statement {
    sid       = "OwnStates"
    actions   = ["s3:DeleteObject", "s3:PutObject"]
    resources = [for kind in ["approvals", "env:", "locks", "waiting"] : "${local.bucket_arns.state}/${kind}/*"]
  }

  statement {
    sid       = "Records"
    actions   = ["s3:PutObject"]
    resources = ["${local.bucket_arns.records}/*"]
  }

  statement {
    sid = "Parameters"
    actions = [
      "ssm:AddTagsToResource",
      "ssm:DeleteParameter",
      "ssm:GetParameter",
      "ssm:GetParameterHistory",
      "ssm:GetParameters",
      "ssm:GetParametersByPath",
      "ssm:LabelParameterVersion",
      "ssm:ListTagsForResource",
      "ssm:PutParameter",
    ]
    resources = ["arn:${local.partition}:ssm:${var.region}:${local.account}:parameter/${var.app}/*"]
  }

  statement {
    sid     = "Watch"
    actions = ["cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm", "cloudwatch:TagResource", "cloudwatch:UntagResource", "sns:*", "logs:*"]
    resources = [
      "arn:${local.partition}:cloudwatch:${var.region}:${local.account}:alarm:${var.app}-*",
      "arn:${local.partition}:sns:${var.region}:${local.account}:${var.app}-*",
      "arn:${local.partition}:logs:${var.region}:${local.account}:log-group:${var.app}-*",
    ]
  }

  # What Systems Manager runs on hosts for a release; a workflow sends it as another role.
  statement {
    sid       = "Documents"
    actions   = ["ssm:AddTagsToResource", "ssm:CreateDocument", "ssm:DeleteDocument", "ssm:DescribeDocument", "ssm:DescribeDocumentPermission", "ssm:GetDocument", "ssm:ListTagsForResource", "ssm:RemoveTagsFromResource", "ssm:UpdateDocument", "ssm:UpdateDocumentDefaultVersion"]
    resources = ["arn:${local.partition}:ssm:${var.region}:${local.account}:document/${var.app}-*-release"]
  }

  # Its policies have ids and no names.
  statement {
    sid       = "Snapshots"
    actions   = ["dlm:CreateLifecyclePolicy", "dlm:DeleteLifecyclePolicy", "dlm:GetLifecyclePolicy", "dlm:ListTagsForResource", "dlm:TagResource", "dlm:UntagResource", "dlm:UpdateLifecyclePolicy"]
    resources = ["arn:${local.partition}:dlm:${var.region}:${local.account}:policy/*"]
  }

  statement {
    sid       = "RolesUnderTheBoundary"
    actions   = ["iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"]
    resources = local.made_roles

    condition {
      test     = "StringEquals"
      variable = "iam:PermissionsBoundary"
      values   = [local.boundary_arn]
    }
  }

  statement {
    sid = "Roles"
    actions = [
      "iam:DeleteRole",
      "iam:GetRolePolicy",
      "iam:ListAttachedRolePolicies",
      "iam:ListInstanceProfilesForRole",
      "iam:ListRolePolicies",
      "iam:ListRoleTags",
      "iam:TagRole",
      "iam:UntagRole",
      "iam:UpdateAssumeRolePolicy",
      "iam:UpdateRole",
      "iam:UpdateRoleDescription",
    ]
    resources = local.made_roles
  }

  statement {
    sid       = "PassRoles"
    actions   = ["iam:PassRole"]
    resources = local.made_roles

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["dlm.amazonaws.com", "ec2.amazonaws.com", "vpc-flow-logs.amazonaws.com"]
    }
  }

  statement {
    sid       = "Profiles"
    actions   = ["iam:AddRoleToInstanceProfile", "iam:CreateInstanceProfile", "iam:DeleteInstanceProfile", "iam:RemoveRoleFromInstanceProfile", "iam:TagInstanceProfile", "iam:UntagInstanceProfile"]
    resources = ["arn:${local.partition}:iam::${local.account}:instance-profile/${var.app}-*-host"]
  }
}

locals {
  image_calls = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:DescribeImages",
    "ecr:DescribeRepositories",
    "ecr:GetDownloadUrlForLayer",
    "ecr:InitiateLayerUpload",
    "ecr:ListTagsForResource",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
  ]

  # Those of an environment end like this, and those of github.tf do not.
  made_roles = [for kind in ["flow", "host", "release", "snapshots"] : "arn:${local.partition}:iam::${local.account}:role/${var.app}-*-${kind}"]
}
