//go:build !omit_gateway

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/world/chain"
	"coinop.dev/world/store"
)

// outfit is what device commission is asked for.
type outfit struct {
	config                string
	name, to              string
	capacity, coin, every string
	life                  int32
	rate                  float64 // sat/vB
	key, out, header      string  // files
	timeout               time.Duration

	wrote []string
}

// commission adds the command that opens the channels of a microcontroller.
func (f *family) commission() {
	var o outfit
	c := &cobra.Command{
		Use: "commission <name>", Short: "Open the channels of a microcontroller, with money of the wallet, and write what it starts from",
		Long: `A microcontroller (sdk/c) has no chain to look at, so its channels are opened for it: in its
name, with money of this config's wallet, which must not be running. It writes

  the blob that the device starts from (--out), or its blob and its key as C (--header);
  a new key into the file of --key, unless there is one already;
  NAME.refund beside it: a signed transaction that brings back what is in the channel
  from the block on that it names, if the gateway has not closed the channel by then.

Nothing else keeps the key: burn it into the device and delete the file. The files are there
before any money moves; if waiting for the gateway is given up the device goes on by itself.`,
		Example: "  coinop device commission meter-7 -c operator.toml --to oneway://02ab…@203.0.113.7:9736 \\\n" +
			"    --capacity 20000sat --coin 1sat --every 200sat --out meter-7.blob\n" +
			"  coinop device add meter-7 --key 03cd…          # at the gateway, with the key that this prints",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage{errors.New("write " + c.CommandPath() + " <name>")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name, o.config = args[0], f.path
			return o.run(cmd.Context(), f.u)
		},
	}
	v := c.Flags()
	v.StringVar(&o.to, "to", "", "the gateway: oneway://<key>@<host>:<port>")
	v.StringVar(&o.capacity, "capacity", "20000sat", "how much the device can pay in all")
	v.StringVar(&o.coin, "coin", "", "what a hash-chain coin is worth, such as 1sat; without, it pays by signed tickets only")
	v.StringVar(&o.every, "every", "", "settle coins by so much (default a hundred coins)")
	v.Int32Var(&o.life, "life", coinop.LongLife, "blocks until the money can come back")
	v.Float64Var(&o.rate, "fee-rate", 1, "sat/vB, of the funding and of the closing")
	v.StringVar(&o.key, "key", "", "file of the device's key in hex; made if it is not there (default beside the blob)")
	v.StringVar(&o.out, "out", "", "where the blob goes")
	v.StringVar(&o.header, "header", "", "where the blob and the key go as a C header")
	v.DurationVar(&o.timeout, "timeout", 3*time.Hour, "give up waiting for confirmations after this long")
	f.AddCommand(c)
}

// order reads what was written.
func (o *outfit) order() (c coinop.Commission, err error) {
	c = coinop.Commission{Name: o.name, To: o.to, Life: o.life, FeeRate: tx.FeeRate(o.rate * 1000)}
	if (o.out == "") == (o.header == "") {
		return c, errors.New("write one of --out and --header")
	}
	if c.Capacity, err = money.ParseAmount(o.capacity); err != nil {
		return c, fmt.Errorf("--capacity: %w", err)
	}
	if o.coin == "" {
		return c, nil
	}
	if c.Coin, err = money.ParseAmount(o.coin); err != nil {
		return c, fmt.Errorf("--coin: %w", err)
	}
	c.Every = 100 * c.Coin
	if o.every != "" {
		if c.Every, err = money.ParseAmount(o.every); err != nil {
			return c, fmt.Errorf("--every: %w", err)
		}
	}
	return c, nil
}

func (o *outfit) run(ctx context.Context, u *ui) error {
	order, err := o.order()
	if err != nil {
		return usage{err}
	}
	config, err := readConfig(o.config)
	if err != nil {
		return err
	}
	config.Listen = "" // it is not to be paid now
	s, err := openStation(context.WithoutCancel(ctx), config, nil, u.log(config.Name))
	if errors.Is(err, store.ErrLocked) {
		return exit{fmt.Errorf("%w; stop the machine, or pay for the device from another one", err), exitConnect}
	}
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, stop := context.WithTimeout(ctx, o.timeout)
	defer stop()
	if err := s.synced(ctx); err != nil {
		return exit{err, exitConnect}
	}
	if order.Key, err = o.deviceKey(); err != nil {
		return err
	}
	saved := false
	order.Save = func(c coinop.Commissioned) error {
		err := o.write(order.Key, c)
		saved = err == nil
		return err
	}
	c, err := s.Commission(ctx, order)
	if err != nil && (!saved || errors.Is(err, chain.ErrRefused)) { // no money has moved
		for _, path := range o.wrote {
			os.Remove(path)
		}
		if errors.Is(err, tx.ErrFunds) {
			err = fmt.Errorf("%w; pay some to %s", err, walletAddress(s.Wallet().Public()))
		}
		return err
	}
	if err != nil {
		err = fmt.Errorf("%w; the files are good, and when the funding is confirmed the device opens the channel itself", err)
	}
	return errors.Join(u.show(o.report(c, err == nil), func(w io.Writer) {
		fmt.Fprintf(w, "%s pays with up to %v, until block %d; the funding is %v\n", o.name, c.Blob.Tickets.Capacity, c.Expiry, c.Funding.TxHash())
		fmt.Fprintf(w, "written: %s\n", strings.Join(o.wrote, ", "))
		fmt.Fprintf(w, "At the gateway: coinop device add %s --key %v\n", o.name, c.Device)
	}), err)
}

func (o *outfit) report(c coinop.Commissioned, ready bool) map[string]any {
	return map[string]any{
		"device": o.name, "key": c.Device, "capacity_msat": c.Blob.Tickets.Capacity, "expiry": c.Expiry,
		"funding": c.Funding.TxHash().String(), "files": o.wrote, "ready": ready,
	}
}

// base is what the files beside the blob or the header are called.
func (o *outfit) base() string {
	path := o.out + o.header
	return strings.TrimSuffix(path, filepath.Ext(path))
}

// deviceKey reads the device's key, or makes one. A header has it, so a new one
// needs no file of its own then.
func (o *outfit) deviceKey() (key keys.Secret, err error) {
	path := o.key
	if path == "" && o.out != "" {
		path = o.base() + ".key"
	}
	raw, err := os.ReadFile(path)
	switch {
	case path != "" && err == nil:
		b, err := hex.DecodeString(string(bytes.TrimSpace(raw)))
		if err == nil {
			key, err = keys.SecretFromBytes(b)
		}
		if err != nil {
			err = usage{fmt.Errorf("%s has no key: 64 hex digits", path)}
		}
		return key, err
	case path != "" && !errors.Is(err, fs.ErrNotExist):
		return key, err
	}
	if key, err = keys.NewSecret(rand.Reader); err != nil || path == "" {
		return key, err
	}
	return key, o.save(path, fmt.Appendf(nil, "%x\n", key.Reveal()))
}

// write writes what the device starts from, and what its owner keeps.
func (o *outfit) write(key keys.Secret, c coinop.Commissioned) error {
	blob, path := c.Blob.Append(nil), o.out
	if o.header != "" {
		var b bytes.Buffer
		fmt.Fprintf(&b, "/* %s, for coinop_start. It has the device's key: burn it, and delete this file. */\n#include <stdint.h>\n\n", o.name)
		array(&b, "coinop_key", key.Reveal())
		array(&b, "coinop_blob", blob)
		blob, path = b.Bytes(), o.header
	}
	if err := o.save(path, blob); err != nil {
		return err
	}
	var raw bytes.Buffer
	if err := c.Refund.Serialize(&raw); err != nil {
		return err
	}
	text := fmt.Appendf(nil, "# The refund of %s: lock time %d. Any node takes it once that block is there (sendrawtransaction),\n"+
		"# if the gateway has not closed the channel by then. It pays %d sat to the wallet that funded it.\n%x\n",
		o.name, c.Refund.LockTime, c.Refund.TxOut[0].Value, raw.Bytes())
	return o.save(o.base()+".refund", text)
}

// save writes a file that only its owner may read, and on no other.
func (o *outfit) save(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	o.wrote = append(o.wrote, path)
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// array writes bytes as C has them.
func array(w io.Writer, name string, b []byte) {
	fmt.Fprintf(w, "static const uint8_t %s[%d] = {", name, len(b))
	for i, v := range b {
		if i%16 == 0 {
			fmt.Fprint(w, "\n   ")
		}
		fmt.Fprintf(w, " 0x%02x,", v)
	}
	fmt.Fprint(w, "\n};\n")
}
