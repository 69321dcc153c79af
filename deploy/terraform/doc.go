// Package terraform holds a Terraform module, and tests that read it as Terraform does: they evaluate its conditions, policies and
// templates, and run the server's user data. docs/deploy.md says how to use the module.
package terraform
