data "aws_ec2_instance_type" "this" {
  instance_type = var.instance_type
}

data "aws_ami" "debian" {
  owners      = [var.debian_images.owner]
  most_recent = true

  filter {
    name   = "name"
    values = var.debian_images.names
  }

  filter {
    name   = "architecture"
    values = data.aws_ec2_instance_type.this.supported_architectures
  }

  filter {
    name   = "virtualization-type"
    values = ["hvm"]
  }
}

# Keeps the image of the first apply, so that a newer Debian image does not replace running hosts.
resource "terraform_data" "ami" {
  input = data.aws_ami.debian.id

  lifecycle {
    ignore_changes = [input]
  }
}

resource "aws_key_pair" "this" {
  key_name   = local.name
  public_key = trimspace(var.public_keys[0])
}

resource "aws_instance" "host" {
  # checkov:skip=CKV_AWS_135:current instance types are always EBS-optimized, and older ones refuse the option
  # checkov:skip=CKV_AWS_126:five-minute metrics are sufficient for the alarms; EC2 status checks run every minute
  for_each = local.hosts

  ami                    = var.ami != "" ? var.ami : terraform_data.ami.output
  instance_type          = var.instance_type
  subnet_id              = aws_subnet.public[(tonumber(each.key) - 1) % length(local.availability_zones)].id
  vpc_security_group_ids = [aws_security_group.host.id]
  iam_instance_profile   = aws_iam_instance_profile.host.name
  key_name               = aws_key_pair.this.key_name
  user_data              = "#cloud-config\n${yamlencode({ ssh_authorized_keys = var.public_keys })}"

  # Effective against the console and the AWS CLI only: the provider removes the protection when it destroys
  # an instance. Provision therefore refuses such plans, and teardown shows the removal.
  # https://github.com/hashicorp/terraform-provider-aws/issues/27529
  disable_api_termination = var.deletion_protection

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = var.disk_gib
    encrypted   = true
    tags        = merge(local.snapshot_tag, { Name = each.value })
  }

  tags = { Name = each.value }

  lifecycle {
    # cloud-init reads user data at the first boot only, and EC2 stops an instance to change it.
    ignore_changes = [user_data]
  }
}

resource "aws_eip" "host" {
  for_each = local.hosts

  domain = "vpc"

  tags = { Name = each.value }

  depends_on = [aws_internet_gateway.this]
}

# Separate from aws_eip: its `instance` argument shows a change in every plan.
resource "aws_eip_association" "host" {
  for_each = local.hosts

  allocation_id = aws_eip.host[each.key].id
  instance_id   = aws_instance.host[each.key].id
}

resource "aws_route53_record" "app" {
  for_each = toset(var.domains)

  zone_id = data.aws_route53_zone.this.zone_id
  name    = each.value
  type    = "A"
  ttl     = 60
  records = [for eip in aws_eip.host : eip.public_ip]

  # An interrupted apply can create a record without saving it in the state. The next apply must be able
  # to overwrite that record.
  allow_overwrite = true
}

# One name per host: hello-staging-1.example.com.
resource "aws_route53_record" "host" {
  for_each = local.hosts

  zone_id = data.aws_route53_zone.this.zone_id
  name    = "${each.value}.${var.dns_zone}"
  type    = "A"
  ttl     = 60
  records = [aws_eip.host[each.key].public_ip]

  allow_overwrite = true
}
