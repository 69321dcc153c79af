package rendezvous

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
	"github.com/bradawl/bradawl/protocol/token"
)

// checkName tells whether a name is fit to be one: not empty, bounded, UTF-8, and nothing in it that would garble a log or a terminal.
func checkName(what, s string, limit int) error {
	switch {
	case s == "":
		return fmt.Errorf("%s is empty", what)
	case len(s) > limit:
		return fmt.Errorf("%s has %d bytes, the limit is %d", what, len(s), limit)
	case !printable(s):
		return fmt.Errorf("%s has characters that cannot be printed", what)
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// authorize decides on a sign-in by its token and its names. The error is a *refusal; the detail never repeats the token.
func authorize(v *token.Verifier, in *pb.SignIn, now time.Time) (token.Claims, error) {
	claims, err := v.Verify(in.GetToken(), now)
	if err == nil {
		err = errors.Join(
			checkName("group", in.GetGroup(), protocol.MaxGroupLen),
			checkName("name", in.GetName(), protocol.MaxNameLen),
		)
	}
	if err == nil {
		err = claims.Allows(in.GetGroup(), in.GetName())
	}
	if err == nil && (len(in.GetRole()) > protocol.MaxRoleLen || !printable(in.GetRole())) {
		err = fmt.Errorf("role has more than %d bytes or cannot be printed", protocol.MaxRoleLen)
	}
	if err != nil {
		return token.Claims{}, &refusal{reason: protocol.ReasonUnauthorized, detail: oneLine(err)}
	}
	return claims, nil
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// agentOf is what a client says of its program, cut to size and made fit for the log.
func agentOf(in *pb.SignIn) string {
	a := in.GetAgent()
	if len(a) > protocol.MaxAgentLen {
		a = a[:protocol.MaxAgentLen]
	}
	return strings.ToValidUTF8(a, "?")
}

// newMember is the peer that a sign-in describes; the link is set by the caller.
func newMember(in *pb.SignIn, id uint64, key identity.Fingerprint, tokenID string) *member {
	return &member{id: id, name: in.GetName(), role: in.GetRole(), fingerprint: key, tokenID: tokenID}
}
