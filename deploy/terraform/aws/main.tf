# The control host and its role on AWS. Nothing reaches it from outside: its API is on loopback, open a session through
# AWS Systems Manager to get there (output "session").

locals {
  install = templatefile("${path.module}/../install.sh.tftpl", {
    pip_options = var.pip_options
    config      = yamlencode({ policies = ["/etc/scaleahead/policies.yaml"], providers = { aws = { region = data.aws_region.here.name } } })
    policies    = var.policies != "" ? var.policies : file("${path.module}/../../compose/policies/policies.yaml")
    constraints = file("${path.module}/../../../constraints.txt")
    unit        = file("${path.module}/../../systemd/scaleahead.service")
    package     = var.package
  })
}

data "aws_region" "here" {}

data "aws_subnet" "here" {
  id = var.subnet_id
}

data "aws_ami" "debian" {
  most_recent = true
  owners      = ["136693071363"]

  filter {
    name   = "name"
    values = ["debian-12-amd64-*"]
  }
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "host" {
  name               = var.name
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "acting" {
  name   = "scaleahead-${var.permissions}"
  role   = aws_iam_role.host.id
  policy = file("${path.module}/../../iam/aws/${var.permissions}.json")
}

resource "aws_iam_role_policy" "hand_over" {
  count = length(var.launch_role_arns) > 0 ? 1 : 0
  name  = "scaleahead-hand-over"
  role  = aws_iam_role.host.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = ["iam:PassRole"]
      Resource  = var.launch_role_arns
      Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "session" {
  role       = aws_iam_role.host.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_instance_profile" "host" {
  name = var.name
  role = aws_iam_role.host.name
  tags = var.tags
}

resource "aws_security_group" "host" {
  name        = var.name
  description = "Scaleahead control host: out to AWS and to the hooks of jobs, nothing in."
  vpc_id      = data.aws_subnet.here.vpc_id
  tags        = var.tags

  egress {
    description = "AWS, the package index, hooks"
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_instance" "host" {
  ami                    = data.aws_ami.debian.id
  instance_type          = var.instance_type
  subnet_id              = var.subnet_id
  iam_instance_profile   = aws_iam_instance_profile.host.name
  vpc_security_group_ids = [aws_security_group.host.id]
  user_data              = local.install
  tags                   = merge(var.tags, { Name = var.name })

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_size = var.disk_gib
    volume_type = "gp3"
    encrypted   = true
  }

  # The store lies on this machine: a newer image or another text of the installation must not replace it.
  lifecycle {
    ignore_changes = [ami, user_data]
  }
}
