# Policies of the roles in github.tf.
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

# Read access for `terraform plan`, without parameters: every pull request gets this role.
data "aws_iam_policy_document" "plan" {
  count = local.has_github ? 1 : 0

  # checkov:skip=CKV_AWS_356:the calls are read-only, and most have no resource-level permissions
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
    resources = ["${local.bucket_arns.state}/env:/*", local.default_state]
  }
}

# The EC2 permissions of every step except bootstrap, in one environment. Bootstrap is excluded because
# permission to change these roles would be permission to do anything. EC2 resources are selected by tags.
# All other resources are selected by their complete names, because the name of an environment can be a
# prefix of another environment's name.
data "aws_iam_policy_document" "machines" {
  for_each = local.has_github ? local.environments : toset([])

  # checkov:skip=CKV_AWS_111:EC2 permissions are limited by tags, the others by names
  # checkov:skip=CKV_AWS_356:the calls of `Look` have no resource-level permissions
  # checkov:skip=CKV_AWS_108:a run needs states, records and parameters; all are limited by name
  # checkov:skip=CKV_AWS_109:roles are created under the environment's boundary only
  statement {
    sid       = "LookAtMachines"
    actions   = ["ec2:Describe*"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.region]
    }
  }

  statement {
    sid       = "OwnMachines"
    actions   = local.machine_calls
    resources = ["${local.ec2}:${local.account}:*", "${local.ec2}::snapshot/*"]

    dynamic "condition" {
      for_each = local.own_tags[each.key]

      content {
        test     = "StringEquals"
        variable = "aws:ResourceTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  # One statement for each set of independent calls, none of which uses a resource that another call of
  # the set creates. Otherwise a tag in the request could replace the tag of an existing resource.
  dynamic "statement" {
    for_each = local.create_calls

    content {
      sid       = statement.key
      actions   = statement.value.calls
      resources = [for kind in statement.value.kinds : kind == "snapshot" ? "${local.ec2}::snapshot/*" : kind == "key-pair" ? "${local.ec2}:${local.account}:key-pair/${var.app}-${each.key}" : "${local.ec2}:${local.account}:${kind}/*"]

      dynamic "condition" {
        for_each = local.own_tags[each.key]

        content {
          test     = "StringEquals"
          variable = "aws:RequestTag/${condition.key}"
          values   = [condition.value]
        }
      }
    }
  }

  # RunInstances creates these without tags. A network interface in use cannot be attached to another instance.
  statement {
    sid       = "Launch"
    actions   = ["ec2:RunInstances"]
    resources = ["${local.ec2}::image/*", "${local.ec2}:${local.account}:image/*", "${local.ec2}:${local.account}:network-interface/*"]
  }

  # Network interfaces have no tags, and Terraform repeats the call for an association that no longer
  # exists. An address with an `environment` tag is covered by OwnMachines instead.
  statement {
    sid       = "Disassociate"
    actions   = ["ec2:DisassociateAddress"]
    resources = ["*"]

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/environment"
      values   = ["true"]
    }
  }

  # The default rules of a security group have no tags. The security group itself must still belong to the
  # environment, because OwnMachines covers it.
  statement {
    sid       = "Revoke"
    actions   = ["ec2:RevokeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress"]
    resources = ["${local.ec2}:${local.account}:security-group-rule/*"]
  }

  statement {
    sid       = "TagWhatIsMade"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}:${local.account}:*/*", "${local.ec2}::snapshot/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = distinct(flatten([for group in values(local.create_calls) : [for call in group.calls : trimprefix(call, "ec2:")]]))
    }

    dynamic "condition" {
      for_each = local.own_tags[each.key]

      content {
        test     = "StringEquals"
        variable = "aws:RequestTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  # Refuses to move a resource of this environment to another environment.
  statement {
    sid       = "TagOwn"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}:${local.account}:*/*", "${local.ec2}::snapshot/*"]

    dynamic "condition" {
      for_each = local.own_tags[each.key]

      content {
        test     = "StringEquals"
        variable = "aws:ResourceTag/${condition.key}"
        values   = [condition.value]
      }
    }

    dynamic "condition" {
      for_each = local.own_tags[each.key]

      content {
        test     = "StringEqualsIfExists"
        variable = "aws:RequestTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  # The default security group of a VPC has no tags. Terraform tags it and then removes its rules.
  statement {
    sid       = "TagDefaultGroup"
    actions   = ["ec2:CreateTags"]
    resources = ["${local.ec2}:${local.account}:security-group/*"]

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/environment"
      values   = ["true"]
    }

    dynamic "condition" {
      for_each = local.own_tags[each.key]

      content {
        test     = "StringEquals"
        variable = "aws:RequestTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }
}

# All other permissions of the same role. IAM limits inline policies to 10,240 characters per role and a
# managed policy to 6,144.
data "aws_iam_policy_document" "run" {
  for_each = local.has_github ? local.environments : toset([])

  # checkov:skip=CKV_AWS_356:the calls of `Look` have no resource-level permissions
  # checkov:skip=CKV_AWS_108:a run needs states, records and parameters; all are limited by name
  # checkov:skip=CKV_AWS_109:roles are created under the environment's boundary only
  statement {
    sid = "Look"
    actions = [
      "cloudtrail:LookupEvents",
      "cloudwatch:DescribeAlarms",
      "dlm:GetLifecyclePolicies",
      "ecr:GetAuthorizationToken",
      "iam:GetInstanceProfile",
      "iam:GetRole",
      "iam:ListInstanceProfiles",
      "iam:ListRoles",
      "logs:DescribeLogGroups",
      "route53:GetChange",
      "route53:ListHostedZones",
      "route53:ListHostedZonesByName",
      "sns:ListTopics",
      "ssm:DescribeParameters",
    ]
    resources = ["*"]
  }

  # The id of a subscription is unpredictable, and these calls have no resource-level permissions.
  statement {
    sid       = "Subscriptions"
    actions   = ["sns:GetSubscriptionAttributes", "sns:Unsubscribe"]
    resources = ["*"]
  }

  statement {
    sid       = "Images"
    actions   = local.image_calls
    resources = [local.repository_arn]
  }

  statement {
    sid       = "Zone"
    actions   = ["route53:GetHostedZone", "route53:ListResourceRecordSets", "route53:ListTagsForResource"]
    resources = [local.zone.arn]
  }

  # The domains of the environment and of its hosts: hello-staging-1.example.com.
  statement {
    sid       = "Names"
    actions   = ["route53:ChangeResourceRecordSets"]
    resources = [local.zone.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
      values   = concat(var.environments[each.key].domains, ["${var.app}-${each.key}-?.${var.dns_zone}"])
    }

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "route53:ChangeResourceRecordSetsRecordTypes"
      values   = ["A"]
    }
  }

  statement {
    sid       = "Buckets"
    actions   = ["s3:GetBucketLocation"]
    resources = values(local.bucket_arns)
  }

  # IfExists: for a missing object, S3 returns 404 only to callers that may list without a prefix.
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = values(local.bucket_arns)

    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["env:/", "env:/${each.key}/*", "approvals/${each.key}/*", "waiting/${each.key}/*", "${each.key}/*"]
    }
  }

  # An approval is valid because of its signature; write access to the object proves nothing.
  statement {
    sid       = "States"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = [for path in ["approvals/${each.key}/*", "env:/${each.key}/*", "locks/${each.key}.json", "waiting/${each.key}/*"] : "${local.bucket_arns.state}/${path}"]
  }

  # Terraform also reads the state of the default workspace, which never exists.
  statement {
    sid       = "DefaultState"
    actions   = ["s3:GetObject"]
    resources = [local.default_state]
  }

  # A record is written once and never deleted.
  statement {
    sid       = "Records"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${local.bucket_arns.records}/${each.key}/*"]
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
    resources = concat(local.own_parameters[each.key], ["${local.parameters}/${var.app}/github/${each.key}/*"])
  }

  statement {
    sid       = "Review"
    actions   = ["ssm:GetParameter"]
    resources = ["${local.parameters}${aws_ssm_parameter.review.name}"]
  }

  # Without this condition, an alarm could stop or terminate any instance.
  statement {
    sid       = "SetAlarms"
    actions   = ["cloudwatch:PutMetricAlarm"]
    resources = local.alarms[each.key]

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "cloudwatch:AlarmActions"
      values   = [local.topics[each.key], "arn:${local.partition}:automate:${var.region}:ec2:recover"]
    }
  }

  statement {
    sid       = "Alarms"
    actions   = ["cloudwatch:DeleteAlarms", "cloudwatch:ListTagsForResource", "cloudwatch:TagResource", "cloudwatch:UntagResource"]
    resources = local.alarms[each.key]
  }

  statement {
    sid       = "Topic"
    actions   = ["sns:CreateTopic", "sns:DeleteTopic", "sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic", "sns:ListTagsForResource", "sns:SetTopicAttributes", "sns:Subscribe", "sns:TagResource", "sns:UntagResource"]
    resources = [local.topics[each.key]]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:DeleteRetentionPolicy", "logs:ListTagsForResource", "logs:PutRetentionPolicy", "logs:TagResource", "logs:UntagResource"]
    resources = local.log_groups[each.key]
  }

  # The document that Systems Manager runs on hosts for a release. Another role sends the command.
  statement {
    sid       = "Document"
    actions   = ["ssm:AddTagsToResource", "ssm:CreateDocument", "ssm:DeleteDocument", "ssm:DescribeDocument", "ssm:DescribeDocumentPermission", "ssm:GetDocument", "ssm:ListTagsForResource", "ssm:RemoveTagsFromResource", "ssm:UpdateDocument", "ssm:UpdateDocumentDefaultVersion"]
    resources = [local.documents[each.key]]
  }

  # Lifecycle policies have ids but no names.
  statement {
    sid       = "MakeSnapshotPolicy"
    actions   = ["dlm:CreateLifecyclePolicy"]
    resources = ["*"]

    dynamic "condition" {
      for_each = local.own_tags[each.key]

      content {
        test     = "StringEquals"
        variable = "aws:RequestTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  statement {
    sid       = "SnapshotPolicy"
    actions   = ["dlm:DeleteLifecyclePolicy", "dlm:GetLifecyclePolicy", "dlm:ListTagsForResource", "dlm:TagResource", "dlm:UntagResource", "dlm:UpdateLifecyclePolicy"]
    resources = ["arn:${local.partition}:dlm:${var.region}:${local.account}:policy/*"]

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
    sid       = "RolesUnderTheBoundary"
    actions   = ["iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"]
    resources = local.environment_roles[each.key]

    condition {
      test     = "StringEquals"
      variable = "iam:PermissionsBoundary"
      values   = [local.boundary_arns[each.key]]
    }
  }

  statement {
    sid       = "Boundary"
    actions   = ["iam:GetPolicy"]
    resources = [local.boundary_arns[each.key]]
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
    resources = local.environment_roles[each.key]
  }

  statement {
    sid       = "PassRoles"
    actions   = ["iam:PassRole"]
    resources = local.environment_roles[each.key]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["dlm.amazonaws.com", "ec2.amazonaws.com", "vpc-flow-logs.amazonaws.com"]
    }
  }

  statement {
    sid       = "Profile"
    actions   = ["iam:AddRoleToInstanceProfile", "iam:CreateInstanceProfile", "iam:DeleteInstanceProfile", "iam:RemoveRoleFromInstanceProfile", "iam:TagInstanceProfile", "iam:UntagInstanceProfile"]
    resources = ["arn:${local.partition}:iam::${local.account}:instance-profile/${var.app}-${each.key}-host"]
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

  # Calls on existing resources of the environment.
  machine_calls = [
    "ec2:Associate*",
    "ec2:AttachInternetGateway",
    "ec2:AuthorizeSecurityGroup*",
    "ec2:CreateFlowLogs",
    "ec2:CreateRoute",
    "ec2:CreateRouteTable",
    "ec2:CreateSecurityGroup",
    "ec2:CreateSnapshot",
    "ec2:CreateSubnet",
    "ec2:Delete*",
    "ec2:DetachInternetGateway",
    "ec2:Disassociate*",
    "ec2:GetConsoleOutput",
    "ec2:ModifyInstanceAttribute",
    "ec2:ModifyInstanceMetadataOptions",
    "ec2:ModifySecurityGroupRules",
    "ec2:ModifySubnetAttribute",
    "ec2:ModifyVolume",
    "ec2:ModifyVpcAttribute",
    "ec2:RebootInstances",
    "ec2:ReleaseAddress",
    "ec2:ReplaceIamInstanceProfileAssociation",
    "ec2:ReplaceRoute*",
    "ec2:RevokeSecurityGroup*",
    "ec2:RunInstances",
    "ec2:StartInstances",
    "ec2:StopInstances",
    "ec2:TerminateInstances",
    "ec2:UpdateSecurityGroupRuleDescriptions*",
  ]

  # Calls that create tagged resources, by statement.
  create_calls = {
    MakeAlone  = { calls = ["ec2:AllocateAddress", "ec2:CreateInternetGateway", "ec2:CreateVpc", "ec2:ImportKeyPair"], kinds = ["elastic-ip", "internet-gateway", "key-pair", "vpc"] }
    MakeInVpc  = { calls = ["ec2:CreateRouteTable", "ec2:CreateSecurityGroup", "ec2:CreateSubnet"], kinds = ["route-table", "security-group", "subnet"] }
    MakeRules  = { calls = ["ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress", "ec2:CreateFlowLogs"], kinds = ["security-group-rule", "vpc-flow-log"] }
    MakeCopies = { calls = ["ec2:CreateSnapshot"], kinds = ["snapshot"] }
    MakeHosts  = { calls = ["ec2:RunInstances"], kinds = ["instance", "volume"] }
  }

  default_state = "${local.bucket_arns.state}/environment/terraform.tfstate"

  ec2        = "arn:${local.partition}:ec2:${var.region}"
  parameters = "arn:${local.partition}:ssm:${var.region}:${local.account}:parameter"

  own_tags          = { for env in local.environments : env => { app = var.app, environment = env } }
  own_parameters    = { for env in local.environments : env => ["${local.parameters}/${var.app}/${env}", "${local.parameters}/${var.app}/${env}/*"] }
  documents         = { for env in local.environments : env => "arn:${local.partition}:ssm:${var.region}:${local.account}:document/${var.app}-${env}-release" }
  topics            = { for env in local.environments : env => "arn:${local.partition}:sns:${var.region}:${local.account}:${var.app}-${env}-alarms" }
  log_groups        = { for env in local.environments : env => [for end in ["", ":*"] : "arn:${local.partition}:logs:${var.region}:${local.account}:log-group:${var.app}-${env}-flow${end}"] }
  environment_roles = { for env in local.environments : env => [for kind in ["flow", "host", "release", "snapshots"] : "arn:${local.partition}:iam::${local.account}:role/${var.app}-${env}-${kind}"] }

  # ? matches the number of the host.
  alarms = { for env in local.environments : env => [for kind in ["cpu", "disk", "instance", "system"] : "arn:${local.partition}:cloudwatch:${var.region}:${local.account}:alarm:${var.app}-${env}-?-${kind}"] }
}
