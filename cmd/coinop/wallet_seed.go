//go:build !omit_bitcoin

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"coinop.dev"
	"github.com/pelletier/go-toml/v2"

	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/wallet"
	"coinop.dev/rail"
	"coinop.dev/world/chain"
	"coinop.dev/world/secret"
	"coinop.dev/world/store"
)

// A keeping says where a wallet's seed is and what is made of it. It is the file
// wallet.toml in Data, and holds for every bitcoin rail of the config that names no
// seed itself.
type keeping struct {
	Seed  string `toml:"seed" json:"seed"`   // URI of its home
	BIP   int    `toml:"bip" json:"bip"`     // the kind of account
	Since int32  `toml:"since" json:"since"` // no block below it matters
	// Ahead is how many addresses are looked for beyond those with money, until
	// that is done once after a restore.
	Ahead int `toml:"ahead,omitempty" json:"-"`
}

// restoreAhead is Ahead of a restored wallet. The chain tells of coins that are
// there, so addresses that were paid and emptied look as if they had not been used:
// more of them in a row than this hide what comes after.
const restoreAhead = 1000

func (c *Config) keepingPath() string { return filepath.Join(c.Data, "wallet.toml") }

// keeping reads the file; without one the wallet's seed comes of the machine's key.
func (c *Config) keeping() (k keeping, found bool, err error) {
	raw, err := os.ReadFile(c.keepingPath())
	if errors.Is(err, fs.ErrNotExist) {
		return k, false, nil
	}
	if err == nil {
		err = toml.NewDecoder(bytes.NewReader(raw)).DisallowUnknownFields().Decode(&k)
	}
	if err == nil && (k.Seed == "" || k.BIP == 0) {
		err = errors.New("seed or bip is missing; put the file back, or remove it and restore the wallet from its words")
	}
	if err != nil {
		return k, false, fmt.Errorf("%s: %w", c.keepingPath(), err)
	}
	return k, true, nil
}

// seeded adds the wallet's seed to the URI of a bitcoin rail that names none.
func (c *Config) seeded(uri string) (string, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != walletScheme {
		return uri, nil // the rails' to judge
	}
	q := u.Query()
	k, found, err := c.keeping()
	if err != nil || !found || q.Has("seed") {
		return uri, err
	}
	q.Set("seed", k.Seed)
	if !q.Has("bip") {
		q.Set("bip", strconv.Itoa(k.BIP))
	}
	if k.Ahead > 0 && !q.Has("ahead") {
		q.Set("ahead", strconv.Itoa(k.Ahead))
	}
	if !q.Has("since") {
		q.Set("since", strconv.Itoa(int(k.Since)))
	}
	bare, _, _ := strings.Cut(uri, "?")
	uri = bare + "?" + q.Encode()
	if _, err := rail.Default.Parse(uri); err != nil {
		return "", fmt.Errorf("with the seed of %s: %w", c.keepingPath(), err)
	}
	return uri, nil
}

// newWallet is what create and restore are asked for.
type newWallet struct {
	words   int
	seed    string
	bip     int
	since   int32 // -1: not said
	timeout time.Duration
}

// free fails if the machine has a wallet, or a seed would have no place.
func (c *Config) free(n *newWallet) error {
	if _, found, err := c.keeping(); err != nil {
		return err
	} else if found {
		return exit{fmt.Errorf("there is a wallet already, says %s; a second one needs a config with another data folder", c.keepingPath()), exitRefused}
	}
	if n.seed == "" {
		n.seed = (&url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(c.Data, "seed")), OmitHost: true}).String()
	}
	db, err := store.Default.Open(c.StoreURI())
	if err != nil {
		return stopFirst(err)
	}
	defer db.Close()
	accounts, err := wallet.Accounts(db)
	if err == nil && len(accounts) > 0 {
		err = exit{fmt.Errorf("the machine has used a wallet whose seed comes of its key (account %s); send its money away, then use a config with another data folder", strings.Join(accounts, ", ")), exitRefused}
	}
	return err
}

// install stores a seed and makes it the machine's. The file that says so comes
// last, when ready has done what must come before.
func (c *Config) install(seed mnemonic.Seed, k keeping, ready func() error) error {
	home, err := secret.Default.Open(k.Seed)
	if err != nil {
		return usage{err}
	}
	defer home.Close()
	raw := seed.Reveal()
	defer clear(raw)
	kept, err := secret.NewSeed(raw)
	if err != nil {
		return err
	}
	defer kept.Wipe()
	if err := c.storeSeed(home, kept); err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	text, err := toml.Marshal(k)
	if err != nil {
		return err
	}
	return secret.Create(c.keepingPath(), text)
}

// restored notes that all addresses of a restored wallet were looked for.
func (c *Config) restored() error {
	k, found, err := c.keeping()
	if err != nil || !found || k.Ahead == 0 {
		return err
	}
	k.Ahead = 0
	text, err := toml.Marshal(k)
	if err != nil {
		return err
	}
	return store.Replace(c.keepingPath(), text)
}

// storeSeed stores a seed, unless it is there from an attempt that was cut off.
func (c *Config) storeSeed(home secret.Home, seed secret.Seed) error {
	err := home.Store(seed)
	if !errors.Is(err, secret.ErrFull) {
		return err
	}
	have, failed := home.Load()
	if failed != nil || !have.Equal(seed) {
		return exit{err, exitRefused}
	}
	have.Wipe()
	return nil
}

const phraseWarning = "These words are the money: whoever has them has it, and they are shown only now. Copy them to paper, not to a\n" +
	"computer, and keep the paper where the machine is not."

// createWallet draws a new seed.
func (u *ui) createWallet(ctx context.Context, c Config, n newWallet) error {
	if err := c.free(&n); err != nil {
		return err
	}
	if err := u.passphrase(n.seed, true); err != nil {
		return err
	}
	if n.since < 0 {
		n.since = u.birthday(ctx, c, n.timeout)
	}
	entropy := make([]byte, n.words*4/3)
	defer clear(entropy)
	if _, err := rand.Read(entropy); err != nil {
		return err
	}
	phrase, err := mnemonic.New(entropy)
	if err != nil {
		return err
	}
	seed, err := mnemonic.ToSeed(phrase, "")
	if err != nil {
		return err
	}
	k := keeping{Seed: n.seed, BIP: n.bip, Since: n.since}
	err = c.install(seed, k, func() error {
		fmt.Fprintln(u.err, phraseWarning)
		return u.show(struct {
			Phrase string `json:"phrase"`
			keeping
		}{phrase, k}, func(w io.Writer) { numbered(w, phrase) })
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(u.err, "The seed is at %s; %s says that the config's wallet uses it, from block %d on.\n", bareURI(k.Seed), c.keepingPath(), k.Since)
	return nil
}

func bareURI(uri string) string {
	bare, _, _ := strings.Cut(uri, "?")
	return bare
}

// numbered writes a phrase as people copy it.
func numbered(w io.Writer, phrase string) {
	for i, word := range strings.Fields(phrase) {
		end := "\n"
		if i%4 < 3 {
			end = ""
		}
		fmt.Fprintf(w, "%3d %-10s%s", i+1, word, end)
	}
}

// birthdayMargin is how many blocks before the tip a new wallet is looked for: a
// reorganisation may bring a payment into a lower block.
const birthdayMargin = 6

// birthday is the block before which a wallet that is made now cannot be paid: 0 if
// the chain is not seen in time.
func (u *ui) birthday(ctx context.Context, c Config, patience time.Duration) int32 {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	source, err := chain.Default.Open(ctx, c.Chain)
	if err == nil {
		defer source.Close()
		view := &station{Machine: &coinop.Machine{Chain: source}, Config: c}
		if err = view.synced(ctx); err == nil {
			var height int32
			if height, _, err = source.Tip(ctx); err == nil {
				return max(height-birthdayMargin, 0)
			}
		}
	}
	fmt.Fprintf(u.err, "The chain is not seen (%v), so the wallet will be looked for from block 0 on; --since says better.\n", err)
	return 0
}

// restoreWallet takes the words from standard input.
func (u *ui) restoreWallet(ctx context.Context, c Config, n newWallet) error {
	if err := c.free(&n); err != nil {
		return err
	}
	phrase, err := u.readPhrase()
	if err != nil {
		return err
	}
	seed, err := mnemonic.ToSeed(phrase, "")
	if err != nil {
		return usage{err}
	}
	if n.since < 0 {
		if n.since, err = u.askSince(); err != nil {
			return err
		}
	}
	if err := u.passphrase(n.seed, true); err != nil {
		return err
	}
	if err := c.install(seed, keeping{Seed: n.seed, BIP: n.bip, Since: n.since, Ahead: restoreAhead}, func() error { return nil }); err != nil {
		return err
	}
	return u.balance(ctx, c, n.timeout, func(s wallet.Summary) {
		found := false
		for _, a := range s.Accounts {
			found = found || a.Coins > 0
		}
		if !found {
			fmt.Fprintf(u.err, "Nothing was found from block %d on in accounts of BIP %d. If there should be money, restore into another data folder\nwith an earlier --since or another --bip.\n", n.since, n.bip)
		}
	})
}

// maxWords is how many words a phrase has at most.
const maxWords = 24

// readPhrase reads words until the input ends; a person ends with an empty line, and
// is told of a word that is wrong as soon as it is typed.
func (u *ui) readPhrase() (string, error) {
	person := terminal(u.in)
	if person {
		fmt.Fprintln(u.err, "Type the words, several on a line if you like, and then an empty line.")
	}
	var words []string
	for len(words) <= maxWords {
		text, err := u.line()
		if errors.Is(err, io.EOF) || person && text == "" {
			break
		}
		if err != nil {
			return "", err
		}
		for word := range strings.FieldsSeq(text) {
			if err := mnemonic.CheckWord(word, len(words)+1); err != nil {
				if !person {
					return "", usage{err}
				}
				fmt.Fprintf(u.err, "%v; go on with that word\n", err)
				break
			}
			words = append(words, word)
		}
	}
	phrase := strings.Join(words, " ")
	if err := mnemonic.Check(phrase); err != nil {
		return "", usage{err}
	}
	return phrase, nil
}

// askSince asks a person where the wallet begins.
func (u *ui) askSince() (int32, error) {
	if !terminal(u.in) {
		return 0, nil
	}
	fmt.Fprint(u.err, "The block before which the wallet was not paid (Enter: look through all): ")
	text, err := u.line()
	if err != nil || text == "" {
		return 0, err
	}
	height, err := strconv.ParseInt(text, 10, 31)
	if err != nil || height < 0 {
		return 0, usage{fmt.Errorf("%.20q is not the height of a block", text)}
	}
	return int32(height), nil
}

// line reads one line of a person's, byte by byte, so that nothing of the next is
// lost.
func (u *ui) line() (string, error) {
	var text []byte
	for b := make([]byte, 1); len(text) < mnemonic.MaxText; {
		n, err := u.in.Read(b)
		if n == 1 && b[0] == '\n' || err != nil && len(text) > 0 {
			break
		}
		if err != nil {
			return "", err
		}
		text = append(text, b[:n]...)
	}
	return strings.TrimSpace(string(text)), nil
}

// stopFirst says what to do about a store that is in use.
func stopFirst(err error) error {
	if errors.Is(err, store.ErrLocked) {
		return exit{fmt.Errorf("%w: stop coinop serve first", err), exitConnect}
	}
	return err
}
