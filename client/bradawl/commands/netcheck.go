package commands

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bradawl/bradawl/client"
)

// netcheckResult is what --json prints. What is not known has an entry in untested, and its field is "unknown", 0 or absent.
type netcheckResult struct {
	UDPBlocked      bool             `json:"udp_blocked"`
	Mapping         string           `json:"mapping"`
	Filtering       string           `json:"filtering"`
	PortPreserved   bool             `json:"port_preserved"`
	Hairpinning     string           `json:"hairpinning"`
	PathMTU         int              `json:"path_mtu,omitempty"`
	LifetimeAtLeast float64          `json:"mapping_lifetime_at_least_s,omitempty"`
	LifetimeBelow   float64          `json:"mapping_lifetime_below_s,omitempty"`
	SecondAddress   bool             `json:"server_has_second_address"`
	Observed        string           `json:"observed,omitempty"`
	IPv4            string           `json:"ipv4,omitempty"`
	NoIPv4          string           `json:"no_ipv4,omitempty"`
	IPv6            string           `json:"ipv6,omitempty"`
	NoIPv6          string           `json:"no_ipv6,omitempty"`
	Main            string           `json:"mapped_by_main_port,omitempty"`
	Alternate       string           `json:"mapped_by_alternate_port,omitempty"`
	Other           string           `json:"mapped_by_other_address,omitempty"`
	Hosts           []string         `json:"host_addresses,omitempty"`
	ControlRTTMS    float64          `json:"control_rtt_ms,omitempty"`
	Untested        []netcheckAbsent `json:"untested,omitempty"`
	Says            []string         `json:"says"`
}

type netcheckAbsent struct {
	Test string `json:"test"`
	Why  string `json:"why"`
}

func netcheckCommand(std streams, who *standing) *cobra.Command {
	var asJSON bool
	var opts client.DiscoverOptions
	c := &cobra.Command{
		Use:   "netcheck",
		Short: "Say how the network here treats UDP",
		Long: `Say how the network here treats UDP: how the NAT maps and filters (RFC 4787),
whether it keeps ports and hairpins, and how large packets may be; and what that
means for connecting to others. It takes a few seconds.

How long the NAT keeps an idle mapping is measured only if --lifetime gives time
for it, as many keep them for minutes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := who.config()
			if err != nil {
				return err
			}
			c, err := client.SignIn(cmd.Context(), cfg)
			if err != nil {
				if r, tells := client.BlockedReport(err); tells {
					if err := printReport(std, r, asJSON); err != nil {
						return err
					}
					return errReported
				}
				return explained(err)
			}
			defer c.Close()
			r, err := c.Discover(cmd.Context(), opts)
			if err != nil {
				return err
			}
			return printReport(std, r, asJSON)
		},
	}
	c.Flags().DurationVar(&opts.LifetimeBudget, "lifetime", 0, "how long to look for the lifetime of an idle mapping, for example 3m; 0: not at all")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func printReport(std streams, r client.NetReport, asJSON bool) error {
	if !asJSON {
		table := tabwriter.NewWriter(std.out, 0, 0, 3, ' ', 0)
		for _, f := range r.Findings() {
			_, _ = fmt.Fprintf(table, "%s\t%s\n", f.What, f.Result) // Flush tells
		}
		if err := table.Flush(); err != nil {
			return err
		}
		_, err := fmt.Fprintf(std.out, "\n%s\n", strings.Join(r.Explain(), "\n"))
		return err
	}
	out := netcheckResult{Mapping: string(r.Mapping), UDPBlocked: r.UDPBlocked, PortPreserved: r.PortPreserved,
		Filtering: string(r.Filtering), Hairpinning: string(r.Hairpinning), PathMTU: r.PathMTU, SecondAddress: r.SecondAddress,
		LifetimeAtLeast: r.Lifetime.AtLeast.Seconds(), LifetimeBelow: r.Lifetime.Below.Seconds(),
		NoIPv4: r.NoIPv4, NoIPv6: r.NoIPv6, ControlRTTMS: inMillis(r.ControlRTT), Says: r.Explain()}
	for _, a := range []struct {
		to   *string
		from fmt.Stringer
		ok   bool
	}{
		{&out.Observed, r.Observed, r.Observed.IsValid()},
		{&out.IPv4, r.IPv4, r.IPv4.IsValid()},
		{&out.IPv6, r.IPv6, r.IPv6.IsValid()},
		{&out.Main, r.MainMapped, r.MainMapped.IsValid()},
		{&out.Alternate, r.AlternateMapped, r.AlternateMapped.IsValid()},
		{&out.Other, r.OtherMapped, r.OtherMapped.IsValid()},
	} {
		if a.ok {
			*a.to = a.from.String()
		}
	}
	for _, h := range r.Hosts {
		out.Hosts = append(out.Hosts, h.String())
	}
	for _, u := range r.Untested {
		out.Untested = append(out.Untested, netcheckAbsent{string(u.Test), u.Why})
	}
	return json.NewEncoder(std.out).Encode(out)
}
