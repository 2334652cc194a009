# An interrupted first apply, or a lost local state, leaves these behind; everything else
# here is a setting of theirs that can be written twice.
import {
  for_each = var.adopt.state_bucket[*]
  to       = aws_s3_bucket.state
  id       = each.value
}

import {
  for_each = var.adopt.records_bucket[*]
  to       = aws_s3_bucket.records
  id       = each.value
}

import {
  for_each = var.adopt.repository[*]
  to       = aws_ecr_repository.this
  id       = each.value
}

import {
  for_each = var.adopt.zone[*]
  to       = aws_route53_zone.this[0]
  id       = each.value
}

import {
  for_each = var.adopt.boundaries
  to       = aws_iam_policy.environment[each.key]
  id       = each.value
}

import {
  for_each = var.adopt.machines
  to       = aws_iam_policy.machines[each.key]
  id       = each.value
}

import {
  for_each = var.adopt.review[*]
  to       = aws_ssm_parameter.review
  id       = each.value
}

import {
  for_each = var.adopt.provider[*]
  to       = aws_iam_openid_connect_provider.github[0]
  id       = each.value
}

import {
  for_each = toset(var.adopt.github_roles)
  to       = aws_iam_role.github[each.key]
  id       = "${var.app}-github-${each.key}"
}
