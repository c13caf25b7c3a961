package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coinop.dev"
	"coinop.dev/world/store"
)

func (d *doctor) checkConfig(context.Context) []finding {
	var all []finding
	if len(d.Rails) == 0 {
		all = append(all, finding{"config", bad, "it has no rails, so the machine can neither pay nor be paid", `coinop config set rails "oneway: lightning:"; docs/rails says what each is for`})
	}
	if len(d.Sell) == 0 {
		all = append(all, finding{"config", odd, "it sells nothing", "add a [[sell]] table; coinop config schema --toml has one to copy"})
	}
	if d.Listen == "" && !d.Doors() && len(d.Sell) > 0 {
		all = append(all, finding{"config", bad, "it sells, and no buyer can reach it: there is no listen, http, mqtt, coap or serial", `coinop config set http 127.0.0.1:8402`})
	}
	return only("config", d.path+" is understood", all...)
}

// checkEnvironment finds variables that look like ours, and are read by nobody.
func (d *doctor) checkEnvironment(context.Context) []finding {
	known := map[string]bool{ // and these are no keys
		"COINOP_KEY": true, "COINOP_PASSPHRASE": true, "COINOP_PASSPHRASE_FILE": true, "COINOP_SEED": true, "COINOP_CHAIN_AUTH": true,
	}
	for _, k := range coinop.Keys() {
		if env := k.Env(); env != "" {
			known[env], known[env+"_FILE"] = true, true
		}
	}
	var all []finding
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "COINOP_") && !strings.HasPrefix(name, "COINOP_TEST_") && !known[name] {
			all = append(all, finding{"environment", odd, name + " is set, and is no key of a config", "coinop config schema names the variables, as x-env"})
		}
	}
	return only("environment", "", all...)
}

// checkFiles looks at who may read what is secret.
func (d *doctor) checkFiles(context.Context) []finding {
	info, err := os.Stat(d.Data)
	if errors.Is(err, os.ErrNotExist) {
		return []finding{{"files", odd, d.Data + " is not there yet; the first start makes it, with a new key", "if this machine had money, its folder is lost or not mounted: do not start it; see coinop restore --help"}}
	}
	if err != nil {
		return []finding{{"files", bad, err.Error(), "run coinop doctor as the user that runs the machine"}}
	}
	var all []finding
	private := func(path string, mode os.FileMode, want string) {
		if others := mode.Perm() & 0o077; others != 0 {
			all = append(all, finding{"files", bad, fmt.Sprintf("%s may be read by others (%v)", path, mode.Perm()), "chmod " + want + " " + path})
		}
	}
	private(d.Data, info.Mode(), "0700")
	for _, path := range []string{
		filepath.Join(d.Data, "key"), filepath.Join(d.Data, tokenFile), d.TLS.Key, d.MQTT.Password,
	} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(path); err == nil {
			private(path, info.Mode(), "0600")
		} else if !errors.Is(err, os.ErrNotExist) || path == d.TLS.Key || path == d.MQTT.Password {
			all = append(all, finding{"files", bad, err.Error(), "the machine must be able to read it"})
		}
	}
	if d.Key == "" && !exists(filepath.Join(d.Data, "key")) && exists(filepath.Join(d.Data, "state")) {
		all = append(all, finding{"files", bad, "the store is in " + d.Data + " and the key is not: the money in it can move with that key only", "put the key back; coinop key --help says from where"})
	}
	return only("files", "what is secret is for its owner alone", all...)
}

const (
	// born is before any build of this program.
	born = 1_760_000_000 // October 2025, Unix seconds
	// skew is how far ahead of the clock a file's time may be.
	skew = 2 * time.Minute
)

// checkClock finds a clock that stands still or has jumped back: rates, offers and
// channels have deadlines.
func (d *doctor) checkClock(context.Context) []finding {
	now := time.Now()
	remedy := "set it, and keep it set: systemctl enable --now systemd-timesyncd, or a clock with a battery"
	if now.Unix() < born {
		return []finding{{"clock", bad, "it says " + now.UTC().Format(time.RFC3339) + ", which has passed for long", remedy}}
	}
	entries, _ := os.ReadDir(d.Data)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.ModTime().After(now.Add(skew)) {
			return []finding{{"clock", bad, fmt.Sprintf("it says %s, and %s was written at %s", now.UTC().Format(time.RFC3339),
				filepath.Join(d.Data, e.Name()), info.ModTime().UTC().Format(time.RFC3339)), remedy}}
		}
	}
	return []finding{{What: "clock", State: fine, Say: "it says " + now.UTC().Format(time.RFC3339)}}
}

const (
	// fullDisk is too little to go on with, in bytes; a small one should be looked
	// after.
	fullDisk  = 16 << 20
	smallDisk = 128 << 20
)

func (d *doctor) checkDisk(context.Context) []finding {
	path := d.Data
	for !exists(path) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
	}
	left, ok := diskLeft(path)
	if !ok {
		return nil
	}
	f := finding{"disk", fine, fmt.Sprintf("%d MB are left for %s", left>>20, d.Data), "make room: a machine that cannot write what it owes stops"}
	switch {
	case left < fullDisk:
		f.State = bad
	case left < smallDisk:
		f.State = odd
	}
	return []finding{f}
}

// checkStore opens the store, unless a machine that answers has it.
func (d *doctor) checkStore(context.Context) []finding {
	uri, err := url.Parse(d.StoreURI())
	switch {
	case d.running != nil:
		return []finding{{What: "store", State: fine, Say: "the machine that runs has it"}}
	case d.started:
		return []finding{{"store", bad, "another process has it, and no machine answers at " + cmp.Or(d.HTTP, "an http address, which the config does not have"),
			"it may be a machine that is starting or hangs, or another command; look with: fuser -v " + filepath.Join(d.Data, "state")}}
	case err != nil:
		return []finding{{"store", bad, err.Error(), "write it as bbolt:///path or postgres://user@host/database"}}
	case uri.Scheme == "mem":
		return []finding{{"store", odd, "it forgets everything when the machine stops: channels, sales, receipts", "leave store out, and it is a file in data"}}
	case uri.Scheme == "postgres" || uri.Scheme == "postgresql":
		return []finding{database("store", uri)}
	case !exists(filepath.Join(d.Data, "state")):
		return []finding{{What: "store", State: fine, Say: "it is made at the first start"}}
	}
	db, err := store.Default.Open(d.StoreURI())
	if err != nil {
		return []finding{{"store", bad, err.Error(), "if the disk is failing, copy " + d.Data + " away first; coinop restore --help says how money is brought back"}}
	}
	db.Close()
	return []finding{{What: "store", State: fine, Say: "it opens"}}
}

// database reaches for a PostgreSQL server.
func database(what string, uri *url.URL) finding {
	host := cmp.Or(uri.Query().Get("host"), uri.Hostname(), "localhost")
	address := net.JoinHostPort(host, cmp.Or(uri.Port(), uri.Query().Get("port"), "5432"))
	if strings.HasPrefix(host, "/") {
		address = "unix:" + filepath.Join(host, ".s.PGSQL."+cmp.Or(uri.Port(), "5432"))
	}
	return reach(context.Background(), what, "PostgreSQL at "+strings.TrimPrefix(address, "unix:"), address,
		"start it, or name another one; while it is away the machine takes no new sales")
}

// checkBooks looks for where the past is kept.
func (d *doctor) checkBooks(context.Context) []finding {
	text := d.Books
	if text == "" && strings.HasPrefix(d.StoreURI(), "postgres") {
		text = d.StoreURI()
	}
	uri, err := url.Parse(text)
	if err != nil || !d.Doors() || uri.Scheme != "postgres" && uri.Scheme != "postgresql" {
		return nil
	}
	return []finding{database("books", uri)}
}

// checkPorts tries the addresses that a machine would listen at.
func (d *doctor) checkPorts(context.Context) []finding {
	if d.running != nil || d.started {
		return nil // they are its own
	}
	var all []finding
	for _, a := range []struct{ key, network, address string }{
		{"listen", "tcp", d.Listen}, {"http", "tcp", d.HTTP}, {"metrics", "tcp", d.Metrics}, {"mqtt.listen", "tcp", d.MQTT.Listen},
		{"electrum", "tcp", d.Electrum}, {"bccapi", "tcp", d.BCCAPI}, {"coap.listen", "udp", d.CoAP.Listen}, {"coap.dtls", "udp", d.CoAP.DTLS},
	} {
		if a.address == "" || strings.HasPrefix(a.address, "unix:") {
			continue
		}
		if err := free(a.network, a.address); err != nil {
			all = append(all, finding{"ports", bad, fmt.Sprintf("%s cannot be at %s: %v", a.key, a.address, err),
				fmt.Sprintf("stop who is there (ss -lpn | grep %s), or: coinop config set %s HOST:PORT", port(a.address), a.key)})
		}
	}
	return only("ports", "those of the config are free", all...)
}

func port(address string) string { return address[strings.LastIndex(address, ":"):] }

func free(network, address string) error {
	if network == "udp" {
		c, err := net.ListenPacket("udp", address)
		if err == nil {
			c.Close()
		}
		return err
	}
	l, err := net.Listen("tcp", address)
	if err == nil {
		l.Close()
	}
	return err
}

// chainRails are those that settle on the chain.
var chainRails = []string{"oneway", "lightning", "bitcoin"}

// checkChain reaches for the node.
func (d *doctor) checkChain(ctx context.Context) []finding {
	uri, err := url.Parse(d.Chain)
	switch {
	case err != nil:
		return []finding{{"chain", bad, err.Error(), "write it as p2p://host:port"}}
	case d.Chain == "":
		for _, r := range d.Rails {
			for _, needs := range chainRails {
				if strings.HasPrefix(r, needs+":") {
					return []finding{{"chain", bad, "there is none, and the rail " + needs + ": settles on it", "coinop config set chain p2p://127.0.0.1:8333, with the address of a Bitcoin node"}}
				}
			}
		}
		return nil
	case uri.Host == "":
		return []finding{{What: "chain", State: fine, Say: uri.Scheme + ": is in this machine"}}
	}
	address := uri.Host
	if uri.Port() == "" {
		address = net.JoinHostPort(uri.Hostname(), map[string]string{"p2p": "8333", "https": "443"}[uri.Scheme])
	}
	return []finding{reach(ctx, "chain", "the node at "+uri.Redacted(), address, "start it, or name another one with coinop config set chain")}
}

// checkBroker reaches for the owner's own MQTT broker.
func (d *doctor) checkBroker(ctx context.Context) []finding {
	if d.MQTT.Broker == "" {
		return nil
	}
	uri, err := url.Parse(d.MQTT.Broker)
	if err != nil || uri.Host == "" {
		return []finding{{"broker", bad, fmt.Sprintf("mqtt.broker = %q is not a URL", d.MQTT.Broker), "write it as mqtt://host:1883 or mqtts://host:8883"}}
	}
	address := uri.Host
	if uri.Port() == "" {
		address = net.JoinHostPort(uri.Hostname(), map[bool]string{false: "1883", true: "8883"}[uri.Scheme == "mqtts" || uri.Scheme == "ssl"])
	}
	return []finding{reach(ctx, "broker", "the broker at "+uri.Redacted(), address, "start it; devices are not reached without it, and orders wait or are given back")}
}

// oldCertificate is when it is time to renew one.
const oldCertificate = 14 * 24 * time.Hour

func (d *doctor) checkTLS(context.Context) []finding {
	if d.TLS.Cert == "" && d.TLS.Key == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(d.TLS.Cert, d.TLS.Key)
	if err != nil {
		return []finding{{"tls", bad, err.Error(), "tls.cert and tls.key name a certificate and its key, in PEM"}}
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return []finding{{"tls", bad, err.Error(), "make it anew"}}
	}
	f := finding{"tls", fine, "the certificate of " + cmp.Or(strings.Join(leaf.DNSNames, ", "), leaf.Subject.CommonName, "no name") + " is good until " + leaf.NotAfter.UTC().Format(time.DateOnly), ""}
	now := time.Now()
	switch {
	case now.After(leaf.NotAfter):
		f = finding{"tls", bad, "the certificate has expired on " + leaf.NotAfter.UTC().Format(time.DateOnly), "renew it; the machine reads the file again by itself"}
	case now.Before(leaf.NotBefore):
		f = finding{"tls", bad, "the certificate is not good before " + leaf.NotBefore.UTC().Format(time.DateOnly), "is the clock right?"}
	case leaf.NotAfter.Sub(now) < oldCertificate:
		f.State, f.Remedy = odd, "renew it; the machine reads the file again by itself"
	}
	return []finding{f}
}
