// Package daemon is the rendezvous server as a program: settings from flags,
// environment and a YAML file, keys in a state directory, logs, an HTTP port for
// metrics and health, and an orderly end. [Main] is all of it, so that other
// binaries can hold it as a subcommand.
package daemon
