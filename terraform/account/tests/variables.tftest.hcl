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

  assert {
    condition     = length(aws_iam_role.github) + length(aws_iam_openid_connect_provider.github) == 0
    error_message = "Without a repository nobody on GitHub gets a role."
  }
}

run "lets_one_repository_in" {
  command = plan

  variables {
    github = { repository = "octo-org@1/hello@2" }
  }

  assert {
    condition = { for key, subjects in local.github_subjects : key => toset(subjects) } == {
      plan = toset(["repo:octo-org@1/hello@2:pull_request"])
      push = toset(["repo:octo-org@1/hello@2:ref:refs/heads/main"])

      run-production = toset(["repo:octo-org@1/hello@2:environment:production"])
      run-staging    = toset(["repo:octo-org@1/hello@2:environment:staging"])
    }
    error_message = "The branch pushes images, pull requests look, each environment runs Daybook for itself."
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 1
    error_message = "The account gets the provider that they come by."
  }
}

run "lets_the_application_push_where_it_has_a_repository_of_its_own" {
  command = plan

  variables {
    github = { repository = "octo-org/operations", application = "octo-org/hello", branches = ["main", "staging"] }
  }

  assert {
    condition = toset(local.github_subjects.push) == toset([
      "repo:octo-org/hello:ref:refs/heads/main", "repo:octo-org/hello:ref:refs/heads/staging",
    ])
    error_message = "Both branches of the application push images."
  }

  assert {
    condition     = !strcontains(jsonencode([local.github_subjects.run-production, local.github_subjects.run-staging]), "octo-org/hello")
    error_message = "The application runs nothing of Daybook's."
  }
}

run "uses_a_provider_that_is_there" {
  command = plan

  variables {
    github = { repository = "octo-org/hello", makes_provider = false }
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0 && length(aws_iam_role.github) == 4
    error_message = "Somebody else's provider is used, not made."
  }
}

run "refuses_every_repository_of_an_owner" {
  command = plan

  variables {
    github = { repository = "octo-org/*" }
  }

  expect_failures = [var.github]
}

run "refuses_a_pattern_of_branches" {
  command = plan

  variables {
    github = { repository = "octo-org/hello", branches = ["main", "release/*"] }
  }

  expect_failures = [var.github]
}

run "refuses_no_environment" {
  command = plan

  variables {
    environments = {}
  }

  expect_failures = [var.environments]
}

run "refuses_an_environment_with_the_name_of_what_all_share" {
  command = plan

  variables {
    environments = { github = { names = [] } }
  }

  expect_failures = [var.environments]
}

run "refuses_an_environment_by_a_pattern" {
  command = plan

  variables {
    environments = { "stag*" = { names = [] } }
  }

  expect_failures = [var.environments]
}

run "refuses_a_name_by_a_pattern" {
  command = plan

  variables {
    environments = { staging = { names = ["*.example.com"] } }
  }

  expect_failures = [var.environments]
}

run "refuses_a_name_of_two_environments" {
  command = plan

  variables {
    environments = { staging = { names = ["example.com"] }, production = { names = ["example.com"] } }
  }

  expect_failures = [var.environments]
}

run "refuses_a_requirement_that_nothing_checks" {
  command = plan

  variables {
    environments = { staging = { names = [], require_git = "reviewed" } }
  }

  expect_failures = [var.environments]
}

run "refuses_more_approvals_than_daybook_asks_for" {
  command = plan

  variables {
    environments = { staging = { names = [], approvals = 2 } }
  }

  expect_failures = [var.environments]
}

run "refuses_a_url_that_runs_a_program" {
  command = plan

  variables {
    review_remote = "ext::sh -c true"
  }

  expect_failures = [var.review_remote]
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
