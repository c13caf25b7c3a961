// Package lndrail pays and is paid over somebody's lnd, which keeps the
// channels. coinop keeps which order is paid by which payment hash.
//
//	lnd://<host>:<port>?cert=<file>&macaroon=<file>              pays
//	lnd:?rpc=<host>:<port>&cert=<file>&macaroon=<file>&host=<…>  is paid
//
// The address is of lnd's gRPC, cert its TLS certificate (tls.cert), macaroon
// what it lets this rail do: to pay, offchain:read and offchain:write; to be
// paid, invoices:read and invoices:write (lnd's invoice.macaroon). The URI names
// files and holds no secret. host is where coinop's machines reach this one.
//
// Two kinds of payment URI can be paid, whose scheme is that of the rail:
//
//	<scheme>://<machine key>@<host>:<port>   asks that machine for an invoice
//	<scheme>:<BOLT 11 invoice>               pays the invoice
//
// The first is what the earning end gives out. It costs one round trip on the
// link, in which the payee signs that whoever pays this invoice has paid this
// order (core/billing), so its receipts prove the order, the amount and the
// payee to anybody. The receipt of a plain invoice proves that the invoice was
// paid, not for which order.
//
// An order is paid once because its payment hash is on disk before lnd hears of
// it, and because lnd pays a hash once. Do not let lnd forget payments
// (deletepayments) that a purse may still ask about.
package lndrail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"coinop.dev/core/money"
	"coinop.dev/rail"
)

// Scheme is the rail's word.
const Scheme = "lnd"

// Driver opens rails over an lnd.
type Driver struct{}

// openPatience is how long lnd may take to answer when a rail is opened.
const openPatience = 15 * time.Second

// Defaults and limits of the URI's parameters.
const (
	defaultMaxFee = 5 * money.Sat // or 1 % of the amount, if that is more
	defaultExpiry = 3600          // seconds an invoice can be paid
	minExpiry     = 60
	maxExpiry     = 7 * 24 * 3600
)

// Speaks makes the rail one that pays anybody's invoices.
func (Driver) Speaks() []string { return []string{Scheme, invoices} }

// Open opens the paying end if u names an lnd as its host, and the earning end
// if not.
func (Driver) Open(ctx context.Context, u *url.URL, env rail.Env) (rail.Conn, error) {
	if u.User != nil || u.Opaque != "" || u.Path != "" {
		return nil, fmt.Errorf("write %s://<host>:<port>?cert=<file>&macaroon=<file> to pay, %s:?rpc=<host>:<port>&cert=<file>&macaroon=<file> to be paid", u.Scheme, u.Scheme)
	}
	q := rail.Query(u)
	addr, pays := u.Host, u.Host != ""
	if !pays {
		addr = q.Text("rpc", "localhost:10009")
	}
	cert, macaroon, host := q.Text("cert", ""), q.Text("macaroon", ""), q.Text("host", "")
	maxFee, expiry := q.Amount("max_fee", defaultMaxFee), q.Int("expiry", defaultExpiry, minExpiry, maxExpiry)
	if err := q.Close(); err != nil {
		return nil, err
	}
	conn, err := Dial(addr, cert, macaroon)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	var end rail.Conn
	if pays {
		end, err = openPayer(ctx, u.Scheme, env.Machine, conn, maxFee)
	} else {
		end, err = openPayee(ctx, u.Scheme, env.Machine, conn, host, expiry)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return end, nil
}

// Dial connects to an lnd's gRPC at host:port, with the certificate that it
// must show and the macaroon that says what it lets us do. It does not wait for
// lnd; calls do.
func Dial(addr, certFile, macaroonFile string) (*grpc.ClientConn, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("lnd's address %.100q: %w", addr, err)
	}
	pem, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("parameter cert: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("parameter cert: %s holds no certificate", certFile)
	}
	raw, err := os.ReadFile(macaroonFile)
	if err != nil {
		return nil, fmt.Errorf("parameter macaroon: %w", err)
	}
	return grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})),
		grpc.WithPerRPCCredentials(macaroon{raw}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}))
}

// macaroon goes with every call.
type macaroon struct{ raw []byte }

// Format never shows it.
func (macaroon) Format(f fmt.State, _ rune) { f.Write([]byte("macaroon")) }

// GetRequestMetadata is how lnd reads it.
func (m macaroon) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"macaroon": hex.EncodeToString(m.raw)}, nil
}

// RequireTransportSecurity keeps it off a wire that others can read.
func (macaroon) RequireTransportSecurity() bool { return true }

// probe is a hash that nobody has a preimage of, to ask lnd about.
var probe = make([]byte, 32)

// probed reads the answer to a question about probe: lnd must say that it does
// not know it, which it says to whom it lets ask.
func probed(what string, err error) error {
	if status.Code(err) == codes.NotFound {
		return nil
	}
	if err == nil {
		err = errors.New("it knows a hash that nobody has made")
	}
	return fmt.Errorf("lnd does not let this macaroon %s: %w", what, err)
}

// maxRetry bounds the pause between two attempts to reach lnd.
const maxRetry = 5 * time.Second

// pause waits a little longer each time, and reports whether to go on.
func pause(ctx context.Context, wait *time.Duration) bool {
	*wait = min(max(2**wait, 50*time.Millisecond), maxRetry)
	select {
	case <-time.After(*wait):
		return true
	case <-ctx.Done():
		return false
	}
}
