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
