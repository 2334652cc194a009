# Who is told by e-mail, and of what; without an address there are no alarms.
locals {
  has_alarms = var.alarm_email != ""

  # The first two are EC2's own checks: of the hardware beneath a host, and of the host itself.
  alarms = {
    system   = { metric = "StatusCheckFailed_System", over = 0, minutes = 1, times = 2 }
    instance = { metric = "StatusCheckFailed_Instance", over = 0, minutes = 1, times = 3 }
    cpu      = { metric = "CPUUtilization", over = 90, minutes = 5, times = 3 }
    disk     = { metric = "disk_used_percent", over = 85, minutes = 5, times = 2 }
  }

  # EC2 moves a host off failed hardware, with its id, disk and addresses:
  # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-recover.html
  recovery = { system = ["arn:${data.aws_partition.this.partition}:automate:${var.region}:ec2:recover"] }

  # What EC2 cannot see the hosts tell, under a namespace that their role is bound to.
  metrics    = "${var.app}/${var.environment}"
  namespaces = { disk = local.metrics }

  host_alarms = {
    for pair in setproduct(keys(local.hosts), local.has_alarms ? keys(local.alarms) : []) :
    "${local.hosts[pair[0]]}-${pair[1]}" => merge(local.alarms[pair[1]], { host = pair[0], kind = pair[1] })
  }
}

resource "aws_sns_topic" "alarms" {
  # checkov:skip=CKV_AWS_26:CloudWatch may not use the key alias/aws/sns, and an alarm says no secret
  count = local.has_alarms ? 1 : 0

  name = "${local.name}-alarms"
}

# AWS asks the address for its consent by e-mail and sends nothing before.
resource "aws_sns_topic_subscription" "alarms" {
  count = local.has_alarms ? 1 : 0

  topic_arn = aws_sns_topic.alarms[0].arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

resource "aws_cloudwatch_metric_alarm" "host" {
  for_each = local.host_alarms

  alarm_name          = each.key
  alarm_description   = "${each.value.metric} over ${each.value.over} for ${each.value.minutes * each.value.times} minutes on ${local.hosts[each.value.host]}"
  namespace           = lookup(local.namespaces, each.value.kind, "AWS/EC2")
  metric_name         = each.value.metric
  dimensions          = { InstanceId = aws_instance.host[each.value.host].id }
  statistic           = each.value.kind == "cpu" ? "Average" : "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.over
  period              = each.value.minutes * 60
  evaluation_periods  = each.value.times
  alarm_actions       = concat(aws_sns_topic.alarms[*].arn, lookup(local.recovery, each.value.kind, []))
  ok_actions          = aws_sns_topic.alarms[*].arn

  # Only what the hosts tell themselves can fall silent.
  insufficient_data_actions = contains(keys(local.namespaces), each.value.kind) ? aws_sns_topic.alarms[*].arn : []

  tags = { Name = each.key }
}
