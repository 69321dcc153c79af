package exchange

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Mode says which rungs of the ladder an exchange may use.
type Mode string

const (
	// Direct never touches S3. What no link can deliver is a typed error.
	Direct Mode = "direct"
	// S3 makes no links: producers write through, consumers read the objects.
	S3 Mode = "s3"
	// Auto goes direct and climbs down to S3 per partition.
	Auto Mode = "auto"
)

// ParseMode reads "direct", "s3" or "auto".
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Direct, S3, Auto:
		return m, nil
	}
	return "", fmt.Errorf("exchange: mode %q is unknown, use direct, s3 or auto", s)
}

func (m Mode) usesLinks() bool { return m != S3 }
func (m Mode) usesStore() bool { return m != Direct }

// Shuffle describes one exchange. All its producers and consumers are given
// the same value.
type Shuffle struct {
	// Job is the job's id: the directory on S3 and a guard against requests
	// that belong to another job. Letters, digits and "-_." (and "/" inside).
	Job string
	// Collective names the Bipartite collective. Empty means "shuffle".
	Collective string
	// Producers and Consumers are the sizes of the two sides, at least 1.
	// Consumer j reads partition j of every producer.
	Producers, Consumers int
	// ProducerRole and ConsumerRole are the roles with which the peers signed
	// in. Empty means "producer" and "consumer".
	ProducerRole, ConsumerRole string
	// ParseProducer and ParseConsumer take index and attempt out of a peer's
	// name; ok is false if the name is none of that side. Nil reads the names
	// "<role>-<index>-<attempt>". See [ParsePeerName].
	ParseProducer, ParseConsumer func(peer string) (index, attempt int, ok bool)
}

// ParsePeerName reads "<prefix>-<index>-<attempt>", both in plain decimal.
func ParsePeerName(prefix, name string) (index, attempt int, ok bool) {
	rest, ok := strings.CutPrefix(name, prefix+"-")
	if !ok {
		return 0, 0, false
	}
	first, second, ok := strings.Cut(rest, "-")
	if !ok {
		return 0, 0, false
	}
	index, ok = parseNumber(first)
	if !ok {
		return 0, 0, false
	}
	attempt, ok = parseNumber(second)
	return index, attempt, ok
}

// parseNumber reads a decimal without sign, spaces or leading zeros.
func parseNumber(s string) (int, bool) {
	if s == "" || len(s) > 9 || (s[0] == '0' && len(s) > 1) {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// maxSide bounds the producers and consumers of one exchange, and with them
// the size of an index on S3.
const maxSide = 1 << 16

// waitingFor returns the shuffle as an attempt joins it. A first one waits for
// all, so that each peer gets one order for all its links. A later one waits for
// nobody: others may have done their part and left.
func (s Shuffle) waitingFor(attempt int) Shuffle {
	if attempt > 0 {
		s.Producers, s.Consumers = 1, 1
	}
	return s
}

// withDefaults checks s and fills in what is empty.
func (s Shuffle) withDefaults() (Shuffle, error) {
	if err := checkJob(s.Job); err != nil {
		return s, err
	}
	if s.Producers < 1 || s.Producers > maxSide || s.Consumers < 1 || s.Consumers > maxSide {
		return s, fmt.Errorf("exchange: a shuffle of %d producers and %d consumers: both must be 1 to %d", s.Producers, s.Consumers, maxSide)
	}
	if s.Collective == "" {
		s.Collective = "shuffle"
	}
	if s.ProducerRole == "" {
		s.ProducerRole = "producer"
	}
	if s.ConsumerRole == "" {
		s.ConsumerRole = "consumer"
	}
	if s.ParseProducer == nil {
		role := s.ProducerRole
		s.ParseProducer = func(name string) (int, int, bool) { return ParsePeerName(role, name) }
	}
	if s.ParseConsumer == nil {
		role := s.ConsumerRole
		s.ParseConsumer = func(name string) (int, int, bool) { return ParsePeerName(role, name) }
	}
	return s, nil
}

func checkJob(job string) error {
	if job == "" || len(job) > 256 {
		return errors.New("exchange: the job's id must have 1 to 256 characters")
	}
	for _, part := range strings.Split(job, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("exchange: job id %q: no empty, \".\" or \"..\" elements", job)
		}
	}
	for _, c := range job {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune("-_./", c):
		default:
			return fmt.Errorf("exchange: job id %q: only letters, digits and -_./ are allowed", job)
		}
	}
	return nil
}

// ProducerConfig is what [NewProducer] needs.
type ProducerConfig struct {
	// Shuffle is the exchange that this producer belongs to.
	Shuffle Shuffle
	// Producer is this producer's index, Attempt the number of this run of it.
	// Every run of a producer has its own number, from 0 up.
	Producer, Attempt int
	// Mode defaults to Auto.
	Mode Mode
	// Policy is carried out from Finish on. Its zero value writes through and
	// leaves at once; see [DefaultPolicy].
	Policy Policy
	// Since is when the work began whose compute Policy counts in dollars, as at the
	// start of the invocation. Zero means when NewProducer was called.
	Since time.Time
	// Store is needed in modes S3 and Auto.
	Store *S3Store
	// Network is needed in modes Direct and Auto. It must have signed in with
	// the ProducerRole. The producer takes the network's Accept for itself.
	Network Network
	// MemoryBudget bounds the bytes of partitions held in memory; more goes to
	// a file in os.TempDir. 0 means 256 MiB. Up to 64 KiB per partition that is
	// being written come on top.
	MemoryBudget int64
	// Replaces names attempts of this producer that are known to be unusable
	// (see [LostError]). A commit record of theirs is replaced.
	Replaces []int
}

// ConsumerConfig is what [NewConsumer] needs.
type ConsumerConfig struct {
	// Shuffle is the exchange that this consumer belongs to.
	Shuffle Shuffle
	// Consumer is this consumer's index and the partition that it reads;
	// Attempt is the number of this run of it.
	Consumer, Attempt int
	// Mode defaults to Auto.
	Mode Mode
	// Store is needed in modes S3 and Auto.
	Store *S3Store
	// Network is needed in modes Direct and Auto. It must have signed in with
	// the ConsumerRole.
	Network Network
	// Patience is how long a read waits for another attempt or a commit record
	// after the producer is known to be gone, before it gives a [LostError].
	// 0 means 5 s. A producer that was not seen yet, or whose link is alive,
	// is waited for until the context ends: whether such a one failed, only
	// the caller knows.
	Patience time.Duration
	// Reconnects is how often a broken link is made anew at once, per read and
	// break; then again after every Patience (in mode Direct once, before the
	// read gives a LinkError). 0 means 2, negative means not at once.
	Reconnects int
}
