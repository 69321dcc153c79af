package commands

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bradawl/bradawl/client"
)

// netcheckResult is what --json prints.
type netcheckResult struct {
	Mapping       string   `json:"mapping"`
	UDPBlocked    bool     `json:"udp_blocked"`
	Observed      string   `json:"observed,omitempty"`
	Main          string   `json:"mapped_by_main_port,omitempty"`
	Alternate     string   `json:"mapped_by_alternate_port,omitempty"`
	Hosts         []string `json:"host_addresses,omitempty"`
	PortPreserved bool     `json:"port_preserved"`
	ControlRTTMS  float64  `json:"control_rtt_ms,omitempty"`
	Says          []string `json:"says"`
}

func netcheckCommand(std streams, who *standing) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "netcheck",
		Short: "Say how the network here treats UDP",
		Args:  cobra.NoArgs,
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
			r, err := c.Netcheck(cmd.Context())
			if err != nil {
				return err
			}
			return printReport(std, r, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func printReport(std streams, r client.NetReport, asJSON bool) error {
	if !asJSON {
		for _, line := range r.Explain() {
			if _, err := fmt.Fprintln(std.out, line); err != nil {
				return err
			}
		}
		for _, h := range r.Hosts {
			if _, err := fmt.Fprintf(std.out, "Own address: %s\n", h); err != nil {
				return err
			}
		}
		return nil
	}
	out := netcheckResult{Mapping: string(r.Mapping), UDPBlocked: r.UDPBlocked, PortPreserved: r.PortPreserved,
		ControlRTTMS: inMillis(r.ControlRTT), Says: r.Explain()}
	for _, a := range []struct {
		to   *string
		from fmt.Stringer
		ok   bool
	}{
		{&out.Observed, r.Observed, r.Observed.IsValid()},
		{&out.Main, r.MainMapped, r.MainMapped.IsValid()},
		{&out.Alternate, r.AlternateMapped, r.AlternateMapped.IsValid()},
	} {
		if a.ok {
			*a.to = a.from.String()
		}
	}
	for _, h := range r.Hosts {
		out.Hosts = append(out.Hosts, h.String())
	}
	return json.NewEncoder(std.out).Encode(out)
}
