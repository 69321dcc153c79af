package natlab

import (
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// defaultTimeout is the kernel's for UDP flows that have been answered.
const defaultTimeout = 120 * time.Second

// The router's rules, in the order that packets meet them:
//
//	remember  prerouting  -150  note what hairpinned packets were sent to
//	dnat      prerouting  -100  let in what mapping and filtering allow
//	input     input          0  count and drop what was for nobody
//	forward   forward        0  drop what was not translated; block UDP
//	snat      postrouting  100  choose the external port
//	record    postrouting  200  note who got which external port
//
// Conntrack alone gives Linux's own behaviour: ports are preserved
// and only known remote endpoints are let in. For the other kinds of NAT the packet
// path keeps sets of its own:
//
//	owners   external port -> internal address . port            (who is behind a port)
//	ports    internal address . port [. remote address] -> external port
//	allowed  remote address . external port                      (address-dependent filtering)
//	sent     internal address . port [. external port sent to]   (filtering of hairpinned packets)
type ruleset struct {
	site  *Site
	conn  *nftables.Conn
	table *nftables.Table

	owners, ports, allowed, sent *nftables.Set
}

const (
	unsolicitedCounter = "unsolicited"
	blockedCounter     = "blocked"
)

func natTable() *nftables.Table {
	return &nftables.Table{Name: "natlab", Family: nftables.TableFamilyIPv4}
}

// installRules loads the site's rules into the calling thread's namespace.
func (s *Site) installRules() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	r := &ruleset{site: s, conn: conn, table: conn.AddTable(natTable())}
	for _, name := range []string{unsolicitedCounter, blockedCounter} {
		conn.AddObj(&nftables.CounterObj{Table: r.table, Name: name})
	}
	if s.config.NAT.tracksPorts() {
		if err := r.addSets(); err != nil {
			return err
		}
		r.addRemember()
		r.addRecord()
	}
	r.addDNAT()
	r.addInput()
	r.addForward()
	r.addSNAT()
	return conn.Flush()
}

func (r *ruleset) nat() NAT { return r.site.config.NAT }

// addSets makes the sets. Their elements expire like conntrack's flows: every
// outbound packet renews them.
func (r *ruleset) addSets() error {
	address, port := nftables.TypeIPAddr, nftables.TypeInetService
	sets := r.sets()
	r.owners, r.ports, r.allowed, r.sent = sets[0], sets[1], sets[2], sets[3]
	r.owners.IsMap, r.owners.KeyType, r.owners.DataType = true, port, nftables.MustConcatSetType(address, port)
	r.ports.IsMap, r.ports.KeyType, r.ports.DataType = true, nftables.MustConcatSetType(address, port), port
	if r.nat().Mapping == AddressDependentMapping {
		r.ports.KeyType = nftables.MustConcatSetType(address, port, address)
	}
	r.allowed.KeyType = nftables.MustConcatSetType(address, port)
	r.sent.KeyType = nftables.MustConcatSetType(address, port)
	if r.nat().Filtering == AddressAndPortDependentFiltering {
		r.sent.KeyType = nftables.MustConcatSetType(address, port, port)
	}
	timeout := r.nat().MappingTimeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	for i, set := range sets {
		set.ID = uint32(i + 1) // the library's own counter is not safe for several goroutines
		set.Dynamic, set.HasTimeout, set.Timeout, set.Size = true, true, timeout, 1<<16
		set.Concatenation = set != r.owners
		if err := r.conn.AddSet(set, nil); err != nil {
			return err
		}
	}
	return nil
}

func (r *ruleset) sets() []*nftables.Set {
	var sets []*nftables.Set
	for _, name := range []string{"owners", "ports", "allowed", "sent"} {
		sets = append(sets, &nftables.Set{Table: r.table, Name: name})
	}
	return sets
}

// flushSets empties the sets in the calling thread's namespace.
func (s *Site) flushSets() error {
	if !s.config.NAT.tracksPorts() {
		return nil
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	r := &ruleset{site: s, conn: conn, table: natTable()}
	for _, set := range r.sets() {
		conn.FlushSet(set)
	}
	return conn.Flush()
}

func (r *ruleset) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
	return r.conn.AddChain(&nftables.Chain{
		Name: name, Table: r.table, Type: kind, Hooknum: hook, Priority: nftables.ChainPriorityRef(priority),
	})
}

func (r *ruleset) rule(chain *nftables.Chain, parts ...[]expr.Any) {
	rule := &nftables.Rule{Table: r.table, Chain: chain}
	for _, p := range parts {
		rule.Exprs = append(rule.Exprs, p...)
	}
	r.conn.AddRule(rule)
}

func (r *ruleset) addInput() {
	c := r.chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, 0)
	unsolicited := [][]expr.Any{fromUplink(), stateNew(), count(unsolicitedCounter)}
	if r.nat().DropUnsolicited {
		unsolicited = append(unsolicited, drop())
	}
	r.rule(c, unsolicited...)
	// A hairpinned packet that filtering refuses must leave no trace, or conntrack
	// would send those after it to the router too.
	if r.nat().Hairpinning || r.nat().DropUnsolicited {
		r.rule(c, fromInside(), udp(), toAddress(r.site.public), stateNew(), drop())
	}
}

func (r *ruleset) addForward() {
	c := r.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0)
	if r.nat().UDPBlocked {
		r.rule(c, toUplink(), udp(), count(blockedCounter), drop())
		r.rule(c, fromUplink(), udp(), count(blockedCounter), drop())
	}
	if r.nat().DropUnsolicited {
		r.rule(c, fromUplink(), stateNew(), translated(false), count(unsolicitedCounter), drop())
	}
}

// setHoldRules adds or removes a table that drops all that the router would forward.
func setHoldRules(hold bool) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: "hold", Family: nftables.TableFamilyIPv4}
	if !hold {
		conn.DelTable(table)
		return conn.Flush()
	}
	r := &ruleset{conn: conn, table: conn.AddTable(table)}
	r.rule(r.chain("all", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw), drop())
	return conn.Flush()
}

// setCutRules adds or removes a table that swallows what passes the uplink.
func setCutRules(family nftables.TableFamily, cut bool) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: "cut", Family: family}
	r := &ruleset{conn: conn, table: table}
	if !cut {
		conn.DelTable(table)
		return conn.Flush()
	}
	conn.AddTable(table)
	in := r.chain("in", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw)
	r.rule(in, fromUplink(), drop())
	out := r.chain("out", nftables.ChainTypeFilter, nftables.ChainHookPostrouting, *nftables.ChainPriorityConntrackHelper)
	r.rule(out, toUplink(), drop())
	return conn.Flush()
}
