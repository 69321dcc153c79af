locals {
  functions = {
    worker = { memory = var.worker_memory_mb, concurrency = var.worker_concurrency }
    probe  = { memory = 256, concurrency = -1 }
  }
  zips = { for f in keys(local.functions) : f => "${var.release_dir}/bradawl-${f}_${var.release_version}_lambda_${var.architecture}.zip" }
}

resource "aws_cloudwatch_log_group" "function" {
  for_each          = local.functions
  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_days
}

# No vpc_config: behind a NAT gateway every mapping is symmetric, and punching fails.
resource "aws_lambda_function" "this" {
  for_each                       = local.functions
  function_name                  = "${var.name}-${each.key}"
  role                           = aws_iam_role.function[each.key].arn
  filename                       = local.zips[each.key]
  source_code_hash               = filebase64sha256(local.zips[each.key])
  runtime                        = "provided.al2023"
  handler                        = "bootstrap"
  architectures                  = [var.architecture == "arm64" ? "arm64" : "x86_64"]
  memory_size                    = each.value.memory
  timeout                        = var.function_timeout_s
  reserved_concurrent_executions = each.value.concurrency
  depends_on                     = [aws_cloudwatch_log_group.function, aws_iam_role_policy.logs]
}

# A lost function is the driver's to run again; a second attempt by Lambda would only be in its way.
resource "aws_lambda_function_event_invoke_config" "this" {
  for_each               = aws_lambda_function.this
  function_name          = each.value.function_name
  maximum_retry_attempts = 0
}

resource "aws_iam_role" "function" {
  for_each = local.functions
  name     = "${var.name}-${each.key}"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "lambda.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy" "logs" {
  for_each = local.functions
  name     = "logs"
  role     = aws_iam_role.function[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Logs", Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["${aws_cloudwatch_log_group.function[each.key].arn}:*"] },
    ]
  })
}

resource "aws_iam_role_policy" "worker" {
  name = "exchange"
  role = aws_iam_role.function["worker"].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Objects", Effect = "Allow", Action = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], Resource = ["${aws_s3_bucket.this["exchange"].arn}/*"] },
      # Without it a missing object is "access denied", and nobody knows that it is missing.
      { Sid = "Bucket", Effect = "Allow", Action = ["s3:ListBucket"], Resource = [aws_s3_bucket.this["exchange"].arn] },
    ]
  })
}
