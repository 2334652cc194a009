data "aws_ec2_instance_type" "this" {
  instance_type = var.instance_type
}

data "aws_ami" "debian" {
  owners      = ["136693071363"] # Debian: https://wiki.debian.org/Cloud/AmazonEC2Image
  most_recent = true

  filter {
    name   = "name"
    values = ["debian-13-amd64-*", "debian-13-arm64-*"]
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

# Keeps the image of the first apply: a newer one from Debian must not replace running hosts.
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
  # checkov:skip=CKV_AWS_135:the types of today always are, and older ones refuse to be
  # checkov:skip=CKV_AWS_126:the alarms are content with five minutes, and EC2's own checks come each minute
  for_each = local.hosts

  ami                    = var.ami != "" ? var.ami : terraform_data.ami.output
  instance_type          = var.instance_type
  subnet_id              = aws_subnet.public[(tonumber(each.key) - 1) % length(local.zones)].id
  vpc_security_group_ids = [aws_security_group.host.id]
  iam_instance_profile   = aws_iam_instance_profile.host.name
  key_name               = aws_key_pair.this.key_name
  user_data              = "#cloud-config\n${yamlencode({ ssh_authorized_keys = var.public_keys })}"

  # Against the console and the AWS CLI. A destroy by this provider lifts it by itself, which
  # provision refuses and teardown shows: https://github.com/hashicorp/terraform-provider-aws/issues/27529
  disable_api_termination = var.protected

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
    # cloud-init reads it at the first boot only, and EC2 stops a host to change it.
    ignore_changes = [user_data]
  }
}

resource "aws_eip" "host" {
  for_each = local.hosts

  domain = "vpc"

  tags = { Name = each.value }

  depends_on = [aws_internet_gateway.this]
}

# Apart from aws_eip, whose `instance` argument is planned anew for ever.
resource "aws_eip_association" "host" {
  for_each = local.hosts

  allocation_id = aws_eip.host[each.key].id
  instance_id   = aws_instance.host[each.key].id
}

resource "aws_route53_record" "app" {
  for_each = toset(var.names)

  zone_id = data.aws_route53_zone.this.zone_id
  name    = each.value
  type    = "A"
  ttl     = 60
  records = [for eip in aws_eip.host : eip.public_ip]

  # An interrupted apply leaves a record that it does not know the whole of; the next one must
  # be able to write over it.
  allow_overwrite = true
}

# Each host by itself: hello-staging-1.example.com.
resource "aws_route53_record" "host" {
  for_each = local.hosts

  zone_id = data.aws_route53_zone.this.zone_id
  name    = "${each.value}.${var.zone}"
  type    = "A"
  ttl     = 60
  records = [aws_eip.host[each.key].public_ip]

  allow_overwrite = true
}
