package natlab

import (
	"errors"
	"os"
	"strings"
)

// ErrUnavailable says that no labs can be made here. Errors that wrap it tell the
// reason, and what would allow it.
var ErrUnavailable = errors.New("natlab: network labs are unavailable")

type unavailableError struct {
	text  string
	cause error
}

func (e *unavailableError) Error() string        { return ErrUnavailable.Error() + ": " + e.text }
func (e *unavailableError) Is(target error) bool { return target == ErrUnavailable }
func (e *unavailableError) Unwrap() error        { return e.cause }

// unavailable wraps an error with what the system's settings say about its cause.
func unavailable(err error) error {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if hint := hints("/proc/sys/"); hint != "" {
		text += ": " + hint
	}
	return &unavailableError{text: text, cause: err}
}

// hints looks for settings below dir that forbid user or network namespaces.
func hints(dir string) string {
	known := []struct{ path, bad, advice string }{
		{"kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1 would allow it"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0 would allow it"},
		{"user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000 would allow it"},
		{"user/max_net_namespaces", "0", "sysctl user.max_net_namespaces=15000 would allow it"},
	}
	var advice []string
	for _, k := range known {
		value, err := os.ReadFile(dir + k.path)
		if err == nil && strings.TrimSpace(string(value)) == k.bad {
			advice = append(advice, k.advice)
		}
	}
	return strings.Join(advice, "; ")
}
