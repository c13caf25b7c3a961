package lndrail_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/money"
	"coinop.dev/rail/lndrail/lnrpc"
)

// A fakeLnd is the whole Lightning network in one server that answers like lnd:
// whoever pays an invoice of it has paid. It pays a hash once.
type fakeLnd struct {
	lnrpc.UnimplementedLightningServer
	lnrpc.UnimplementedRouterServer
	lnrpc.UnimplementedInvoicesServer

	key      keys.Secret
	addr     string
	cert     string // files
	macaroon string
	ended    chan struct{}

	mu       sync.Mutex
	invoices map[[32]byte]*lnrpc.Invoice
	settled  []*lnrpc.Invoice
	news     chan struct{} // closed when settled grows
	payments map[[32]byte]*lnrpc.Payment
	sends    int // SendPaymentV2 that began a payment

	deaf  int // SettleInvoice that get lost
	limit money.Amount
	// trouble, if set, may lose the answer to the i-th call of SendPaymentV2,
	// before or after it has paid.
	trouble func(i int) (before, after error)
	calls   int
}

func startFake(t testing.TB) *fakeLnd {
	t.Helper()
	f := &fakeLnd{
		invoices: map[[32]byte]*lnrpc.Invoice{}, payments: map[[32]byte]*lnrpc.Payment{}, news: make(chan struct{}),
		ended: make(chan struct{}), limit: 1_000_000 * money.Sat,
	}
	var err error
	if f.key, err = keys.NewSecret(rand.Reader); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	f.cert, f.macaroon = filepath.Join(home, "tls.cert"), filepath.Join(home, "m")
	pair := certificate(t, f.cert)
	if err := os.WriteFile(f.macaroon, []byte("let me in"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	s := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&pair)), grpc.UnaryInterceptor(f.unary), grpc.StreamInterceptor(f.stream))
	lnrpc.RegisterLightningServer(s, f)
	lnrpc.RegisterRouterServer(s, f)
	lnrpc.RegisterInvoicesServer(s, f)
	done := make(chan struct{})
	go func() { s.Serve(l); close(done) }()
	t.Cleanup(func() { close(f.ended); s.Stop(); <-done })
	return f
}

func certificate(t testing.TB, file string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// pays and earns are the rail's two URIs.
func (f *fakeLnd) pays() string {
	return fmt.Sprintf("lnd://%s?%s", f.addr, url.Values{"cert": {f.cert}, "macaroon": {f.macaroon}}.Encode())
}

func (f *fakeLnd) earns(host string) string {
	return "lnd:?" + url.Values{"rpc": {f.addr}, "cert": {f.cert}, "macaroon": {f.macaroon}, "host": {host}}.Encode()
}

func (f *fakeLnd) admit(ctx context.Context) error {
	m, _ := metadata.FromIncomingContext(ctx)
	if got := m.Get("macaroon"); len(got) != 1 || got[0] != hex.EncodeToString([]byte("let me in")) {
		return status.Error(codes.Unknown, "permission denied") // lnd's code for it
	}
	return nil
}

func (f *fakeLnd) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := f.admit(ctx); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (f *fakeLnd) stream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := f.admit(s.Context()); err != nil {
		return err
	}
	return next(srv, s)
}

func (f *fakeLnd) AddInvoice(_ context.Context, ask *lnrpc.Invoice) (*lnrpc.AddInvoiceResponse, error) {
	preimage := ask.RPreimage
	if preimage == nil {
		preimage = make([]byte, 32)
		rand.Read(preimage)
	}
	hash := sha256.Sum256(preimage)
	text, err := f.add(hash, preimage, ask.ValueMsat, ask.Memo)
	if err != nil {
		return nil, err
	}
	return &lnrpc.AddInvoiceResponse{RHash: hash[:], PaymentRequest: text}, nil
}

func (f *fakeLnd) add(hash [32]byte, preimage []byte, msat int64, memo string) (string, error) {
	text, err := f.bolt11(hash, money.Amount(msat), memo)
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.invoices[hash] != nil {
		return "", status.Error(codes.Unknown, "invoice with payment hash already exists")
	}
	f.invoices[hash] = &lnrpc.Invoice{RPreimage: preimage, RHash: hash[:], PaymentRequest: text, ValueMsat: msat}
	return text, nil
}

func (f *fakeLnd) bolt11(hash [32]byte, a money.Amount, memo string) (string, error) {
	i := invoice.Invoice{Network: invoice.Regtest, Amount: a, At: time.Now().Unix(), Hash: hash, Secret: hash, Description: memo}
	return i.Sign(f.key)
}

func (f *fakeLnd) LookupInvoice(_ context.Context, ask *lnrpc.PaymentHash) (*lnrpc.Invoice, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := f.invoices[[32]byte(ask.RHash)]; i != nil {
		return f.show(i), nil
	}
	return nil, status.Error(codes.NotFound, "there is no such invoice")
}

// show copies what may still change.
func (f *fakeLnd) show(i *lnrpc.Invoice) *lnrpc.Invoice {
	return &lnrpc.Invoice{RHash: i.RHash, PaymentRequest: i.PaymentRequest, ValueMsat: i.ValueMsat, State: i.State, AmtPaidMsat: i.AmtPaidMsat, SettleIndex: i.SettleIndex}
}

func (f *fakeLnd) CancelInvoice(_ context.Context, ask *lnrpc.CancelInvoiceMsg) (*lnrpc.CancelInvoiceResp, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.invoices[[32]byte(ask.PaymentHash)]
	if i == nil || i.State == lnrpc.Invoice_SETTLED {
		return nil, status.Error(codes.Unknown, "the invoice is settled")
	}
	i.State = lnrpc.Invoice_CANCELED
	f.wake()
	return &lnrpc.CancelInvoiceResp{}, nil
}

// wake tells whoever listens that something has changed.
func (f *fakeLnd) wake() {
	close(f.news)
	f.news = make(chan struct{})
}

func (f *fakeLnd) AddHoldInvoice(_ context.Context, ask *lnrpc.AddHoldInvoiceRequest) (*lnrpc.AddHoldInvoiceResp, error) {
	text, err := f.add([32]byte(ask.Hash), nil, ask.ValueMsat, ask.Memo)
	return &lnrpc.AddHoldInvoiceResp{PaymentRequest: text}, err
}

func (f *fakeLnd) SettleInvoice(_ context.Context, ask *lnrpc.SettleInvoiceMsg) (*lnrpc.SettleInvoiceResp, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deaf > 0 {
		f.deaf--
		return nil, status.Error(codes.Unavailable, "the connection is gone")
	}
	i := f.invoices[sha256.Sum256(ask.Preimage)]
	if i == nil || i.State != lnrpc.Invoice_ACCEPTED {
		return nil, status.Error(codes.Unknown, "the invoice is not accepted")
	}
	i.RPreimage = ask.Preimage
	f.settle(i)
	return &lnrpc.SettleInvoiceResp{}, nil
}

func (f *fakeLnd) settle(i *lnrpc.Invoice) {
	i.State, i.AmtPaidMsat, i.SettleIndex = lnrpc.Invoice_SETTLED, i.ValueMsat, uint64(len(f.settled))+1
	f.settled = append(f.settled, f.show(i))
	f.wake()
}

func (f *fakeLnd) SubscribeSingleInvoice(ask *lnrpc.SubscribeSingleInvoiceRequest, s grpc.ServerStreamingServer[lnrpc.Invoice]) error {
	for told := lnrpc.Invoice_InvoiceState(-1); ; {
		f.mu.Lock()
		i, news := f.invoices[[32]byte(ask.RHash)], f.news
		if i != nil {
			i = f.show(i)
		}
		f.mu.Unlock()
		if i == nil {
			return status.Error(codes.NotFound, "there is no such invoice")
		}
		if i.State != told {
			told = i.State
			if err := s.Send(i); err != nil {
				return err
			}
		}
		select {
		case <-news:
		case <-s.Context().Done():
			return nil
		case <-f.ended:
			return nil
		}
	}
}

// SubscribeInvoices tells of nothing before an index of 0, as lnd does.
func (f *fakeLnd) SubscribeInvoices(ask *lnrpc.InvoiceSubscription, s grpc.ServerStreamingServer[lnrpc.Invoice]) error {
	f.mu.Lock()
	next := int(ask.SettleIndex)
	if next == 0 {
		next = len(f.settled)
	}
	f.mu.Unlock()
	for {
		f.mu.Lock()
		fresh, news := f.settled[next:], f.news
		f.mu.Unlock()
		for _, i := range fresh {
			if err := s.Send(i); err != nil {
				return err
			}
			next++
		}
		select {
		case <-news:
		case <-s.Context().Done():
			return nil
		case <-f.ended:
			return nil
		}
	}
}

func (f *fakeLnd) SendPaymentV2(ask *lnrpc.SendPaymentRequest, s grpc.ServerStreamingServer[lnrpc.Payment]) error {
	i, err := invoice.Parse(ask.PaymentRequest)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.calls++
	var before, after error
	if f.trouble != nil {
		before, after = f.trouble(f.calls)
	}
	f.mu.Unlock()
	if before != nil {
		return before
	}
	p, err := f.pay(i)
	if err == nil {
		p, err = f.await(s.Context(), i.Hash), after
	}
	if err != nil {
		return err
	}
	return s.Send(p)
}

func (f *fakeLnd) pay(i invoice.Invoice) (*lnrpc.Payment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.payments[i.Hash]; p != nil && p.Status != lnrpc.Payment_FAILED {
		return nil, status.Error(codes.AlreadyExists, "invoice is already paid")
	}
	f.sends++
	p := &lnrpc.Payment{Status: lnrpc.Payment_FAILED, FailureReason: lnrpc.PaymentFailureReason_FAILURE_REASON_INCORRECT_PAYMENT_DETAILS}
	f.payments[i.Hash] = p
	known := f.invoices[i.Hash]
	switch {
	case i.Amount > f.limit:
		p.FailureReason = lnrpc.PaymentFailureReason_FAILURE_REASON_INSUFFICIENT_BALANCE
	case known != nil && known.State == lnrpc.Invoice_OPEN && known.RPreimage == nil:
		p.Status = lnrpc.Payment_IN_FLIGHT
		known.State = lnrpc.Invoice_ACCEPTED
		f.wake()
	case known != nil && known.State == lnrpc.Invoice_OPEN:
		p.Status, p.PaymentPreimage = lnrpc.Payment_SUCCEEDED, hex.EncodeToString(known.RPreimage)
		f.settle(known)
	}
	return p, nil
}

// await is the end of a payment: of one that is held, what its payee says.
func (f *fakeLnd) await(ctx context.Context, hash [32]byte) *lnrpc.Payment {
	for {
		f.mu.Lock()
		p, i, news := f.payments[hash], f.invoices[hash], f.news
		if p.Status == lnrpc.Payment_IN_FLIGHT && i.State == lnrpc.Invoice_SETTLED {
			p.Status, p.PaymentPreimage = lnrpc.Payment_SUCCEEDED, hex.EncodeToString(i.RPreimage)
		}
		if p.Status == lnrpc.Payment_IN_FLIGHT && i.State == lnrpc.Invoice_CANCELED {
			p.Status = lnrpc.Payment_FAILED
		}
		f.mu.Unlock()
		if p.Status != lnrpc.Payment_IN_FLIGHT {
			return p
		}
		select {
		case <-news:
		case <-f.ended:
			return p
		case <-ctx.Done():
			return p
		}
	}
}

func (f *fakeLnd) TrackPaymentV2(ask *lnrpc.TrackPaymentRequest, s grpc.ServerStreamingServer[lnrpc.Payment]) error {
	f.mu.Lock()
	p := f.payments[[32]byte(ask.PaymentHash)]
	f.mu.Unlock()
	if p == nil {
		return status.Error(codes.NotFound, "payment isn't initiated")
	}
	return s.Send(f.await(s.Context(), [32]byte(ask.PaymentHash)))
}
