# terraform init -backend=false && terraform test
# A test runs in the workspace `default`, so that is the environment's name here.
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
  app           = "hello"
  environment   = "default"
  region        = "eu-central-1"
  zone          = "example.com"
  names         = ["example.com", "www.example.com"]
  cidr          = "10.20.0.0/16"
  operators     = ["203.0.113.7/32", "198.51.100.0/24"]
  public_keys   = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== ann", "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY= bob", "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t cy"]
  instance_type = "t3.small"
  disk_gib      = 20
}

run "opens_what_it_should" {
  command = plan

  assert {
    condition     = { for key, rule in aws_vpc_security_group_ingress_rule.web : key => rule.from_port } == { http = 80, https = 443 }
    error_message = "80 and 443 are open to everybody."
  }

  assert {
    condition     = toset([for rule in aws_vpc_security_group_ingress_rule.ssh : rule.cidr_ipv4]) == toset(var.operators)
    error_message = "22 is open to the operators and nobody else."
  }

  assert {
    condition     = length(aws_route53_record.app) == 2
    error_message = "Each name has a record."
  }

  assert {
    condition     = aws_route53_record.host["1"].name == "hello-default-1.example.com"
    error_message = "Each host has a name of its own."
  }

  assert {
    condition     = length(aws_default_security_group.this.ingress) == 0 && length(aws_default_security_group.this.egress) == 0
    error_message = "The VPC's default security group lets nothing through."
  }
}

run "makes_nothing_optional_unasked" {
  command = plan

  assert {
    condition     = length(aws_dlm_lifecycle_policy.this) + length(aws_flow_log.this) + length(aws_cloudwatch_metric_alarm.host) + length(aws_sns_topic.alarms) == 0
    error_message = "Snapshots, flow logs and alarms cost money and are made on request."
  }
}

run "binds_every_role_to_the_boundary" {
  command = plan

  variables {
    snapshot_days = 7
    flow_log_days = 30
  }

  assert {
    condition     = toset([aws_iam_role.host.permissions_boundary, aws_iam_role.flow["flow"].permissions_boundary, aws_iam_role.snapshots["snapshots"].permissions_boundary]) == toset(["arn:aws:iam::111122223333:policy/hello-default-boundary"])
    error_message = "No role of an environment can do more than the environment's boundary."
  }
}

run "keeps_daily_snapshots_of_its_own_disks" {
  command = plan

  variables {
    snapshot_days = 7
  }

  assert {
    condition     = aws_dlm_lifecycle_policy.this["snapshots"].policy_details[0].schedule[0].retain_rule[0].interval == 7
    error_message = "A snapshot is kept as long as it was asked for."
  }

  assert {
    condition     = aws_dlm_lifecycle_policy.this["snapshots"].policy_details[0].target_tags == tomap({ snapshots = "hello-default" }) && aws_instance.host["1"].root_block_device[0].tags.snapshots == "hello-default"
    error_message = "The scheduler's one tag is on the disks of this environment."
  }
}

run "watches_every_host" {
  command = plan

  variables {
    alarm_email    = "ops@example.com"
    instance_count = 2
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.host) == 8 && toset([for alarm in aws_cloudwatch_metric_alarm.host : alarm.namespace]) == toset(["AWS/EC2", "hello/default"])
    error_message = "Hardware, system, processor and disk of each host have an alarm."
  }

  assert {
    condition     = aws_sns_topic_subscription.alarms[0].endpoint == "ops@example.com"
    error_message = "Alarms go to the address."
  }
}

run "hardens_the_hosts" {
  command = plan

  assert {
    condition     = aws_instance.host["1"].metadata_options[0].http_tokens == "required" && aws_instance.host["1"].metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Credentials of the role need IMDSv2 and stay out of containers' reach."
  }

  assert {
    condition     = aws_instance.host["1"].root_block_device[0].encrypted
    error_message = "The disk is encrypted."
  }

  assert {
    condition     = strcontains(aws_instance.host["1"].user_data, "nistp256")
    error_message = "Keys beside the first reach the host by user data."
  }
}

run "protects_the_hosts_where_it_is_asked_to" {
  command = plan

  variables {
    protected = true
  }

  assert {
    condition     = aws_instance.host["1"].disable_api_termination
    error_message = "A protected host cannot be terminated from the console."
  }
}

run "spreads_hosts_over_two_zones" {
  command = plan

  variables {
    instance_count = 3
  }

  assert {
    condition     = [for instance in aws_instance.host : instance.tags.Name] == ["hello-default-1", "hello-default-2", "hello-default-3"]
    error_message = "Hosts are numbered from 1."
  }

  assert {
    condition     = [for subnet in aws_subnet.public : subnet.availability_zone] == ["eu-central-1a", "eu-central-1b"]
    error_message = "There is a public subnet in each of two zones."
  }
}

run "takes_no_operators" {
  command = plan

  variables {
    operators = []
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.ssh) == 0
    error_message = "Without operators SSH is closed."
  }
}

run "refuses_settings_of_another_workspace" {
  command = plan

  variables {
    environment = "staging"
  }

  expect_failures = [var.environment]
}

run "refuses_an_app_with_an_underscore" {
  command = plan

  variables {
    app = "hello_world"
  }

  expect_failures = [var.app]
}

run "refuses_a_zone_for_a_region" {
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

run "refuses_no_names" {
  command = plan

  variables {
    names = []
  }

  expect_failures = [var.names]
}

run "refuses_a_name_outside_the_zone" {
  command = plan

  variables {
    names = ["www.example.org"]
  }

  expect_failures = [var.names]
}

run "refuses_a_name_that_only_ends_like_the_zone" {
  command = plan

  variables {
    names = ["badexample.com"]
  }

  expect_failures = [var.names]
}

run "refuses_a_name_twice" {
  command = plan

  variables {
    names = ["example.com", "example.com"]
  }

  expect_failures = [var.names]
}

run "refuses_an_address_for_a_range" {
  command = plan

  variables {
    cidr = "10.20.0.0"
  }

  expect_failures = [var.cidr]
}

run "refuses_a_small_range" {
  command = plan

  variables {
    cidr = "10.20.0.0/24"
  }

  expect_failures = [var.cidr]
}

run "refuses_a_range_from_its_middle" {
  command = plan

  variables {
    cidr = "10.20.1.0/16"
  }

  expect_failures = [var.cidr]
}

run "refuses_ssh_for_everybody" {
  command = plan

  variables {
    operators = ["0.0.0.0/0"]
  }

  expect_failures = [var.operators]
}

run "refuses_an_operator_without_a_prefix" {
  command = plan

  variables {
    operators = ["203.0.113.7"]
  }

  expect_failures = [var.operators]
}

run "refuses_an_operator_range_from_its_middle" {
  command = plan

  variables {
    operators = ["203.0.113.7/24"]
  }

  expect_failures = [var.operators]
}

run "refuses_an_operator_by_ipv6" {
  command = plan

  variables {
    operators = ["2001:db8::/64"]
  }

  expect_failures = [var.operators]
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

run "refuses_a_first_key_that_ec2_does_not_take" {
  command = plan

  variables {
    public_keys = ["ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY= bob"]
  }

  expect_failures = [var.public_keys]
}

run "refuses_an_instance_type_without_a_size" {
  command = plan

  variables {
    instance_type = "t3"
  }

  expect_failures = [var.instance_type]
}

run "refuses_a_disk_smaller_than_the_image" {
  command = plan

  variables {
    disk_gib = 4
  }

  expect_failures = [var.disk_gib]
}

run "refuses_a_name_for_an_ami" {
  command = plan

  variables {
    ami = "debian-13"
  }

  expect_failures = [var.ami]
}

run "refuses_a_port_of_the_system" {
  command = plan

  variables {
    port = 80
  }

  expect_failures = [var.port]
}

run "refuses_no_hosts" {
  command = plan

  variables {
    instance_count = 0
  }

  expect_failures = [var.instance_count]
}

run "refuses_half_a_day" {
  command = plan

  variables {
    snapshot_days = 0.5
  }

  expect_failures = [var.snapshot_days]
}

run "refuses_a_name_for_an_address" {
  command = plan

  variables {
    alarm_email = "ops"
  }

  expect_failures = [var.alarm_email]
}

run "refuses_days_that_cloudwatch_does_not_know" {
  command = plan

  variables {
    flow_log_days = 10
  }

  expect_failures = [var.flow_log_days]
}

run "refuses_an_app_named_like_a_security_group" {
  command = plan

  variables {
    app = "sg-shop"
  }

  expect_failures = [var.app]
}

run "refuses_a_label_that_is_too_long" {
  command = plan

  variables {
    names = ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.com"]
  }

  expect_failures = [var.names]
}

run "refuses_a_public_range" {
  command = plan

  variables {
    cidr = "8.8.0.0/16"
  }

  expect_failures = [var.cidr]
}

run "refuses_dockers_own_range" {
  command = plan

  variables {
    cidr = "172.17.0.0/16"
  }

  expect_failures = [var.cidr]
}

run "refuses_half_of_the_internet" {
  command = plan

  variables {
    operators = ["128.0.0.0/1"]
  }

  expect_failures = [var.operators]
}

run "refuses_an_operator_on_loopback" {
  command = plan

  variables {
    operators = ["127.0.0.1/32"]
  }

  expect_failures = [var.operators]
}

run "refuses_an_operator_twice" {
  command = plan

  variables {
    operators = ["203.0.113.7/32", "203.0.113.7/32"]
  }

  expect_failures = [var.operators]
}

run "refuses_more_operators_than_a_security_group_has_rules" {
  command = plan

  variables {
    operators = [for n in range(59) : "203.0.113.${n}/32"]
  }

  expect_failures = [var.operators]
}

run "refuses_an_instance_type_with_a_command" {
  command = plan

  variables {
    instance_type = "t3.small; id"
  }

  expect_failures = [var.instance_type]
}

run "refuses_caddys_admin_port" {
  command = plan

  variables {
    port = 2019
  }

  expect_failures = [var.port]
}

run "refuses_a_port_without_room_for_the_second_slot" {
  command = plan

  variables {
    port = 65535
  }

  expect_failures = [var.port]
}

run "refuses_a_branch_that_is_an_option" {
  command = plan

  variables {
    github = { repository = "octo-org/hello", branch = "-x" }
  }

  expect_failures = [var.github]
}

run "refuses_a_branch_that_git_refuses" {
  command = plan

  variables {
    github = { repository = "octo-org/hello", branch = "a..b" }
  }

  expect_failures = [var.github]
}
