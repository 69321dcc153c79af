variable "name" {
  description = "Prefix of all names, and of the parameters in SSM."
  type        = string
  default     = "bradawl"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,24}$", var.name))
    error_message = "name must be 2 to 25 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "release_dir" {
  description = "Directory that go run ./internal/release wrote."
  type        = string
  validation {
    condition     = length(var.release_dir) > 0
    error_message = "release_dir must name the directory that go run ./internal/release --out wrote."
  }
}

variable "release_version" {
  description = "Version of that release, such as v1.2.3."
  type        = string
  validation {
    condition     = can(regex("^v[0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?$", var.release_version))
    error_message = "release_version must be a semantic version, such as v1.2.3 or v1.2.3-rc.1."
  }
}

variable "architecture" {
  description = "Instruction set of server and functions: arm64 or amd64."
  type        = string
  default     = "arm64"
  validation {
    condition     = contains(["arm64", "amd64"], var.architecture)
    error_message = "architecture must be arm64 or amd64."
  }
}

variable "instance_type" {
  description = "EC2 type of the server, of that architecture; null: t4g.micro or t3.micro."
  type        = string
  default     = null
  validation {
    condition     = var.instance_type == null || can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", var.instance_type))
    error_message = "instance_type must be a type of EC2, such as t4g.micro."
  }
}

variable "subnet_id" {
  description = "Public subnet for the server; null: a VPC and a subnet are made."
  type        = string
  default     = null
  validation {
    condition     = var.subnet_id == null || can(regex("^subnet-[0-9a-f]+$", var.subnet_id))
    error_message = "subnet_id must be the id of a subnet, such as subnet-0123456789abcdef0."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made."
  type        = string
  default     = "10.78.0.0/24"
  validation {
    condition     = can(cidrhost(var.vpc_cidr, 16)) && can(regex("^[0-9.]+/(1[6-9]|2[0-7])$", var.vpc_cidr))
    error_message = "vpc_cidr must be an IPv4 prefix with a length of 16 to 27, such as 10.78.0.0/24."
  }
}

variable "allowed_cidr" {
  description = "Who may reach the server. Functions have addresses of all of AWS, so the default is everybody; tokens are what keeps strangers out."
  type        = string
  default     = "0.0.0.0/0"
  validation {
    condition     = can(cidrnetmask(var.allowed_cidr))
    error_message = "allowed_cidr must be an IPv4 prefix, such as 0.0.0.0/0."
  }
}

variable "token_lifetime" {
  description = "How long the token in the connection string is valid, in Go's form."
  type        = string
  default     = "8760h"
  validation {
    condition     = can(regex("^[1-9][0-9]*h$", var.token_lifetime))
    error_message = "token_lifetime must be whole hours, such as 8760h."
  }
}

variable "worker_memory_mb" {
  description = "Memory of the worker. A whole CPU comes with 1769 MB."
  type        = number
  default     = 1769
  validation {
    condition     = var.worker_memory_mb >= 128 && var.worker_memory_mb <= 10240 && floor(var.worker_memory_mb) == var.worker_memory_mb
    error_message = "worker_memory_mb must be a whole number from 128 to 10240."
  }
}

variable "function_timeout_s" {
  description = "Timeout of both functions in seconds."
  type        = number
  default     = 300
  validation {
    condition     = var.function_timeout_s >= 1 && var.function_timeout_s <= 900 && floor(var.function_timeout_s) == var.function_timeout_s
    error_message = "function_timeout_s must be a whole number from 1 to 900."
  }
}

variable "worker_concurrency" {
  description = "Workers at once, reserved: more are refused, and no other function can use these. -1: only the account's limit."
  type        = number
  default     = -1
  validation {
    condition     = var.worker_concurrency >= -1 && floor(var.worker_concurrency) == var.worker_concurrency && var.worker_concurrency != 0
    error_message = "worker_concurrency must be -1 or at least 1; 0 would switch the worker off."
  }
}

variable "exchange_days" {
  description = "Days after which objects of finished jobs are deleted."
  type        = number
  default     = 1
  validation {
    condition     = var.exchange_days >= 1 && floor(var.exchange_days) == var.exchange_days
    error_message = "exchange_days must be a whole number, at least 1."
  }
}

variable "log_days" {
  description = "Days that the functions' logs are kept."
  type        = number
  default     = 14
  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365], var.log_days)
    error_message = "log_days must be one that CloudWatch has: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180 or 365."
  }
}
