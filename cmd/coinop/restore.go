package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/spf13/cobra"

	"coinop.dev/core/keys"
	core "coinop.dev/core/lightning/backup"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/step"
	"coinop.dev/world/backup"
	"coinop.dev/world/generation"
	"coinop.dev/world/secret"
	"coinop.dev/world/store"
)

func restoreCommand(u *ui) *cobra.Command {
	var path, from string
	var drill bool
	c := &cobra.Command{
		Use: "restore", Short: "Get the money in channels back from a backup and the key", Args: noArgs,
		Long: "Puts the channels of a backup into an empty store. At the next start the machine asks each peer to close, and takes\n" +
			"its balance from what the peer publishes; it publishes no channel state itself, so an old backup does no harm.\n" +
			"With --drill it only says what would come of it, and changes nothing: exit code 0 if all of it would be restored.",
		Example: "  coinop restore -c seller.toml --from /mnt/usb/channels.backup --drill\n  coinop restore -c seller.toml --from /mnt/usb/channels.backup",
		RunE: func(*cobra.Command, []string) error {
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			if from == "" {
				from = string(config.BackupFile())
			}
			return u.restore(config, backup.File(from), drill)
		},
	}
	configFlag(c, &path)
	c.Flags().StringVar(&from, "from", "", "the backup file (default the one that the config names)")
	c.Flags().BoolVar(&drill, "drill", false, "change nothing, and say what would be restored")
	return c
}

// A recovery is what a backup promises of one channel.
type recovery struct {
	Index    uint64      `json:"index"`
	Peer     keys.Public `json:"peer"`
	Address  string      `json:"address"`
	Funding  string      `json:"funding"`
	Capacity int64       `json:"capacity_sat"`
	Type     string      `json:"type"`
	Opener   string      `json:"opener"`
	Payout   string      `json:"payout"`
	// Problem is why the channel cannot be restored, or not found again.
	Problem string `json:"problem,omitempty"`
	// Note is what its owner should know.
	Note string `json:"note,omitempty"`
}

// restoration is the whole answer.
type restoration struct {
	From     string     `json:"from"`
	Drill    bool       `json:"drill"`
	Change   uint64     `json:"change"`
	Start    uint64     `json:"start"`
	Chain    string     `json:"chain"`
	Part     bool       `json:"part"`
	Channels []recovery `json:"channels"`
	Capacity int64      `json:"capacity_sat"`
	OK       bool       `json:"ok"`
}

func (u *ui) restore(c Config, from backup.File, drill bool) error {
	home, key, err := c.haveKey()
	if err != nil {
		return err
	}
	defer home.Close()
	sealed, err := from.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return exit{err, exitNotFound}
	}
	if err != nil {
		return err
	}
	b, err := core.Open(key, sealed)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	r := rehearse(b, key)
	r.From, r.Drill = string(from), drill
	if !drill {
		if err := putBack(c, c.Counter(home, key.Public()), key, b, sealed); err != nil {
			return err
		}
	}
	if err := u.show(r, r.text); err != nil {
		return err
	}
	if !r.OK {
		return errors.New("not all of the backup can be restored; the problems are named above")
	}
	return nil
}

// haveKey loads the machine's key. To restore without it is not possible, so
// unlike machineKey it never makes one. The caller closes the home.
func (c *Config) haveKey() (secret.Home, keys.Secret, error) {
	home, err := c.Home()
	if err != nil {
		return nil, keys.Secret{}, err
	}
	key, err := readKey(home)
	if errors.Is(err, secret.ErrEmpty) {
		err = exit{fmt.Errorf("%w; put the machine's key there first, nothing else opens a backup", err), exitNotFound}
	}
	if err != nil {
		return nil, key, errors.Join(err, home.Close())
	}
	return home, key, nil
}

// readKey loads a key and never makes one.
func readKey(home secret.Home) (keys.Secret, error) {
	seed, err := home.Load()
	if err != nil {
		return keys.Secret{}, err
	}
	defer seed.Wipe()
	return seed.Key()
}

// rehearse restores each channel in memory.
func rehearse(b *core.Backup, key keys.Secret) (r restoration) {
	r = restoration{Change: b.Change, Start: b.Generation, Chain: chainName(b.Chain), Part: b.Part, OK: true, Channels: []recovery{}}
	for i := range b.Channels {
		k := &b.Channels[i]
		v := recovery{
			Index: k.Index, Peer: k.Peer, Address: k.Address, Funding: k.Point(), Capacity: k.Commit.Capacity,
			Type: k.Commit.Type.String(), Opener: k.Commit.Opener.String(), Payout: payoutAddress(k.Payout, b.Chain),
		}
		_, err := channel.Restore(k, node.ChannelSecret(key, k.Index))
		if err == nil && k.Address != "" {
			_, err = wire.ParseAddress(k.Address)
		}
		switch {
		case err != nil:
			v.Problem = err.Error()
			r.OK = false
		case k.Address == "":
			v.Note = "no address of the peer is known; it must connect to this machine, or be looked up by its key"
		}
		r.Capacity += k.Commit.Capacity
		r.Channels = append(r.Channels, v)
	}
	return r
}

func (r restoration) text(w io.Writer) {
	verb := "restored"
	if r.Drill {
		verb = "would be restored"
	}
	fmt.Fprintf(w, "backup   %s: change %d, made in start %d, on %s\n", r.From, r.Change, r.Start, r.Chain)
	for _, c := range r.Channels {
		address := c.Address
		if address == "" {
			address = "?"
		}
		fmt.Fprintf(w, "channel  %s of %d sat (%s, opened by %s)\n  peer   %v@%s\n  to     %s\n", c.Funding, c.Capacity, c.Type, map[string]string{"local": "us", "remote": "the peer"}[c.Opener], c.Peer, address, c.Payout)
		if c.Problem+c.Note != "" {
			fmt.Fprintf(w, "  %s\n", c.Problem+c.Note)
		}
	}
	if r.Part {
		fmt.Fprintln(w, "this is a part of a backup, as peers keep them; others have the rest")
	}
	fmt.Fprintf(w, "%d channels of %d sat together %s: of each, our balance when the peer closes\n", len(r.Channels), r.Capacity, verb)
}

// putBack writes the channels into the store, which must have none.
func putBack(c Config, counter generation.Counter, key keys.Secret, b *core.Backup, sealed []byte) (err error) {
	if !c.Remembers() {
		return usage{fmt.Errorf("store %s is forgotten when the command ends; name one on disk", c.StoreURI())}
	}
	db, err := store.Default.Open(c.StoreURI())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	n, err := node.Load(db, key, node.Config{Chain: b.Chain})
	if err != nil {
		return err
	}
	fx := n.Step(step.Input{Events: []any{node.Restore{Sealed: sealed}}})
	for _, d := range fx.Done {
		if d.ID == node.RestoreID && d.Value == nil {
			return d.Err
		}
	}
	// The start first: a store that is empty and counted is restored again.
	if _, err := generation.Accept(db, counter, b.Generation); err != nil {
		return err
	}
	return db.Commit(fx.Put)
}

var chains = []*chaincfg.Params{&chaincfg.MainNetParams, &chaincfg.TestNet3Params, &chaincfg.SigNetParams, &chaincfg.RegressionNetParams, &chaincfg.SimNetParams}

func chainName(genesis chainhash.Hash) string {
	for _, p := range chains {
		if *p.GenesisHash == genesis {
			return p.Name
		}
	}
	return genesis.String()
}

// payoutAddress is a script as an address of a chain, or in hex.
func payoutAddress(script []byte, genesis chainhash.Hash) string {
	for _, p := range chains {
		if *p.GenesisHash != genesis {
			continue
		}
		if _, list, _, err := txscript.ExtractPkScriptAddrs(script, p); err == nil && len(list) == 1 {
			return list[0].EncodeAddress()
		}
	}
	return hex.EncodeToString(script)
}
