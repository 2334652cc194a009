# Alarms about the hosts, sent by e-mail. Without an address, no alarms are created.
locals {
  has_alarms = var.alarm_email != ""

  # The first two are the EC2 status checks of the underlying hardware and of the instance.
  alarms = {
    system   = { metric = "StatusCheckFailed_System", over = 0, minutes = 1, times = 2 }
    instance = { metric = "StatusCheckFailed_Instance", over = 0, minutes = 1, times = 3 }
    cpu      = { metric = "CPUUtilization", over = 90, minutes = 5, times = 3 }
    disk     = { metric = "disk_used_percent", over = 85, minutes = 5, times = 2 }
  }

  # Moves the host to other hardware, with the same id, disk and addresses:
  # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-recover.html
  recovery = { system = ["arn:${data.aws_partition.this.partition}:automate:${var.region}:ec2:recover"] }

  # Metrics that EC2 cannot measure are published by the hosts. Their role limits them to this namespace.
  metrics    = "${var.app}/${var.environment}"
  namespaces = { disk = local.metrics }

  host_alarms = {
    for pair in setproduct(keys(local.hosts), local.has_alarms ? keys(local.alarms) : []) :
    "${local.hosts[pair[0]]}-${pair[1]}" => merge(local.alarms[pair[1]], { host = pair[0], kind = pair[1] })
  }
}

resource "aws_sns_topic" "alarms" {
  # checkov:skip=CKV_AWS_26:CloudWatch may not use the key alias/aws/sns, and alarms contain no secrets
  count = local.has_alarms ? 1 : 0

  name = "${local.name}-alarms"
}

# AWS sends a confirmation request to the address, and no alarms until it is confirmed.
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

  # Only metrics that the hosts publish can stop arriving.
  insufficient_data_actions = contains(keys(local.namespaces), each.value.kind) ? aws_sns_topic.alarms[*].arn : []

  tags = { Name = each.key }
}
