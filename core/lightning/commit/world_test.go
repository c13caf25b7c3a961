package commit_test

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/money"
)

// secretOf is a key that depends on its name.
func secretOf(name string) keys.Secret {
	seed := sha256.Sum256([]byte(name))
	s, err := keys.SecretFromBytes(seed[:])
	if err != nil {
		panic(err)
	}
	return s
}

// ends are both ends of one channel: Alice's view and Bob's, which mirrors it.
type ends struct {
	alice, bob   commit.Channel
	aliceSecrets commit.Secrets
	bobSecrets   commit.Secrets
}

func newEnds(typ commit.Type, capacity int64, opener commit.Owner) *ends {
	e := &ends{aliceSecrets: commit.NewSecrets(secretOf("alice")), bobSecrets: commit.NewSecrets(secretOf("bob"))}
	e.alice = commit.Channel{
		Type: typ, Capacity: capacity, Opener: opener, Funding: wire.OutPoint{Hash: sha256.Sum256([]byte("funding")), Index: 1},
		Local:  commit.Party{Basepoints: e.aliceSecrets.Basepoints(), Dust: 354, Delay: 144},
		Remote: commit.Party{Basepoints: e.bobSecrets.Basepoints(), Dust: 1_000, Delay: 9},
	}
	e.bob = e.alice
	e.bob.Local, e.bob.Remote, e.bob.Opener = e.alice.Remote, e.alice.Local, opener.Other()
	return e
}

// mirror is s as the other end has it.
func mirror(s commit.State) commit.State {
	s.Local, s.Remote = s.Remote, s.Local
	htlcs := s.HTLCs
	s.HTLCs = nil
	for _, h := range htlcs {
		h.Ours = !h.Ours
		s.HTLCs = append(s.HTLCs, h)
	}
	return s
}

func preimage(i int) (p [32]byte) {
	binary.BigEndian.PutUint64(p[:], uint64(i)+1)
	return p
}

// stateOf has n HTLCs in both directions; what they do not take is shared.
func stateOf(capacity int64, n int, rate int64) commit.State {
	total := money.Amount(capacity) * money.Sat
	s := commit.State{Number: 7, FeeRate: rate}
	for i := range n {
		h := commit.HTLC{Ours: i%2 == 0, Amount: total / 4 / money.Amount(n), Hash: sha256.Sum256(pre(i)), Expiry: 500_000 + uint32(i)}
		s.HTLCs = append(s.HTLCs, h)
		total -= h.Amount
	}
	s.Local = total / 2
	s.Remote = total - s.Local
	return s
}

func pre(i int) []byte { p := preimage(i); return p[:] }

// randomState spreads the capacity over sides and HTLCs, some of them dust, some
// of them twins.
func randomState(r *rand.Rand, capacity int64) commit.State {
	left := money.Amount(capacity) * money.Sat
	s := commit.State{Number: r.Uint64() & commit.MaxNumber, FeeRate: r.Int64N(2_000)}
	for range r.IntN(20) {
		h := commit.HTLC{Ours: r.IntN(2) == 0, Amount: money.Amount(r.Int64N(6_000_000)), Expiry: uint32(r.IntN(800_000))}
		binary.BigEndian.PutUint64(h.Hash[:], r.Uint64N(4))
		if len(s.HTLCs) > 0 && r.IntN(4) == 0 {
			h.Ours, h.Amount, h.Hash = s.HTLCs[0].Ours, s.HTLCs[0].Amount, s.HTLCs[0].Hash
		}
		if h.Amount > left {
			break
		}
		left -= h.Amount
		s.HTLCs = append(s.HTLCs, h)
	}
	s.Local = money.Amount(r.Uint64N(uint64(left) + 1))
	s.Remote = left - s.Local
	return s
}

// runs lets Bitcoin's own script engine judge input i of t, which spends out.
func runs(t *wire.MsgTx, i int, out *wire.TxOut) error {
	fetch := txscript.NewCannedPrevOutputFetcher(out.PkScript, out.Value)
	vm, err := txscript.NewEngine(out.PkScript, t, i, txscript.StandardVerifyFlags, nil, txscript.NewTxSigHashes(t, fetch), out.Value, fetch)
	if err != nil {
		return err
	}
	return vm.Execute()
}

func build(t testing.TB, c *commit.Channel, o commit.Owner, point keys.Public, s commit.State) *commit.Commitment {
	t.Helper()
	k, err := c.Build(o, point, s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
