package electrum_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/electrum"
)

var registry = chain.Registry{"electrum": electrum.OpenURL, "electrums": electrum.OpenURL}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// TestPin knows a server by its certificate, which no authority has signed.
func TestPin(t *testing.T) {
	t.Parallel()
	n, cert := openNode(t), certificate(t)
	mine(t, n, 1)
	addr := serve(t, electrum.ServerOptions{Source: n, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}}).Addr()
	pin := sha256.Sum256(cert.Certificate[0])
	c, err := registry.Open(t.Context(), fmt.Sprintf("electrums://%s?pin=%x", addr, pin))
	must(t, err)
	defer c.Close()
	must(t, chaintest.Agree(t.Context(), c, n))
	for _, wrong := range []string{"", fmt.Sprintf("?pin=%064d", 0)} {
		c, err := registry.Open(t.Context(), "electrums://"+addr+wrong)
		must(t, err)
		// Until it has tried to connect it says so.
		for late := time.Now().Add(chaintest.Patience); time.Now().Before(late); time.Sleep(5 * time.Millisecond) {
			if _, err = c.Coins(t.Context(), chaintest.Script(1)); err == nil || strings.Contains(err.Error(), "certificate") {
				break
			}
		}
		if !errors.Is(err, chain.ErrSyncing) || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("with %q it is %v", wrong, err)
		}
		c.Close()
	}
}

func TestURL(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"electrum://127.0.0.1:1,127.0.0.1:2?quorum=2&net=mainnet", "electrum:127.0.0.1:1,[::1]:2", "electrums://localhost:3"} {
		c, err := registry.Open(t.Context(), good)
		if err != nil {
			t.Error(err)
			continue
		}
		c.Close()
	}
	for _, bad := range []string{
		"electrum://", "electrum://host", "electrum://h:1,h", "electrum://u:p@h:1", "electrum://h:1/path", "electrum://h:1?net=litecoin",
		"electrum://h:1?quorum=2", "electrum://h:1?quorum=x", "electrum://h:1?nope=1", "electrums://h:1?pin=00", "electrum://h:1?pin=" + strings.Repeat("00", 32),
		"electrum://" + strings.Repeat("h:1,", 9) + "h:1",
	} {
		if c, err := registry.Open(t.Context(), bad); err == nil {
			c.Close()
			t.Errorf("%s is opened", bad)
		}
	}
}

// TestQuorum wants two servers.
func TestQuorum(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	paid(t, n, 1)
	c, err := electrum.Open(electrum.Options{Quorum: 2, Servers: []electrum.Address{{Host: addr}, {Host: "127.0.0.1:1"}}})
	must(t, err)
	defer c.Close()
	if coins, err := c.Coins(t.Context(), chaintest.Script(1)); !errors.Is(err, chain.ErrSyncing) {
		t.Errorf("one server of two: %v, error %v", coins, err)
	}
}

// TestProof is what a device asks that has headers only.
func TestProof(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	o := paid(t, n, 1)
	c := open(t, &troubles{}, addr)
	must(t, chaintest.Agree(t.Context(), c, n))
	_, err := chaintest.Await(t.Context(), c, o, func(w watch.Status) bool { return w.Depth == 1 })
	must(t, err)
	tx, p, err := c.Prove(t.Context(), o.Point)
	must(t, err)
	b, err := n.Block(t.Context(), p.Height)
	must(t, err)
	if root, err := p.Branch.Root(tx); err != nil || root != b.Header.MerkleRoot || p.Height != 102 {
		t.Errorf("the proof leads to %v, error %v", root, err)
	}
	if h, err := c.Header(t.Context(), 102); err != nil || h.MerkleRoot != b.Header.MerkleRoot {
		t.Errorf("the header is %v, error %v", h, err)
	}
	if _, err := c.Header(t.Context(), 103); !errors.Is(err, chain.ErrNoBlock) {
		t.Errorf("a header above the tip: %v", err)
	}
	if coins := coinsOf(t, c, 1); coins[0].Proof == nil || coins[0].Tx == nil {
		t.Errorf("the coin has no proof: %+v", coins)
	}
	if _, _, err := c.Prove(t.Context(), wire.OutPoint{Index: 1}); !errors.Is(err, electrum.ErrNoProof) {
		t.Errorf("what is nowhere: %v", err)
	}
}
