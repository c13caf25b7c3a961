package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"coinop.dev/core/keys"
	"coinop.dev/world/generation"
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/file"
)

func keyCommand(u *ui) *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "key", Short: "Show where the machine's key is, or copy it to another home",
		Long: "A home of a key is a URI:\n" +
			"  file:/var/lib/coinop/key                      encrypted with COINOP_PASSPHRASE\n" +
			"  file:/var/lib/coinop/key?plain=1              bare, for the owner's eyes only\n" +
			"  env:NAME                                      hex or base64, put there by others\n" +
			"  tpm:/dev/tpmrm0?file=/var/lib/coinop/key.tpm  sealed to a TPM 2.0, which also counts starts\n" +
			"  pkcs11:token=site;object=coinop?...           wrapped by a key in a token",
	}
	c.PersistentFlags().StringVarP(&path, "config", "c", "coinop.toml", "the machine's TOML file")
	args := func(use string, low, high int) cobra.PositionalArgs {
		return func(c *cobra.Command, args []string) error {
			if len(args) < low || len(args) > high {
				return usage{fmt.Errorf("write coinop key %s", use)}
			}
			return nil
		}
	}
	show := "show [home]"
	c.AddCommand(&cobra.Command{
		Use: show, Short: "Print the public key, its home and the number of the last start; never the secret", Args: args(show, 0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				config.Key = args[0]
			}
			return u.showKey(config)
		},
	})
	cp := "copy [from] <to>"
	c.AddCommand(&cobra.Command{
		Use: cp, Short: "Copy the key to an empty home, with the number of the last start", Args: args(cp, 1, 2),
		Long: "Copies the key from one home (that of the config, unless two are given) to another, which must be empty, and reads it\n" +
			"back. The number of the last start goes along, so the machine starts with the new home as it did with the old one.\n" +
			"The old home keeps the key: when the config's key names the new one and the machine has started, delete it there.",
		Example: "  coinop key copy -c coinop.toml 'tpm:/dev/tpmrm0?file=/var/lib/coinop/key.tpm'",
		RunE: func(_ *cobra.Command, args []string) error {
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			to := args[len(args)-1]
			if len(args) == 2 {
				config.Key = args[0]
			}
			return u.copyKey(config, to)
		},
	})
	return c
}

// homeName is a home without its options, for people.
func (c *Config) homeName() string {
	if c.Key == "" {
		return "file:" + c.Data + "/key"
	}
	bare, _, _ := strings.Cut(c.Key, "?")
	if parsed, err := url.Parse(c.Key); err == nil {
		bare = secret.Name(parsed)
	}
	return bare
}

// A keyView is what people may see of a key.
type keyView struct {
	Node    keys.Public `json:"node"`
	Home    string      `json:"home"`
	Counter string      `json:"counter"` // where starts are counted
	Start   uint64      `json:"start"`   // the last one's number
	// Guarded tells that the home counts by itself.
	Guarded bool `json:"guarded"`
}

func (v keyView) text(w io.Writer) {
	fmt.Fprintf(w, "node     %v\nhome     %s\ncounter  %s at start %d\n", v.Node, v.Home, v.Counter, v.Start)
	if !v.Guarded {
		fmt.Fprintln(w, "         an old copy of the whole disk brings an old counter with it; a TPM or a token does not")
	}
}

func (c *Config) viewKey(home secret.Home, node keys.Public) (v keyView, counter generation.Counter, err error) {
	counter = c.Counter(home, node)
	v = keyView{Node: node, Home: c.homeName(), Counter: counter.String(), Guarded: home.Counter(node) != nil}
	v.Start, err = counter.Read()
	return v, counter, err
}

func (u *ui) showKey(c Config) error {
	if err := u.passphrase(c.Key, false); err != nil {
		return err
	}
	home, err := c.Home()
	if err != nil {
		return usage{err}
	}
	defer home.Close()
	key, err := readKey(home)
	if errors.Is(err, secret.ErrEmpty) {
		return exit{fmt.Errorf("%w; the machine makes one at its first start", err), exitNotFound}
	}
	if err != nil {
		return err
	}
	v, _, err := c.viewKey(home, key.Public())
	if err != nil {
		return err
	}
	return u.show(v, v.text)
}

func (u *ui) copyKey(c Config, uri string) error {
	for _, home := range []string{c.Key, uri} {
		if err := u.passphrase(home, home == uri); err != nil {
			return err
		}
	}
	from, err := c.Home()
	if err != nil {
		return usage{err}
	}
	defer from.Close()
	there := c
	there.Key = uri
	to, err := there.Home()
	if err != nil {
		return usage{err}
	}
	defer to.Close()
	key, err := readKey(from)
	if errors.Is(err, secret.ErrEmpty) {
		return exit{err, exitNotFound}
	}
	if err != nil {
		return err
	}
	_, counter, err := c.viewKey(from, key.Public())
	if err != nil {
		return err
	}
	if err := secret.Copy(to, from); err != nil {
		return err
	}
	v, next, err := there.viewKey(to, key.Public())
	if err != nil {
		return err
	}
	// Without the number the store would look as if it were ahead of its counter.
	if last, err := counter.Read(); err != nil {
		return err
	} else if last > v.Start {
		if err := next.Write(last); err != nil {
			return fmt.Errorf("the key is copied, and the number of the last start, %d, is not: %w", last, err)
		}
		v.Start = last
	}
	return u.show(v, func(w io.Writer) {
		v.text(w)
		fmt.Fprintf(w, "now write into the config: key = %q\n", uri)
	})
}

// passphrase asks a person for the passphrase of an encrypted file that there is none
// for: twice for a new one.
func (u *ui) passphrase(home string, fresh bool) error {
	h, err := url.Parse(home)
	if err != nil || h.Scheme != "file" || h.Query().Has("plain") || h.Query().Has("passphrase_file") ||
		os.Getenv(file.PassphraseEnv) != "" || os.Getenv(file.PassphraseEnv+"_FILE") != "" || !terminal(u.in) {
		return nil // the home says what is missing
	}
	ask := func(what string) (string, error) {
		fmt.Fprintf(u.err, "%s for %s: ", what, secret.Name(h))
		word, err := term.ReadPassword(int(u.in.(*os.File).Fd()))
		fmt.Fprintln(u.err)
		return string(word), err
	}
	word, err := ask("passphrase")
	if err != nil {
		return err
	}
	if fresh {
		again, err := ask("once more")
		if err != nil {
			return err
		}
		if word != again || word == "" {
			return usage{errors.New("the passphrases are empty or not the same; begin again")}
		}
	}
	// For this process only: its own homes read it there.
	return os.Setenv(file.PassphraseEnv, word)
}
