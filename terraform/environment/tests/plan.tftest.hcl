# terraform init -backend=false && terraform test
# Tests run in the workspace `default`, so the environment has this name.
mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_ec2_instance_type" {
    defaults = { supported_architectures = ["x86_64"] }
  }
}

variables {
  app                 = "hello"
  environment         = "default"
  region              = "eu-central-1"
  dns_zone            = "example.com"
  domains             = ["example.com", "www.example.com"]
  vpc_cidr            = "10.20.0.0/16"
  ssh_allowed_cidrs   = ["203.0.113.7/32", "198.51.100.0/24"]
  public_keys         = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== ann", "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY= bob", "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t cy"]
  instance_type       = "t3.small"
  instance_count      = 1
  disk_gib            = 20
  ami                 = ""
  debian_images       = { owner = "136693071363", names = ["debian-13-*"] }
  port                = 8000
  deletion_protection = false
  deploy_via          = "none"
  github              = { repository = "", branch = "main" }
  snapshot_days       = 0
  alarm_email         = ""
  flow_log_days       = 0
}

run "opens_the_expected_ports" {
  command = plan

  assert {
    condition     = { for key, rule in aws_vpc_security_group_ingress_rule.web : key => rule.from_port } == { http = 80, https = 443 }
    error_message = "Ports 80 and 443 must be open to all addresses."
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.ssh : rule.cidr_ipv4]) == toset(var.ssh_allowed_cidrs)
    error_message = "Port 22 must be open to ssh_allowed_cidrs only."
  }

  assert {
    condition     = length(aws_route53_record.app) == 2
    error_message = "Each domain must have a record."
  }

  assert {
    condition     = aws_route53_record.host["1"].name == "hello-default-1.example.com"
    error_message = "Each host must have a DNS name."
  }

  assert {
    condition     = length(aws_default_security_group.this.ingress) == 0 && length(aws_default_security_group.this.egress) == 0
    error_message = "The default security group of the VPC must have no rules."
  }
}

run "creates_no_optional_resources_by_default" {
  command = plan

  assert {
    condition     = length(aws_dlm_lifecycle_policy.this) + length(aws_flow_log.this) + length(aws_cloudwatch_metric_alarm.host) + length(aws_sns_topic.alarms) == 0
    error_message = "Snapshots, flow logs and alarms cost money and must be off by default."
  }
}

run "sets_the_boundary_of_every_role" {
  command = plan

  variables {
    snapshot_days = 7
    flow_log_days = 30
  }

  assert {
    condition     = toset([aws_iam_role.host.permissions_boundary, aws_iam_role.flow["flow"].permissions_boundary, aws_iam_role.snapshots["snapshots"].permissions_boundary]) == toset(["arn:aws:iam::111122223333:policy/hello-default-boundary"])
    error_message = "Every role of an environment must have the boundary of the environment."
  }
}

run "keeps_daily_snapshots_of_the_disks" {
  command = plan

  variables {
    snapshot_days = 7
  }

  assert {
    condition     = aws_dlm_lifecycle_policy.this["snapshots"].policy_details[0].schedule[0].retain_rule[0].interval == 7
    error_message = "Snapshots must be kept for snapshot_days."
  }

  assert {
    condition     = aws_dlm_lifecycle_policy.this["snapshots"].policy_details[0].target_tags == tomap({ snapshots = "hello-default" }) && aws_instance.host["1"].root_block_device[0].tags.snapshots == "hello-default"
    error_message = "The target tag of the lifecycle policy must be on the disks."
  }
}

run "creates_the_alarms_of_every_host" {
  command = plan

  variables {
    alarm_email    = "ops@example.com"
    instance_count = 2
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.host) == 8 && toset([for alarm in aws_cloudwatch_metric_alarm.host : alarm.namespace]) == toset(["AWS/EC2", "hello/default"])
    error_message = "Each host must have alarms for hardware, system, CPU and disk."
  }

  assert {
    condition     = aws_sns_topic_subscription.alarms[0].endpoint == "ops@example.com"
    error_message = "Alarms must be sent to the address."
  }
}

run "hardens_the_hosts" {
  command = plan

  assert {
    condition     = aws_instance.host["1"].metadata_options[0].http_tokens == "required" && aws_instance.host["1"].metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Credentials of the role must require IMDSv2 and be out of reach of containers."
  }

  assert {
    condition     = aws_instance.host["1"].root_block_device[0].encrypted
    error_message = "The disk must be encrypted."
  }

  assert {
    condition     = strcontains(aws_instance.host["1"].user_data, "nistp256")
    error_message = "User data must contain all keys."
  }
}

run "protects_hosts_from_termination" {
  command = plan

  variables {
    deletion_protection = true
  }

  assert {
    condition     = aws_instance.host["1"].disable_api_termination
    error_message = "With deletion_protection, termination through the API must be disabled."
  }
}

run "spreads_hosts_over_two_availability_zones" {
  command = plan

  variables {
    instance_count = 3
  }

  assert {
    condition     = [for instance in aws_instance.host : instance.tags.Name] == ["hello-default-1", "hello-default-2", "hello-default-3"]
    error_message = "Hosts must be numbered from 1."
  }

  assert {
    condition     = [for subnet in aws_subnet.public : subnet.availability_zone] == ["eu-central-1a", "eu-central-1b"]
    error_message = "Two availability zones must have a public subnet each."
  }
}

run "closes_ssh_without_ranges" {
  command = plan

  variables {
    ssh_allowed_cidrs = []
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.ssh) == 0
    error_message = "Without ssh_allowed_cidrs, port 22 must be closed."
  }
}

run "refuses_the_workspace_of_another_environment" {
  command = plan

  variables {
    environment = "staging"
  }

  expect_failures = [var.environment]
}

run "refuses_no_keys" {
  command = plan

  variables {
    public_keys = []
  }

  expect_failures = [var.public_keys]
}

run "refuses_a_private_key" {
  command = plan

  variables {
    public_keys = ["-----BEGIN OPENSSH PRIVATE KEY-----"]
  }

  expect_failures = [var.public_keys]
}

run "refuses_a_first_key_that_ec2_does_not_support" {
  command = plan

  variables {
    public_keys = ["ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY= bob"]
  }

  expect_failures = [var.public_keys]
}
