package protocol

import "github.com/bradawl/bradawl/protocol/pb"

// CandidateWord is RFC 8445's word for a type of candidate, in the form that errors, logs and metrics have: "host",
// "server_reflexive", "peer_reflexive" or "relayed"; "unknown" for all else.
func CandidateWord(t pb.Candidate_Type) string {
	switch t {
	case pb.Candidate_HOST:
		return "host"
	case pb.Candidate_SERVER_REFLEXIVE:
		return "server_reflexive"
	case pb.Candidate_PEER_REFLEXIVE:
		return "peer_reflexive"
	case pb.Candidate_RELAYED:
		return "relayed"
	}
	return "unknown"
}
