data "aws_region" "current" {}

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-${var.architecture == "arm64" ? "arm64" : "x86_64"}"
}

locals {
  archive = "bradawl_${var.release_version}_linux_${var.architecture}"
  # What outlives the instance. The server makes it all; the instance keeps it here and finds it again.
  kept = ["cert.pem", "key.pem", "token.key", "url"]

  user_data = templatefile("${path.module}/user-data.sh.tftpl", {
    region         = data.aws_region.current.region
    source         = "s3://${aws_s3_bucket.this["release"].id}/${aws_s3_object.server.key}"
    sha256         = filesha256("${var.release_dir}/${local.archive}.tar.gz")
    archive        = local.archive
    parameters     = "/${var.name}"
    public_addr    = "${aws_eip.server.public_ip}:3478"
    token_lifetime = var.token_lifetime
    unit           = file("${path.module}/bradawl-server.service")
  })
}

resource "aws_s3_object" "server" {
  bucket      = aws_s3_bucket.this["release"].id
  key         = "${local.archive}.tar.gz"
  source      = "${var.release_dir}/${local.archive}.tar.gz"
  source_hash = filesha256("${var.release_dir}/${local.archive}.tar.gz")
}

# The values are the server's: Terraform writes the first one, and neither reads nor keeps those after it.
resource "aws_ssm_parameter" "kept" {
  for_each         = toset(local.kept)
  name             = "/${var.name}/${each.key}"
  description      = "bradawl rendezvous: ${each.key}"
  type             = "SecureString"
  value_wo         = "unset"
  value_wo_version = 1
}

resource "aws_eip" "server" {
  domain = "vpc"
  tags   = { Name = "${var.name}-server" }
}

resource "aws_eip_association" "server" {
  allocation_id = aws_eip.server.id
  instance_id   = aws_instance.server.id
}

resource "aws_instance" "server" {
  ami                         = data.aws_ssm_parameter.image.value
  instance_type               = var.instance_type != null ? var.instance_type : var.architecture == "arm64" ? "t4g.micro" : "t3.micro"
  subnet_id                   = local.subnet_id
  vpc_security_group_ids      = [aws_security_group.server.id]
  iam_instance_profile        = aws_iam_instance_profile.server.name
  user_data                   = local.user_data
  user_data_replace_on_change = true
  # For the first minute, until the Elastic IP is there.
  associate_public_ip_address = true

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  root_block_device {
    encrypted   = true
    volume_type = "gp3"
  }
  # A newer image alone is no reason to replace the server.
  lifecycle {
    ignore_changes = [ami]
  }
  tags       = { Name = "${var.name}-server" }
  depends_on = [aws_ssm_parameter.kept, aws_iam_role_policy.server, aws_route_table_association.public, aws_vpc_security_group_egress_rule.https]
}

resource "aws_iam_role" "server" {
  name = "${var.name}-server"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

resource "aws_iam_instance_profile" "server" {
  name = "${var.name}-server"
  role = aws_iam_role.server.name
}

resource "aws_iam_role_policy" "server" {
  name = "server"
  role = aws_iam_role.server.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Archive", Effect = "Allow", Action = ["s3:GetObject"], Resource = ["${aws_s3_bucket.this["release"].arn}/${aws_s3_object.server.key}"] },
      { Sid = "Kept", Effect = "Allow", Action = ["ssm:GetParameter", "ssm:PutParameter"], Resource = [for p in aws_ssm_parameter.kept : p.arn] },
      # Session Manager in place of SSH; these actions know no resources.
      { Sid = "SessionManager", Effect = "Allow", Resource = ["*"], Action = [
        "ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
      ] },
    ]
  })
}
