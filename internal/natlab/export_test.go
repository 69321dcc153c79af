package natlab

import (
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Hints is hints.
var Hints = hints

// Remembered counts the flows and the sets' elements that a site's router remembers.
func Remembered(s *Site) (n int, err error) {
	err = s.inRouter(func() error {
		nl, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer nl.Close()
		flows, err := nl.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		if err != nil {
			return err
		}
		n = len(flows)
		if !s.config.NAT.tracksPorts() {
			return nil
		}
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		for _, set := range (&ruleset{site: s, conn: conn, table: natTable()}).sets() {
			elements, err := conn.GetSetElements(set)
			if err != nil {
				return err
			}
			n += len(elements)
		}
		return nil
	})
	return n, err
}
