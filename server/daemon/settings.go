package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.uber.org/zap/zapcore"
)

// off switches a port off.
const off = "off"

// settings are what flags, environment and file say.
type settings struct {
	Config        string        `mapstructure:"config"`
	Listen        string        `mapstructure:"listen"`
	STUNAlternate string        `mapstructure:"stun-alternate"`
	STUNOther     string        `mapstructure:"stun-other"`
	PublicOther   string        `mapstructure:"public-stun-other"`
	HTTP          string        `mapstructure:"http"`
	StateDir      string        `mapstructure:"state-dir"`
	PublicAddr    string        `mapstructure:"public-addr"`
	PublicIPv4    string        `mapstructure:"public-ipv4"`
	PublicIPv6    string        `mapstructure:"public-ipv6"`
	TokenLifetime time.Duration `mapstructure:"token-lifetime"`
	Window        time.Duration `mapstructure:"window"`
	Attempt       time.Duration `mapstructure:"attempt-timeout"`
	Drain         time.Duration `mapstructure:"drain-timeout"`
	LogLevel      string        `mapstructure:"log-level"`
	LogFormat     string        `mapstructure:"log-format"`

	MaxPeers         int `mapstructure:"max-peers"`
	MaxGroups        int `mapstructure:"max-groups"`
	MaxPeersPerGroup int `mapstructure:"max-peers-per-group"`
	MaxSessions      int `mapstructure:"max-sessions"`
	MaxPending       int `mapstructure:"max-pending"`
	HandshakeRate    int `mapstructure:"handshake-rate"`
	STUNRate         int `mapstructure:"stun-rate"`
}

// define declares the flags; their names are also the keys of the file.
func define(f *pflag.FlagSet) {
	f.String("config", "", "YAML `file` with settings")
	f.String("listen", ":3478", "UDP `address` for peers and STUN; the same TCP port answers STUN too")
	f.String("stun-alternate", "", "UDP `address` of a second STUN port, by which peers classify their NAT, or off (default: the port after --listen's)")
	f.String("stun-other", off, "UDP `address` of a STUN socket on another IP address of this machine, by which peers learn how their NAT filters, or off")
	f.String("public-stun-other", "", "`IP:port` at which peers reach --stun-other (default: that address)")
	f.String("http", "127.0.0.1:9090", "TCP `address` of /metrics, /healthz and /readyz, or off")
	f.String("state-dir", "", "`directory` of keys and connection string (default: $STATE_DIRECTORY, else bradawl in the user's configuration directory)")
	f.String("public-addr", "", "`host:port` that the connection string names (default: the listen address, else this machine's)")
	f.String("public-ipv4", "", "`IP:port` at which peers that came by IPv6 reach this server by IPv4, or off (default: what --public-addr or the machine says, if that is public)")
	f.String("public-ipv6", "", "`IP:port` likewise of IPv6, or off")
	f.Duration("token-lifetime", 365*24*time.Hour, "how long the token of the connection string is valid")
	f.Duration("window", 500*time.Millisecond, "how far apart the first packets of two peers may be")
	f.Duration("attempt-timeout", 1500*time.Millisecond, "how long one attempt to connect two peers may take")
	f.Duration("drain-timeout", 5*time.Second, "how long to wait at the end for sessions on their way")
	f.String("log-level", "info", "debug, info, warn or error")
	f.String("log-format", "auto", "json, console, or auto: console on a terminal")
	f.Int("max-peers", 16384, "peers signed in at once")
	f.Int("max-groups", 4096, "groups at once")
	f.Int("max-peers-per-group", 4096, "peers of one group at once")
	f.Int("max-sessions", 262144, "unfinished sessions at once")
	f.Int("max-pending", 4096, "connections that are not signed in")
	f.Int("handshake-rate", 1000, "new connections per second from which on their source must be proven")
	f.Int("stun-rate", 200, "STUN requests per second answered to one address")
}

// load puts flags, environment and file together.
func load(v *viper.Viper, flags *pflag.FlagSet) (settings, error) {
	v.SetEnvPrefix("BRADAWL")
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	if err := v.BindPFlags(flags); err != nil {
		return settings{}, err
	}
	if file := v.GetString("config"); file != "" {
		if err := readFile(v, file, flags); err != nil {
			return settings{}, err
		}
	}
	var s settings
	if err := v.Unmarshal(&s); err != nil {
		return settings{}, fmt.Errorf("a setting has the wrong type: %s", strings.TrimSpace(
			strings.TrimPrefix(err.Error(), "decoding failed due to the following error(s):")))
	}
	return s, s.check()
}

// readFile reads the YAML file and refuses keys that are no settings, because a
// misspelt one would be ignored for ever.
func readFile(v *viper.Viper, file string, flags *pflag.FlagSet) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	defer func() { _ = f.Close() }()
	v.SetConfigType("yaml")
	if err := v.ReadConfig(f); err != nil {
		return fmt.Errorf("settings in %s are not YAML: %w", file, err)
	}
	var known []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" && f.Name != "help" && f.Name != "version" {
			known = append(known, f.Name)
		}
	})
	for _, key := range slices.Sorted(slices.Values(v.AllKeys())) {
		if v.InConfig(key) && !slices.Contains(known, key) || strings.Contains(key, ".") {
			hint := "known are " + strings.Join(known, ", ")
			if near := nearest(key, known); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			return fmt.Errorf("settings in %s: unknown key %q; %s", file, key, hint)
		}
	}
	return nil
}

// nearest finds the known word that differs least from a misspelt one; empty if none is near.
func nearest(word string, known []string) string {
	best, least := "", len(word)/2+1
	word = strings.ReplaceAll(strings.ToLower(word), "_", "-")
	for _, k := range known {
		if d := distance(word, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// check finds what is wrong with single settings.
func (s *settings) check() error {
	var level zapcore.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return fmt.Errorf("log-level is %q, must be debug, info, warn or error", s.LogLevel)
	}
	if !slices.Contains([]string{"json", "console", "auto"}, s.LogFormat) {
		return fmt.Errorf("log-format is %q, must be json, console or auto", s.LogFormat)
	}
	if s.Window <= 0 || s.Attempt <= 0 || s.Drain < 0 || s.TokenLifetime <= 0 {
		return errors.New("window, attempt-timeout and token-lifetime must be positive, drain-timeout not negative")
	}
	for name, n := range map[string]int{
		"max-peers": s.MaxPeers, "max-groups": s.MaxGroups, "max-peers-per-group": s.MaxPeersPerGroup,
		"max-sessions": s.MaxSessions, "max-pending": s.MaxPending, "handshake-rate": s.HandshakeRate, "stun-rate": s.STUNRate,
	} {
		if n <= 0 {
			return fmt.Errorf("%s is %d, must be at least 1", name, n)
		}
	}
	if s.STUNAlternate == "" {
		next, err := nextPort(s.Listen)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		s.STUNAlternate = next
	}
	for name, addr := range map[string]string{"listen": s.Listen, "stun-alternate": s.STUNAlternate, "http": s.HTTP} {
		if addr == off && name != "listen" {
			continue
		}
		if err := checkAddr(addr, 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := s.checkOther(); err != nil {
		return err
	}
	if s.PublicAddr != "" {
		if host, _, err := net.SplitHostPort(s.PublicAddr); err != nil || host == "" || checkAddr(s.PublicAddr, 1) != nil {
			return fmt.Errorf("public-addr is %q, must be HOST:PORT", s.PublicAddr)
		}
	}
	return s.checkFamilies()
}

// checkFamilies finds what is wrong with the addresses of the two families.
func (s *settings) checkFamilies() error {
	for _, f := range []struct {
		name, value string
		v4          bool
	}{{"public-ipv4", s.PublicIPv4, true}, {"public-ipv6", s.PublicIPv6, false}} {
		if f.value == "" || f.value == off {
			continue
		}
		a, err := netip.ParseAddrPort(f.value)
		if err != nil || a.Addr().IsUnspecified() || a.Port() == 0 || a.Addr().Unmap().Is4() != f.v4 {
			return fmt.Errorf("%s is %q, must be IP:PORT of that family, or off", f.name, f.value)
		}
	}
	return nil
}

// checkOther finds what is wrong with the STUN socket on another address.
func (s *settings) checkOther() error {
	if s.STUNOther == off {
		if s.PublicOther != "" {
			return errors.New("public-stun-other is set, but stun-other is off")
		}
		return nil
	}
	at, err := netip.ParseAddrPort(s.STUNOther)
	switch {
	case err != nil || at.Addr().IsUnspecified():
		return fmt.Errorf("stun-other is %q, must be IP:PORT of another address of this machine, or off", s.STUNOther)
	case s.PublicOther == "":
		return nil
	}
	if public, err := netip.ParseAddrPort(s.PublicOther); err != nil || public.Addr().IsUnspecified() || public.Port() == 0 {
		return fmt.Errorf("public-stun-other is %q, must be IP:PORT", s.PublicOther)
	}
	return nil
}

// otherAddr is where peers reach the STUN socket on another address; the zero value: at the socket's own.
func (s *settings) otherAddr() netip.AddrPort {
	a, _ := netip.ParseAddrPort(s.PublicOther) // checked; empty gives the zero value
	return a
}

func checkAddr(addr string, least uint64) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is no address, must be HOST:PORT or :PORT", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n < least {
		return fmt.Errorf("%q has port %q, must be %d to 65535", addr, port, least)
	}
	return nil
}

// nextPort is the address with the port one higher; 0, any port, stays 0.
func nextPort(addr string) (string, error) {
	if err := checkAddr(addr, 0); err != nil {
		return "", err
	}
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	if n != 0 {
		n++
	}
	if n > 65535 {
		return "", fmt.Errorf("%q leaves no port for stun-alternate; set that or switch it off", addr)
	}
	return net.JoinHostPort(host, strconv.Itoa(n)), nil
}
