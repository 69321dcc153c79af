// Package cli is the demo as a command: flags, progress, the order of the steps.
package cli
