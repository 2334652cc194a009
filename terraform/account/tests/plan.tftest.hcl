# terraform init -backend=false && terraform test
mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  app           = "hello"
  region        = "eu-central-1"
  dns_zone      = "example.com"
  review_remote = ""

  environments = {
    staging    = { domains = [], require_git = "any", approvals = 0 }
    production = { domains = [], require_git = "pushed", approvals = 1 }
  }

  github = {
    repository      = ""
    application     = ""
    branches        = ["main"]
    create_provider = true
  }
}

run "creates_all_resources" {
  command = plan

  assert {
    condition     = aws_s3_bucket.state.bucket == "hello-state-111122223333"
    error_message = "The name of the state bucket must contain the application and the account."
  }

  assert {
    condition     = length(aws_route53_zone.this) == 1
    error_message = "Without zone_id, the zone must be created."
  }

  assert {
    condition     = length(aws_iam_role.github) + length(aws_iam_openid_connect_provider.github) == 0
    error_message = "Without a repository, no GitHub workflow may have a role."
  }
}

run "trusts_one_repository" {
  command = plan

  variables {
    github = { repository = "octo-org@1/hello@2", application = "", branches = ["main"], create_provider = true }
  }

  assert {
    condition = { for key, subjects in local.github_subjects : key => toset(subjects) } == {
      plan = toset(["repo:octo-org@1/hello@2:pull_request"])
      push = toset(["repo:octo-org@1/hello@2:ref:refs/heads/main"])

      run-production = toset(["repo:octo-org@1/hello@2:environment:production"])
      run-staging    = toset(["repo:octo-org@1/hello@2:environment:staging"])
    }
    error_message = "The branch must push images, pull requests must plan, and each environment must run Daybook for itself."
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 1
    error_message = "The OIDC provider must be created."
  }
}

run "trusts_a_separate_application_repository_to_push" {
  command = plan

  variables {
    github = { repository = "octo-org/operations", application = "octo-org/hello", branches = ["main", "staging"], create_provider = true }
  }

  assert {
    condition = toset(local.github_subjects.push) == toset([
      "repo:octo-org/hello:ref:refs/heads/main", "repo:octo-org/hello:ref:refs/heads/staging",
    ])
    error_message = "Both branches of the application must push images."
  }

  assert {
    condition     = !strcontains(jsonencode([local.github_subjects.run-production, local.github_subjects.run-staging]), "octo-org/hello")
    error_message = "The application repository must not run Daybook."
  }
}

run "uses_an_existing_provider" {
  command = plan

  variables {
    github = { repository = "octo-org/hello", application = "", branches = ["main"], create_provider = false }
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0 && length(aws_iam_role.github) == 4
    error_message = "The OIDC provider of another application must be used, not created."
  }
}

run "uses_an_existing_zone" {
  command = plan

  variables {
    zone_id = "Z0123456789"
  }

  assert {
    condition     = length(aws_route53_zone.this) == 0 && output.zone_id == "Z0123456789"
    error_message = "An existing zone must be read, not created."
  }
}

run "refuses_a_domain_in_two_environments" {
  command = plan

  variables {
    environments = {
      staging    = { domains = ["example.com"], require_git = "any", approvals = 0 }
      production = { domains = ["example.com"], require_git = "any", approvals = 0 }
    }
  }

  expect_failures = [var.environments]
}

run "refuses_a_retention_of_no_days" {
  command = plan

  variables {
    record_days = 0
  }

  expect_failures = [var.record_days]
}

run "refuses_a_retention_of_half_a_day" {
  command = plan

  variables {
    record_days = 1.5
  }

  expect_failures = [var.record_days]
}
