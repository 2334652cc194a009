# Resources that cannot be created twice. They exist outside the state if the first apply was
# interrupted or the state was lost. All other resources only configure these and can be written again.
import {
  for_each = var.import_ids.state_bucket[*]
  to       = aws_s3_bucket.state
  id       = each.value
}

import {
  for_each = var.import_ids.records_bucket[*]
  to       = aws_s3_bucket.records
  id       = each.value
}

import {
  for_each = var.import_ids.repository[*]
  to       = aws_ecr_repository.this
  id       = each.value
}

import {
  for_each = var.import_ids.zone[*]
  to       = aws_route53_zone.this[0]
  id       = each.value
}

import {
  for_each = var.import_ids.boundaries
  to       = aws_iam_policy.environment[each.key]
  id       = each.value
}

import {
  for_each = var.import_ids.machines
  to       = aws_iam_policy.machines[each.key]
  id       = each.value
}

import {
  for_each = var.import_ids.review[*]
  to       = aws_ssm_parameter.review
  id       = each.value
}

import {
  for_each = var.import_ids.provider[*]
  to       = aws_iam_openid_connect_provider.github[0]
  id       = each.value
}

import {
  for_each = toset(var.import_ids.github_roles)
  to       = aws_iam_role.github[each.key]
  id       = "${var.app}-github-${each.key}"
}
