output "address" {
  description = "HOST:PORT of the rendezvous."
  value       = "${aws_eip.server.public_ip}:3478"
}

output "exchange_bucket" {
  description = "Bucket of the jobs' partitions and outputs."
  value       = aws_s3_bucket.this["exchange"].id
}

output "worker_function" {
  description = "Name of the worker."
  value       = aws_lambda_function.this["worker"].function_name
}

# The connection string goes through pipes and files only: arguments can be read by everybody on a machine.
output "url_command" {
  description = "Writes the connection string, a secret, to the file bradawl.url. It is \"unset\" until the server has started."
  value       = "(umask 077; aws ssm get-parameter --region ${data.aws_region.current.region} --name /${var.name}/url --with-decryption --query Parameter.Value --output text >bradawl.url)"
}

output "netcheck_command" {
  description = "Looks at this machine's network, with bradawl.url."
  value       = "bradawl netcheck --url-file bradawl.url"
}

output "probe_command" {
  description = "Looks at the network around a function; the result goes to probe.json."
  value       = "aws ssm get-parameter --region ${data.aws_region.current.region} --name /${var.name}/url --with-decryption --query '{url: Parameter.Value}' --output json | aws lambda invoke --region ${data.aws_region.current.region} --function-name ${aws_lambda_function.this["probe"].function_name} --cli-binary-format raw-in-base64-out --payload file:///dev/stdin probe.json"
}

output "shell_command" {
  description = "Opens a shell on the server, without SSH."
  value       = "aws ssm start-session --region ${data.aws_region.current.region} --target ${aws_instance.server.id}"
}
