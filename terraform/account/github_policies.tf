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
    resources = ["${local.bucket_arns.state}/env:/*", local.default_state]
  }
}

# Every step but bootstrap, in one environment: who could change these very roles could do anything.
# What is of EC2 is known by its tags; everything else by its name, spelled out to its end, because an
# environment's name may begin with another's.
data "aws_iam_policy_document" "machines" {
  for_each = local.has_github ? local.environments : toset([])

  # checkov:skip=CKV_AWS_111:EC2's part is bound to tags, the rest to names
  # checkov:skip=CKV_AWS_356:the calls of `Look` know no resource
  # checkov:skip=CKV_AWS_108:states, records and parameters are what a run works on, and named
  # checkov:skip=CKV_AWS_109:roles are made under the environment's boundary alone
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

  # A statement for each set of calls none of which takes what another one makes: a tag in the request
  # must not stand for that of a resource which is there.
  dynamic "statement" {
    for_each = local.making

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

  # Made with an instance, and without tags of their own; an interface in use cannot be taken.
  statement {
    sid       = "Launch"
    actions   = ["ec2:RunInstances"]
    resources = ["${local.ec2}::image/*", "${local.ec2}:${local.account}:image/*", "${local.ec2}:${local.account}:network-interface/*"]
  }

  # Interfaces have no tags, and Terraform asks again for an association that is gone. Whatever address
  # has an environment's tag must be this environment's own all the same.
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

  # The rules that come with a group have no tags; the group must be the environment's own all the same.
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
      values   = distinct(flatten([for each in values(local.making) : [for call in each.calls : trimprefix(call, "ec2:")]]))
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

  # Nothing of its own is given to another environment.
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

  # The security group that comes with a VPC has no tags, and is emptied as soon as it has.
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

# Its other part. IAM takes 10,240 characters of a role's own policies, and 6,144 of a managed one.
data "aws_iam_policy_document" "run" {
  for_each = local.has_github ? local.environments : toset([])

  # checkov:skip=CKV_AWS_356:the calls of `Look` know no resource
  # checkov:skip=CKV_AWS_108:states, records and parameters are what a run works on, and named
  # checkov:skip=CKV_AWS_109:roles are made under the environment's boundary alone
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

  # A subscription's id is a secret of its topic's: these calls know no resource.
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

  # The environment's names, and its hosts': hello-staging-1.example.com.
  statement {
    sid       = "Names"
    actions   = ["route53:ChangeResourceRecordSets"]
    resources = [local.zone.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
      values   = concat(var.environments[each.key].names, ["${var.app}-${each.key}-?.${var.zone}"])
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

  # IfExists: S3 answers 404 for what is not there only to who may list without a prefix.
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

  # A person's approval counts by its signature, whoever put it there.
  statement {
    sid       = "States"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = [for path in ["approvals/${each.key}/*", "env:/${each.key}/*", "locks/${each.key}.json", "waiting/${each.key}/*"] : "${local.bucket_arns.state}/${path}"]
  }

  # Terraform asks for the state of no workspace too, which is never there.
  statement {
    sid       = "DefaultState"
    actions   = ["s3:GetObject"]
    resources = [local.default_state]
  }

  # A record is written once and never removed.
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

  # Without these conditions an alarm could stop or end any instance.
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

  # What Systems Manager runs on hosts for a release; a workflow sends it as another role.
  statement {
    sid       = "Document"
    actions   = ["ssm:AddTagsToResource", "ssm:CreateDocument", "ssm:DeleteDocument", "ssm:DescribeDocument", "ssm:DescribeDocumentPermission", "ssm:GetDocument", "ssm:ListTagsForResource", "ssm:RemoveTagsFromResource", "ssm:UpdateDocument", "ssm:UpdateDocumentDefaultVersion"]
    resources = [local.documents[each.key]]
  }

  # Its policies have ids and no names.
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
    resources = local.made_roles[each.key]

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
    resources = local.made_roles[each.key]
  }

  statement {
    sid       = "PassRoles"
    actions   = ["iam:PassRole"]
    resources = local.made_roles[each.key]

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

  # On what is there and the environment's.
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

  making = {
    MakeAlone  = { calls = ["ec2:AllocateAddress", "ec2:CreateInternetGateway", "ec2:CreateVpc", "ec2:ImportKeyPair"], kinds = ["elastic-ip", "internet-gateway", "key-pair", "vpc"] }
    MakeInVpc  = { calls = ["ec2:CreateRouteTable", "ec2:CreateSecurityGroup", "ec2:CreateSubnet"], kinds = ["route-table", "security-group", "subnet"] }
    MakeRules  = { calls = ["ec2:AuthorizeSecurityGroupEgress", "ec2:AuthorizeSecurityGroupIngress", "ec2:CreateFlowLogs"], kinds = ["security-group-rule", "vpc-flow-log"] }
    MakeCopies = { calls = ["ec2:CreateSnapshot"], kinds = ["snapshot"] }
    MakeHosts  = { calls = ["ec2:RunInstances"], kinds = ["instance", "volume"] }
  }

  default_state = "${local.bucket_arns.state}/environment/terraform.tfstate"

  ec2        = "arn:${local.partition}:ec2:${var.region}"
  parameters = "arn:${local.partition}:ssm:${var.region}:${local.account}:parameter"

  own_tags       = { for env in local.environments : env => { app = var.app, environment = env } }
  own_parameters = { for env in local.environments : env => ["${local.parameters}/${var.app}/${env}", "${local.parameters}/${var.app}/${env}/*"] }
  documents      = { for env in local.environments : env => "arn:${local.partition}:ssm:${var.region}:${local.account}:document/${var.app}-${env}-release" }
  topics         = { for env in local.environments : env => "arn:${local.partition}:sns:${var.region}:${local.account}:${var.app}-${env}-alarms" }
  log_groups     = { for env in local.environments : env => [for end in ["", ":*"] : "arn:${local.partition}:logs:${var.region}:${local.account}:log-group:${var.app}-${env}-flow${end}"] }
  made_roles     = { for env in local.environments : env => [for kind in ["flow", "host", "release", "snapshots"] : "arn:${local.partition}:iam::${local.account}:role/${var.app}-${env}-${kind}"] }

  # ? is the host's number.
  alarms = { for env in local.environments : env => [for kind in ["cpu", "disk", "instance", "system"] : "arn:${local.partition}:cloudwatch:${var.region}:${local.account}:alarm:${var.app}-${env}-?-${kind}"] }
}
