package natlab

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Matches use register 15, so that they never disturb a key that is being put together.
const matchRegister = 15

func match(load expr.Any, op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{load, &expr.Cmp{Op: op, Register: reg(matchRegister), Data: data}}
}

// byName compares a link's name, which is long: it takes registers 12 to 15.
func byName(key expr.MetaKey, op expr.CmpOp) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, uplinkName)
	return []expr.Any{&expr.Meta{Key: key, Register: reg(12)}, &expr.Cmp{Op: op, Register: reg(12), Data: name}}
}

func fromUplink() []expr.Any { return byName(expr.MetaKeyIIFNAME, expr.CmpOpEq) }
func fromInside() []expr.Any { return byName(expr.MetaKeyIIFNAME, expr.CmpOpNeq) }
func toUplink() []expr.Any   { return byName(expr.MetaKeyOIFNAME, expr.CmpOpEq) }
func toInside() []expr.Any   { return byName(expr.MetaKeyOIFNAME, expr.CmpOpNeq) }

func udp() []expr.Any {
	return match(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(matchRegister)}, expr.CmpOpEq, []byte{unix.IPPROTO_UDP})
}

func field(base expr.PayloadBase, offset, length, register uint32) expr.Any {
	return &expr.Payload{OperationType: expr.PayloadLoad, DestRegister: reg(register), Base: base, Offset: offset, Len: length}
}

func sourceAddress(r uint32) expr.Any { return field(expr.PayloadBaseNetworkHeader, 12, 4, r) }
func destinationAddress(r uint32) expr.Any {
	return field(expr.PayloadBaseNetworkHeader, 16, 4, r)
}
func sourcePort(r uint32) expr.Any      { return field(expr.PayloadBaseTransportHeader, 0, 2, r) }
func destinationPort(r uint32) expr.Any { return field(expr.PayloadBaseTransportHeader, 2, 2, r) }

func load(fields ...expr.Any) []expr.Any { return fields }

func fromAddress(a netip.Addr) []expr.Any {
	return match(sourceAddress(matchRegister), expr.CmpOpEq, a.AsSlice())
}

func toAddress(a netip.Addr) []expr.Any {
	return match(destinationAddress(matchRegister), expr.CmpOpEq, a.AsSlice())
}

func fromPrefix(p netip.Prefix) []expr.Any {
	mask := make([]byte, 4)
	binary.BigEndian.PutUint32(mask, ^uint32(0)<<(32-p.Bits()))
	return []expr.Any{
		sourceAddress(matchRegister),
		&expr.Bitwise{SourceRegister: reg(matchRegister), DestRegister: reg(matchRegister), Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(matchRegister), Data: p.Addr().AsSlice()},
	}
}

// bits matches flows that have one of the bits of a conntrack field, or none of them.
func bits(key expr.CtKey, mask uint32, set bool) []expr.Any {
	op := expr.CmpOpEq
	if set {
		op = expr.CmpOpNeq
	}
	return []expr.Any{
		&expr.Ct{Key: key, Register: reg(matchRegister)},
		&expr.Bitwise{
			SourceRegister: reg(matchRegister), DestRegister: reg(matchRegister), Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: op, Register: reg(matchRegister), Data: make([]byte, 4)},
	}
}

func stateNew() []expr.Any { return bits(expr.CtKeySTATE, expr.CtStateBitNEW, true) }

// translated matches flows whose destination was, or was not, rewritten (IPS_DST_NAT).
func translated(yes bool) []expr.Any { return bits(expr.CtKeySTATUS, 1<<5, yes) }

func flowDirection(d uint32) []expr.Any {
	return match(&expr.Ct{Key: expr.CtKeyDIRECTION, Register: reg(matchRegister)}, expr.CmpOpEq, []byte{byte(d)})
}

// following loads the next port of a sequence. The kernel counts in its own byte order and takes ports in the network's.
func following(r uint32) []expr.Any {
	return []expr.Any{
		&expr.Numgen{Register: reg(r), Type: unix.NFT_NG_INCREMENTAL, Modulus: 40000, Offset: 20000},
		&expr.Byteorder{SourceRegister: reg(r), DestRegister: reg(r), Op: expr.ByteorderHton, Len: 2, Size: 2},
	}
}

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

func count(name string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}}
}

// member matches if the key that begins in a register is in the set.
func member(set *nftables.Set, key uint32) expr.Any {
	return &expr.Lookup{SetName: set.Name, SetID: set.ID, SourceRegister: reg(key)}
}

// lookup matches if the key is in the map, and loads the value.
func lookup(set *nftables.Set, key, value uint32) expr.Any {
	return &expr.Lookup{SetName: set.Name, SetID: set.ID, SourceRegister: reg(key), DestRegister: reg(value), IsDestRegSet: true}
}

// update adds the key, with its value if the set is a map, or renews its timeout.
func update(set *nftables.Set, key, value uint32) []expr.Any {
	e := &expr.Dynset{SetName: set.Name, SetID: set.ID, Operation: unix.NFT_DYNSET_OP_UPDATE, SrcRegKey: reg(key)}
	if set.IsMap {
		e.SrcRegData = reg(value)
	}
	return []expr.Any{e}
}

func readCounter(conn *nftables.Conn, table *nftables.Table, name string) (uint64, error) {
	obj, err := conn.GetObject(&nftables.CounterObj{Table: table, Name: name})
	if err != nil {
		return 0, err
	}
	switch c := obj.(type) {
	case *nftables.CounterObj:
		return c.Packets, nil
	case *nftables.NamedObj:
		if counter, ok := c.Obj.(*expr.Counter); ok {
			return counter.Packets, nil
		}
	}
	return 0, nil
}
