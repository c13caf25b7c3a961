package nanonet_test

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/engine"
	nanonet "coinop.dev/engine/lattice"
	"coinop.dev/world/store"
	"coinop.dev/world/store/pebble"
)

// A site is a computer with a lattice node, whose disk outlives it.
type site struct {
	t       *testing.T
	name    string
	config  node.Config
	peers   []string
	folder  string
	db      store.DB
	machine *engine.Machine
	*nanonet.Node
}

func secretOf(name string) eddsa.Secret {
	var key [32]byte
	copy(key[:], name)
	return lattice.NewSecret(key)
}

// network is one whose work takes no time.
func network() lattice.Network {
	return lattice.NewNetwork("three shops", secretOf("genesis"), lattice.MaxRaw, 1<<56, 1<<55)
}

func newSite(t *testing.T, name string, reps []eddsa.Secret, peers ...string) *site {
	s := &site{t: t, name: name, peers: peers, folder: t.TempDir(), config: node.Config{Network: network(), ID: secretOf(name), Reps: reps}}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *site) start() {
	s.t.Helper()
	key, err := keys.NewSecret(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.db, err = pebble.Open(s.folder); err != nil {
		s.t.Fatal(err)
	}
	s.machine = engine.New(context.Background(), engine.Options{Key: key, DB: s.db})
	s.Node, err = nanonet.Open(s.t.Context(), s.machine, nanonet.Options{
		Config: s.config, Listen: "127.0.0.1:0", Peers: s.peers, MaxPerIP: 100, KeepAlive: 100 * time.Millisecond,
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) stop() {
	if s.Node == nil {
		return
	}
	s.Node.Close()
	s.machine.Close()
	s.db.Close()
	s.Node = nil
}

// account looks an account up.
func (s *site) account(k lattice.Key) (a node.Account) {
	s.t.Helper()
	if err := s.Look(s.t.Context(), func(n *node.Node) { a, _ = n.Account(k) }); err != nil {
		s.t.Fatal(err)
	}
	return a
}

// A purse makes the blocks of one account.
type purse struct {
	secret eddsa.Secret
	last   lattice.Block
	head   lattice.Hash
}

func newPurse(name string) *purse {
	p := &purse{secret: secretOf(name)}
	p.last.Account = p.secret.Public()
	p.last.Representative = p.last.Account
	return p
}

func genesisPurse() *purse {
	p, n := newPurse("genesis"), network()
	p.last, p.head = n.Genesis, n.Genesis.Hash()
	return p
}

func (p *purse) key() lattice.Key { return p.secret.Public() }

// next is the account's next block.
func (p *purse) next(balance lattice.Raw, link [32]byte) lattice.Block {
	n := network()
	b := p.last
	b.Previous, b.Balance, b.Link = p.head, balance, link
	b.Work = lattice.Work(b.Root(), n.WorkSend, 0)
	b.Sign(p.secret)
	p.last, p.head = b, b.Hash()
	return b
}

func (p *purse) send(amount uint64, to lattice.Key) lattice.Block {
	balance, _ := p.last.Balance.Sub(lattice.RawOf(amount))
	return p.next(balance, to)
}

func (p *purse) receive(amount uint64, source lattice.Hash) lattice.Block {
	balance, _ := p.last.Balance.Add(lattice.RawOf(amount))
	return p.next(balance, source)
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("it is not so after 10 s that %s", what)
}

// Three nodes, one of them the representative of all weight. What is sent on one is
// cemented on all; one that was away learns what has happened meanwhile.
func TestThreeNodes(t *testing.T) {
	ann := newSite(t, "ann", []eddsa.Secret{secretOf("genesis")})
	bob := newSite(t, "bob", nil, ann.Addr().String())
	carol := newSite(t, "carol", nil, ann.Addr().String())
	bank, shop := genesisPurse(), newPurse("shop")
	eventually(t, "both have found ann", func() bool { return len(bob.Peers()) > 0 && len(carol.Peers()) > 0 })

	heard, err := carol.Subscribe(100, node.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	send := bank.send(700, shop.key())
	began := time.Now()
	done, err := bob.Process(t.Context(), send, false)
	if err != nil || done.Kind != lattice.Send || done.Hash != send.Hash() {
		t.Fatalf("bob says %+v, %v", done, err)
	}
	for news := range heard.C {
		if c, ok := news.(node.Confirmed); ok && c.Hash == send.Hash() {
			t.Logf("cemented on carol's node %v after bob's took it", time.Since(began))
			break
		}
	}
	open := shop.receive(700, send.Hash())
	if _, err := carol.Process(t.Context(), open, false); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*site{ann, bob, carol} {
		eventually(t, s.name+" has the shop's money cemented", func() bool {
			a := s.account(shop.key())
			return a.ConfirmedHeight == 1 && a.Balance == lattice.RawOf(700)
		})
	}

	// Carol is away while the shop earns more.
	carol.stop()
	for range 4 {
		b := bank.send(10, shop.key())
		if _, err := bob.Process(t.Context(), b, false); err != nil {
			t.Fatal(err)
		}
		if _, err := bob.Process(t.Context(), shop.receive(10, b.Hash()), false); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "ann has it cemented", func() bool { return ann.account(shop.key()).ConfirmedHeight == 5 })
	carol.start()
	eventually(t, "carol has caught up", func() bool { return carol.account(shop.key()).ConfirmedHeight == 5 })

	// Anybody can be shown that the last one is final.
	last := shop.head
	proof, err := bob.Certify(t.Context(), last)
	if err != nil {
		t.Fatal(err)
	}
	var table lattice.Weights
	bob.Look(t.Context(), func(n *node.Node) { table = n.Table() })
	if err := proof.Verify(table); err != nil || proof.Hash != last {
		t.Errorf("proof of %s, not %s: %v", proof.Hash, last, err)
	}
}

// What a ledger cannot take is refused in Nano's words.
func TestRefused(t *testing.T) {
	ann := newSite(t, "ann", []eddsa.Secret{secretOf("genesis")})
	bank := genesisPurse()
	good := bank.send(1, newPurse("shop").key())
	if _, err := ann.Process(t.Context(), good, false); err != nil {
		t.Fatal(err)
	}
	forged := bank.send(1, newPurse("shop").key())
	forged.Signature[3] ^= 1
	for want, b := range map[lattice.Refusal]lattice.Block{lattice.Old: good, lattice.BadSignature: forged} {
		if _, err := ann.Process(t.Context(), b, false); node.AsRefusal(err) != want {
			t.Errorf("refused with %v, not %q", err, want)
		}
	}
}

// A machine has one lattice node, and a node needs to know who it is.
func TestOpenTwice(t *testing.T) {
	ann := newSite(t, "ann", nil)
	if _, err := nanonet.Open(t.Context(), ann.machine, nanonet.Options{Config: ann.config}); err == nil {
		t.Error("a second node is opened")
	}
	if _, err := nanonet.Open(t.Context(), ann.machine, nanonet.Options{Config: node.Config{Network: network()}}); err == nil {
		t.Error("a node without an ID is opened")
	}
}

// News that nobody reads is lost and counted, and holds nothing up.
func TestSlowListener(t *testing.T) {
	ann := newSite(t, "ann", []eddsa.Secret{secretOf("genesis")})
	slow, err := ann.Subscribe(1, node.Watch{Blocks: true})
	if err != nil {
		t.Fatal(err)
	}
	bank := genesisPurse()
	for range 5 {
		if _, err := ann.Process(t.Context(), bank.send(1, newPurse("shop").key()), false); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "something is lost", func() bool { return slow.Lost() > 0 })
	slow.Close()
	slow.Close()
	ann.stop()
	if _, open := <-slow.C; open {
		if _, open = <-slow.C; open {
			t.Error("the subscription is not closed")
		}
	}
}
