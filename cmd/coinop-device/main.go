// Coinop-device is coinop for a device that holds a key and nothing else: it pays
// through a gateway (docs/rails/bitcoin.md), whose every proposal it judges before
// it signs. It has no view of the chain, no config file and no page, so that it
// fits where the whole program does not.
//
//	coinop-device -data DIR -gateway KEY@HOST:PORT [-claim CODE] [limits] pay URI AMOUNT
//	coinop-device -data DIR -gateway KEY@HOST:PORT [-claim CODE] [limits] show
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/core/wallet"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/rail/bitcoinrail"
	"coinop.dev/world/generation"
	"coinop.dev/world/secret"
	"coinop.dev/world/secret/env"
	"coinop.dev/world/secret/file"
	"coinop.dev/world/store/bbolt"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "coinop-device:", err)
		os.Exit(code(err))
	}
}

// code tells whoever runs the program what may be done next, as coinop's exit
// codes do.
func code(err error) int {
	switch money.KindOf(err) {
	case money.Refused:
		return 6
	case money.Unpaid:
		return 5
	case money.Invalid:
		return 2
	}
	return 1
}

type options struct {
	data, key, gateway, claim, net    string
	perPayment, perDay, fee, patience string
	bip                               int
	order                             string
}

func run(ctx context.Context, args []string, out, problems io.Writer) error {
	var o options
	f := flag.NewFlagSet("coinop-device", flag.ContinueOnError)
	f.SetOutput(problems)
	f.StringVar(&o.data, "data", "coinop-device", "folder of the key and of what was consented to")
	f.StringVar(&o.key, "key", "", "home of the key, as file:/path?counter=/other/disk/starts or env:NAME (default the plain file key in -data)")
	f.StringVar(&o.gateway, "gateway", "", "the gateway, key@host:port")
	f.StringVar(&o.claim, "claim", "", "code that the gateway's operator gave out; needed once")
	f.StringVar(&o.net, "net", "regtest", "the chain: mainnet, testnet3, testnet4, signet or regtest")
	f.IntVar(&o.bip, "bip", 86, "kind of account: 84 (witness key hash) or 86 (taproot)")
	f.StringVar(&o.perPayment, "per-payment", "100000sat", "most that one payment may be")
	f.StringVar(&o.perDay, "per-day", "1000000sat", "most that may leave in 24 hours, fees included")
	f.StringVar(&o.fee, "max-fee", "20000sat", "most that one transaction may cost in fees")
	f.StringVar(&o.order, "order", "", "name of the payment: paid once under it (default a new one each time)")
	f.StringVar(&o.patience, "wait", "10m", "how long to wait until it is paid")
	if err := f.Parse(args); err != nil {
		return &money.Error{Kind: money.Invalid, Op: "start", Err: err}
	}
	if o.gateway == "" {
		return &money.Error{Kind: money.Invalid, Op: "start", Err: errors.New("name the gateway: -gateway KEY@HOST:PORT, as its operator shows it")}
	}
	wait, err := time.ParseDuration(o.patience)
	if err != nil {
		return &money.Error{Kind: money.Invalid, Op: "start", Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	d, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer d.close()
	switch f.Arg(0) {
	case "show":
		return d.show(ctx, out)
	case "pay":
		return d.pay(ctx, o, f.Arg(1), f.Arg(2), out)
	}
	return &money.Error{Kind: money.Invalid, Op: "start", Err: fmt.Errorf("%q is not a command: show and pay are", f.Arg(0))}
}

// device is a machine with a signer and its end of a gateway's wallet.
type device struct {
	m    *engine.Machine
	db   *bbolt.DB
	rail *rail.Rail
}

func open(ctx context.Context, o options) (d *device, err error) {
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		return nil, err
	}
	home, err := o.home()
	if err != nil {
		return nil, err
	}
	defer home.Close()
	key, err := secret.MachineKey(home, rand.Reader)
	if err != nil {
		return nil, err
	}
	d = &device{}
	if d.db, err = bbolt.Open(filepath.Join(o.data, "store")); err != nil {
		return nil, err
	}
	if counter := home.Counter(key.Public()); counter != nil {
		// An old copy of the disk ends here, before anything is signed.
		if _, err := generation.Begin(d.db, counter); err != nil {
			return nil, errors.Join(err, d.db.Close())
		}
	}
	d.m = engine.New(ctx, engine.Options{Key: key, DB: d.db})
	var registry rail.Registry
	registry.Register(bitcoinrail.Scheme, bitcoinrail.Driver{})
	uri := fmt.Sprintf("bitcoin://%s?net=%s&bip=%d&claim=%s&per_payment=%s&per_day=%s&max_fee=%s", o.gateway, o.net, o.bip, o.claim, o.perPayment, o.perDay, o.fee)
	if d.rail, err = registry.Open(ctx, uri, rail.Env{Machine: d.m}); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// home is where the key is.
func (o *options) home() (secret.Home, error) {
	if o.key == "" {
		return &file.Home{Path: filepath.Join(o.data, "key"), Plain: true}, nil
	}
	homes := secret.Registry{}
	homes.Register("file", file.OpenURL)
	homes.Register("env", env.OpenURL)
	return homes.Open(o.key)
}

func (d *device) close() {
	if d.rail != nil {
		d.rail.Close()
	}
	d.m.Close()
	d.db.Close()
}

// showPatience is how long the gateway may have nothing to show.
const showPatience = 10 * time.Second

// show prints what the gateway says of the account, which nothing proves, and an
// address that the device has made itself and compared.
func (d *device) show(ctx context.Context, out io.Writer) error {
	late := time.After(showPatience)
	for {
		v, err := d.m.Host.Ask(ctx, wallet.Name, "show", wallet.Peek{Ask: "show", Fresh: true})
		if err == nil {
			return json.NewEncoder(out).Encode(v)
		}
		select {
		case <-time.After(time.Second / 4): // a gateway that has just opened the account looks for its coins first
		case <-late:
			return err
		case <-ctx.Done():
			return err
		}
	}
}

func (d *device) pay(ctx context.Context, o options, to, amount string, out io.Writer) error {
	a, err := money.ParseAmount(amount)
	if err != nil {
		return &money.Error{Kind: money.Invalid, Op: "pay", Err: fmt.Errorf("write: pay URI AMOUNT: %w", err)}
	}
	order := money.Order{To: to, Amount: a}
	if o.order == "" {
		rand.Read(order.ID[:])
	} else {
		sum := sha256.Sum256([]byte(o.order))
		copy(order.ID[:], sum[:])
	}
	r, err := d.rail.Pay(ctx, order)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}
