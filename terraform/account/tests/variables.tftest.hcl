# terraform init -backend=false && terraform test
mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  app    = "hello"
  region = "eu-central-1"
  zone   = "example.com"
}

run "makes_everything" {
  command = plan

  assert {
    condition     = aws_s3_bucket.state.bucket == "hello-state-111122223333"
    error_message = "The state bucket is named after application and account."
  }

  assert {
    condition     = length(aws_route53_zone.this) == 1
    error_message = "Without zone_id the zone is made."
  }
}

run "looks_a_given_zone_up" {
  command = plan

  variables {
    zone_id = "Z0123456789"
  }

  assert {
    condition     = length(aws_route53_zone.this) == 0 && output.zone_id == "Z0123456789"
    error_message = "A given zone is read, not made."
  }
}

run "refuses_an_app_in_capitals" {
  command = plan

  variables {
    app = "Hello"
  }

  expect_failures = [var.app]
}

run "refuses_a_zone_of_a_region" {
  command = plan

  variables {
    region = "eu-central-1a"
  }

  expect_failures = [var.region]
}

run "refuses_a_dns_zone_with_a_dot_at_the_end" {
  command = plan

  variables {
    zone = "example.com."
  }

  expect_failures = [var.zone]
}
