data "aws_availability_zones" "available" {
  state = "available"
}

data "aws_subnet" "given" {
  count = var.subnet_id == null ? 0 : 1
  id    = var.subnet_id
}

resource "aws_vpc" "this" {
  count                = var.subnet_id == null ? 1 : 0
  cidr_block           = var.vpc_cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

resource "aws_subnet" "public" {
  count             = var.subnet_id == null ? 1 : 0
  vpc_id            = aws_vpc.this[0].id
  cidr_block        = cidrsubnet(var.vpc_cidr, 1, 0)
  availability_zone = data.aws_availability_zones.available.names[0]
  tags              = { Name = var.name }
}

resource "aws_internet_gateway" "this" {
  count  = var.subnet_id == null ? 1 : 0
  vpc_id = aws_vpc.this[0].id
  tags   = { Name = var.name }
}

resource "aws_route_table" "public" {
  count  = var.subnet_id == null ? 1 : 0
  vpc_id = aws_vpc.this[0].id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.this[0].id
  }
  tags = { Name = var.name }
}

resource "aws_route_table_association" "public" {
  count          = var.subnet_id == null ? 1 : 0
  subnet_id      = aws_subnet.public[0].id
  route_table_id = aws_route_table.public[0].id
}

locals {
  subnet_id = var.subnet_id == null ? one(aws_subnet.public[*].id) : var.subnet_id
  vpc_id    = var.subnet_id == null ? one(aws_vpc.this[*].id) : one(data.aws_subnet.given[*].vpc_id)
}

resource "aws_security_group" "server" {
  name        = "${var.name}-server"
  description = "bradawl rendezvous"
  vpc_id      = local.vpc_id
  tags        = { Name = "${var.name}-server" }
}

# QUIC and STUN on 3478, the second STUN port, by which peers classify their NAT, on 3479.
resource "aws_vpc_security_group_ingress_rule" "udp" {
  security_group_id = aws_security_group.server.id
  description       = "QUIC and STUN"
  cidr_ipv4         = var.allowed_cidr
  ip_protocol       = "udp"
  from_port         = 3478
  to_port           = 3479
}

# By this peers tell blocked UDP from an absent server.
resource "aws_vpc_security_group_ingress_rule" "tcp" {
  security_group_id = aws_security_group.server.id
  description       = "STUN over TCP"
  cidr_ipv4         = var.allowed_cidr
  ip_protocol       = "tcp"
  from_port         = 3478
  to_port           = 3478
}

# NAT discovery asks for answers from the other port (RFC 5780), which no inbound packet has opened.
resource "aws_vpc_security_group_egress_rule" "udp" {
  security_group_id = aws_security_group.server.id
  description       = "answers"
  cidr_ipv4         = var.allowed_cidr
  ip_protocol       = "udp"
  from_port         = 1024
  to_port           = 65535
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.server.id
  description       = "S3 and SSM"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
