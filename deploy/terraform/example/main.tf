# A rendezvous and the functions in one region:
#
#   go run ./internal/release --version v0.1.0 --out dist
#   cd deploy/terraform/example && terraform init && terraform apply

variable "region" {
  description = "AWS region."
  type        = string
  default     = "us-east-1"
}

variable "release_dir" {
  description = "Directory that go run ./internal/release wrote."
  type        = string
  default     = "../../../dist"
}

variable "release_version" {
  description = "Version of that release."
  type        = string
  default     = "v0.1.0"
}

provider "aws" {
  region = var.region
  default_tags {
    tags = { project = "bradawl" }
  }
}

module "bradawl" {
  source          = "../"
  release_dir     = var.release_dir
  release_version = var.release_version
}

output "bradawl" {
  description = "Addresses, and commands to go on with."
  value       = module.bradawl
}
