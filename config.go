package coinop

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/offer"
	"coinop.dev/core/spend"
	"coinop.dev/rail"
	"coinop.dev/world/backup"
	"coinop.dev/world/generation"
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/file"
)

// Config is a machine's TOML file. An unknown key is an error that shows its
// line. COINOP_<SECTION>_<KEY> in the environment overrides a key (Environment).
type Config struct {
	Version int    `toml:"version"` // of this layout: 1
	Name    string `toml:"name"`
	Data    string `toml:"data"` // folder for the key and the store
	// Key is the URI of the home of the machine's key (world/secret): file:, env:,
	// tpm:, pkcs11:. Paths in it are best absolute. Default: the plain file key in
	// Data.
	Key    string `toml:"key"`
	Store  string `toml:"store"`  // URI; default bbolt in Data
	Chain  string `toml:"chain"`  // URI: p2p://host:port, regtest:?listen=host:port
	Listen string `toml:"listen"` // address for links; empty for a machine that only pays
	HTTP   string `toml:"http"`   // address of the local API; empty for none
	// Electrum and BCCAPI are addresses at which others may ask for what this
	// machine sees of the chain, in those protocols; empty for none.
	Electrum string `toml:"electrum"`
	BCCAPI   string `toml:"bccapi"`
	// Backup is the file that has what money in channels is restored from, with the
	// key, if the store is lost: best on another disk. Default: channels.backup in
	// Data.
	Backup string `toml:"backup"`
	// Generation is the file that counts starts, by which an old copy of the store
	// is recognised: where it is not put back together with the store. Default:
	// generation in Data. A home of the key that counts by itself takes its place.
	Generation string `toml:"generation"`
	// Mine is how often a regtest chain gets a block, such as 2s; empty for
	// only when asked.
	Mine   string    `toml:"mine"`
	Rails  []string  `toml:"rails"`
	Limits Limits    `toml:"limits"`
	Sell   []Service `toml:"sell"`
	Rates  []Rate    `toml:"rate"`
	Ledger Ledger    `toml:"ledger"`

	Gateway

	// AcceptStale starts with a store that may be an old copy. It comes from the
	// command line only: for one start.
	AcceptStale bool `toml:"-"`
}

const (
	configVersion = 1
	// MaxConfig bounds the file, in bytes.
	MaxConfig = 1 << 20
)

// ReadConfig reads path strictly, then the environment.
func ReadConfig(path string) (c Config, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, fmt.Errorf("config %s does not exist; name one with --config (%w)", path, fs.ErrNotExist)
	case err != nil:
		return c, fmt.Errorf("config: %w", err)
	case info.Size() > MaxConfig:
		return c, invalid(fmt.Errorf("config %s is %d bytes; the limit is %d", path, info.Size(), MaxConfig))
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("config: %w", err)
	}
	if c, err = ParseConfig(raw); err != nil {
		return c, invalid(fmt.Errorf("config %s: %w", path, err))
	}
	if err := c.Environment(os.LookupEnv); err != nil {
		return c, invalid(err)
	}
	for _, p := range []*string{&c.Data, &c.Backup, &c.Generation, &c.Ledger.Lattice.Network, &c.Ledger.Tangle.Network} {
		if *p == "" || filepath.IsAbs(*p) {
			continue
		}
		if *p, err = filepath.Abs(filepath.Join(filepath.Dir(path), *p)); err != nil { // it is beside the file
			return c, fmt.Errorf("config: %w", err)
		}
	}
	if err := c.Check(); err != nil {
		return c, invalid(fmt.Errorf("config %s: %w", path, err))
	}
	return c, nil
}

// ParseConfig reads a TOML file strictly.
func ParseConfig(raw []byte) (c Config, err error) {
	err = toml.NewDecoder(bytes.NewReader(raw)).DisallowUnknownFields().Decode(&c)
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		for _, e := range unknown.Errors {
			if near := nearKeys(strings.Join(e.Key(), ".")); len(near) > 0 {
				return c, fmt.Errorf("unknown key; is it %s?\n%s", strings.Join(near, ", or "), unknown.String())
			}
		}
		return c, fmt.Errorf("unknown key\n%s", unknown.String())
	case errors.As(err, &bad):
		row, _ := bad.Position()
		return c, fmt.Errorf("line %d: %w\n%s", row, err, bad.String())
	}
	return c, err
}

// Check reports what is wrong with a config.
func (c *Config) Check() error {
	if c.Version != configVersion {
		return fmt.Errorf("version is %d; this build reads version %d", c.Version, configVersion)
	}
	if c.Data == "" {
		return errors.New("data is missing; name a folder for the key and the store")
	}
	for _, uri := range c.Rails {
		if _, err := rail.Default.Parse(uri); err != nil {
			return err
		}
	}
	for _, s := range c.Sell {
		if _, err := s.service(); err != nil {
			return err
		}
	}
	for _, r := range c.Rates {
		if err := r.source().Check(); err != nil {
			return err
		}
	}
	if c.Chain != "" {
		if _, err := url.Parse(c.Chain); err != nil {
			return fmt.Errorf("chain: %w", err)
		}
	}
	return nil
}

// SpendLimits are those of the purse.
func (c *Config) SpendLimits() spend.Limits {
	l := c.Limits
	return spend.Limits{Order: l.Order, UnitPrice: l.UnitPrice, Total: l.Total, Payee: l.Payee, Period: l.Period, PerMinute: l.PerMinute}
}

// Services is what the machine sells.
func (c *Config) Services() (all []offer.Service) {
	for _, s := range c.Sell {
		if v, err := s.service(); err == nil {
			all = append(all, v)
		}
	}
	return all
}

// BackupFile is where channels are backed up.
func (c *Config) BackupFile() backup.File {
	if c.Backup != "" {
		return backup.File(c.Backup)
	}
	return backup.File(filepath.Join(c.Data, "channels.backup"))
}

// Home is where the machine's key is.
func (c *Config) Home() (secret.Home, error) {
	if c.Key == "" {
		return &file.Home{Path: filepath.Join(c.Data, "key"), Plain: true}, nil
	}
	return secret.Default.Open(c.Key)
}

// LoadKey is the machine's key, for who needs no more of its home.
func (c *Config) LoadKey() (keys.Secret, error) {
	home, err := c.Home()
	if err != nil {
		return keys.Secret{}, err
	}
	defer home.Close()
	return secret.MachineKey(home, rand.Reader)
}

// Counter counts the starts of the machine with a key: where the key is, if that
// counts, or else in a file.
func (c *Config) Counter(home secret.Home, node keys.Public) generation.Counter {
	if own := home.Counter(node); own != nil {
		return own
	}
	path := c.Generation
	if path == "" {
		path = filepath.Join(c.Data, "generation")
	}
	return generation.File{Path: path, Node: node}
}

// Remembers reports whether the store outlives the process.
func (c *Config) Remembers() bool { return !strings.HasPrefix(c.StoreURI(), "mem:") }

// StoreURI names the store.
func (c *Config) StoreURI() string {
	if c.Store != "" {
		return c.Store
	}
	data := c.Data
	if whole, err := filepath.Abs(data); err == nil {
		data = whole // or its first folder would be a host
	}
	return "bbolt://" + filepath.ToSlash(filepath.Join(data, "state"))
}
