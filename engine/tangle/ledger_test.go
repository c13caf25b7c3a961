package tanglenet_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	"coinop.dev/engine/news"
	tanglenet "coinop.dev/engine/tangle"
	"coinop.dev/world/store/mem"
)

func secretOf(name string) eddsa.Secret {
	return eddsa.NewSecret(eddsa.SHA512, tangle.IDOf([]byte("a test's "+name)))
}

func addressOf(name string) tangle.Address { return tangle.NewAddress(secretOf(name).Public()) }

// network is one where so many of n coordinators sign, and rich has all money.
func network(t testing.TB, threshold, n int) *tangle.Network {
	t.Helper()
	var coordinators [][32]byte
	for i := range n {
		coordinators = append(coordinators, secretOf(fmt.Sprint("coordinator ", i)).Public())
	}
	net, err := tangle.NewNetwork("four shops", "tst", threshold, coordinators, []tangle.BasicOutput{{Amount: 1000, Address: addressOf("rich")}})
	if err != nil {
		t.Fatal(err)
	}
	return net
}

// A site is a computer with a Tangle node, whose disk and key outlive it.
type site struct {
	t       *testing.T
	key     keys.Secret
	options tanglenet.Options
	disk    map[string][]byte
	db      *mem.DB
	machine *engine.Machine
	at      string // where others may dial it
	*tanglenet.Node
}

func newSite(t *testing.T, o tanglenet.Options) *site {
	t.Helper()
	key, err := keys.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, key: key, options: o}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *site) start() {
	s.t.Helper()
	var err error
	if s.db, err = mem.New(s.disk); err != nil {
		s.t.Fatal(err)
	}
	s.machine = engine.New(context.Background(), engine.Options{Key: s.key, DB: s.db})
	addr, err := s.machine.Listen("127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.at = fmt.Sprintf("%s@%s", s.key.Public(), addr)
	if s.Node, err = tanglenet.Open(s.t.Context(), s.machine, s.options); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) stop() {
	if s.Node != nil {
		s.Node.Close()
		s.machine.Close()
		s.Node = nil
	}
}

// kill takes the power away: what is on disk now is what there will be.
func (s *site) kill() {
	s.disk = s.db.Snapshot()
	s.stop()
}

// coordinated is the options of a node that is coordinator i, or none.
func coordinated(net *tangle.Network, i int) tanglenet.Options {
	o := tanglenet.Options{Config: node.Config{Network: net}}
	if i < len(net.Coordinators) {
		o.Config.Coordinator = node.Coordinator{Secret: secretOf(fmt.Sprint("coordinator ", i)), Primary: i == 0, Interval: 200 * step.Millisecond}
	}
	return o
}

// sites are linked to each other, the later ones by dialling the earlier ones.
func sites(t *testing.T, net *tangle.Network, n int) (list []*site) {
	for i := range n {
		o := coordinated(net, i)
		for _, s := range list {
			o.Peers = append(o.Peers, s.at)
		}
		list = append(list, newSite(t, o))
	}
	return list
}

func (s *site) latest() uint32 {
	s.t.Helper()
	info, err := s.Info(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return info.Latest.Index
}

func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it has not happened: ", what)
		}
	}
}

// pay spends an output of one name to another; what is left goes back.
func pay(t *testing.T, net *tangle.Network, input tangle.OutputID, has uint64, from, to string, amount uint64) *tangle.Transaction {
	t.Helper()
	spent := []tangle.BasicOutput{{Amount: has, Address: addressOf(from)}}
	outputs := []tangle.BasicOutput{{Amount: amount, Address: addressOf(to)}}
	if has > amount {
		outputs = append(outputs, tangle.BasicOutput{Amount: has - amount, Address: addressOf(from)})
	}
	e, err := tangle.NewEssence(net, []tangle.OutputID{input}, spent, outputs, &tangle.TaggedData{Tag: []byte("coinop"), Data: []byte(to)})
	if err != nil {
		t.Fatal(err)
	}
	tx, err := e.Sign(spent, secretOf(from))
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func (s *site) has(name string) (sum uint64) {
	s.t.Helper()
	list, _, err := s.OutputsOf(s.t.Context(), addressOf(name), tangle.OutputID{}, 100)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, o := range list {
		sum += o.Amount
	}
	return sum
}

// TestFourShops: four nodes over TCP agree on who was paid, and one whose power was
// cut comes back to where the others are.
func TestFourShops(t *testing.T) {
	t.Parallel()
	net := network(t, 1, 1)
	shops := sites(t, net, 4)
	last := shops[3]
	news, err := last.Subscribe(1000, node.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	within(t, "the node that signs nothing has milestones", func() bool { return last.latest() > 0 })

	t.Log("the last one hands in a payment; a milestone applies it everywhere")
	first := pay(t, net, tangle.GenesisOutput(0), 1000, "rich", "shop", 300)
	attached, err := last.Submit(t.Context(), first)
	if err != nil || attached.Payload != first.ID() {
		t.Fatalf("%+v: %v", attached, err)
	}
	settled, err := last.Settle(t.Context(), first.ID())
	if err != nil || settled.Block != attached.Block {
		t.Fatalf("%+v: %v", settled, err)
	}
	if again, err := last.Settle(t.Context(), first.ID()); err != nil || again != settled {
		t.Errorf("asked later: %+v, %v; it was %+v", again, err, settled)
	}
	for i, s := range shops {
		within(t, fmt.Sprint("node ", i, " knows"), func() bool { return s.has("shop") == 300 && s.has("rich") == 700 })
	}
	proof, err := shops[1].Proof(t.Context(), first.ID())
	if err != nil {
		t.Fatal(err)
	}
	if tx, err := proof.Verify(net.Trust()); err != nil || tx.ID() != first.ID() {
		t.Errorf("the proof of another node: %v", err)
	}
	if m, ok, err := shops[2].Metadata(t.Context(), settled.Block); err != nil || !ok || m.State != node.Applied {
		t.Errorf("metadata: %+v, %v", m, err)
	}
	if raw, err := shops[2].Block(t.Context(), settled.Block); err != nil || tangle.IDOf(raw) != settled.Block {
		t.Errorf("block: %v", err)
	}
	if m, c, ok, err := shops[2].Milestone(t.Context(), settled.Milestone.Index); err != nil || !ok || m.ID() != c.ID {
		t.Errorf("milestone: %v", err)
	}

	t.Log("its power is cut; the others go on")
	last.kill()
	hears(t, news, first.ID())
	second := pay(t, net, tangle.NewOutputID(first.ID(), 1), 700, "rich", "shop", 50)
	if _, err := shops[1].Submit(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if _, err := shops[1].Settle(t.Context(), second.ID()); err != nil {
		t.Fatal(err)
	}
	there := shops[0].latest() + 3
	within(t, "three more milestones", func() bool { return shops[0].latest() >= there })

	t.Log("it comes back")
	last.start()
	within(t, "it knows what it has missed", func() bool { return last.latest() >= there && last.has("shop") == 350 })

	t.Log("money is not spent twice")
	_, err = last.Submit(t.Context(), pay(t, net, tangle.GenesisOutput(0), 1000, "rich", "thief", 1000))
	if !errors.Is(err, node.AlreadySpent) {
		t.Errorf("spent again: %v", err)
	}
	if _, err := tanglenet.Open(t.Context(), last.machine, coordinated(net, 9)); err == nil {
		t.Error("a machine has two Tangle nodes")
	}
}

// hears checks what a node that is gone has told: every milestone, and what became of
// a transaction.
func hears(t *testing.T, news *tanglenet.Subscription, id tangle.TransactionID) {
	t.Helper()
	var last uint32
	settled := false
	for n := range news.C {
		switch v := n.(type) {
		case node.Confirmed:
			if last != 0 && v.Index != last+1 {
				t.Errorf("milestone %d came after %d", v.Index, last)
			}
			last = v.Index
		case tanglenet.Settled:
			settled = settled || v.Transaction && v.Payload == id && v.Err == nil
		}
	}
	if !settled || last == 0 || news.Lost() != 0 {
		t.Errorf("settled %v, milestones to %d, lost %d", settled, last, news.Lost())
	}
}

// TestTwoOfThree: two of three coordinators are enough, and one alone is not.
func TestTwoOfThree(t *testing.T) {
	t.Parallel()
	three := sites(t, network(t, 2, 3), 3)
	three[1].stop()
	a, err := three[2].Submit(t.Context(), &tangle.TaggedData{Tag: []byte("two")})
	if err != nil {
		t.Fatal(err)
	}
	within(t, "two include it", func() bool {
		m, _, err := three[0].Metadata(t.Context(), a.Block)
		return err == nil && m.State == node.NoTx
	})
	three[2].stop()
	there := three[0].latest()
	time.Sleep(500 * time.Millisecond)
	if now := three[0].latest(); now > there+1 {
		t.Errorf("one alone has gone on from milestone %d to %d", there, now)
	}
}

// TestWork: where work is wanted, a node does it for those who cannot, aside of its
// core, and no more than its owner allows.
func TestWork(t *testing.T) {
	net := network(t, 1, 1)
	net.MinZeros = 8
	o := coordinated(net, 0)
	o.Config.MaxWork = 1
	s := newSite(t, o)
	data := &tangle.TaggedData{Tag: []byte("a meter"), Data: []byte("21.5 C")}
	attached, err := s.Submit(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.Block(t.Context(), attached.Block)
	if err != nil || tangle.Zeros(raw) < 8 {
		t.Errorf("work of %d zeros: %v", tangle.Zeros(raw), err)
	}
	within(t, "a milestone includes it", func() bool {
		m, _, err := s.Metadata(t.Context(), attached.Block)
		return err == nil && m.State == node.NoTx
	})
	if _, err := s.Attach(t.Context(), &tangle.Block{Protocol: tangle.Protocol, Nonce: 7}); !errors.Is(err, tanglenet.ErrNonce) {
		t.Errorf("a nonce without parents: %v", err)
	}
	tips, err := s.Tips(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	empty := &tangle.Block{Protocol: tangle.Protocol, Parents: tips}
	if attached, err := s.Attach(t.Context(), empty); err != nil || attached.Payload != [32]byte{} || empty.Nonce != 0 {
		t.Errorf("an empty block: %+v, %v", attached, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Submit(ctx, data); !errors.Is(err, context.Canceled) {
		t.Errorf("not wanted any more: %v", err)
	}
	s.stop()
	s.options.MaxZeros = -1
	s.start()
	if _, err := s.Submit(t.Context(), &tangle.TaggedData{Tag: []byte("another")}); !errors.Is(err, node.ErrWork) {
		t.Errorf("work that nobody does here: %v", err)
	}
}

// TestOptions: what cannot work is refused before anything runs.
func TestOptions(t *testing.T) {
	s := newSite(t, coordinated(network(t, 1, 1), 9))
	s.Node.Close()
	for what, peer := range map[string]string{"no address": "nobody", "itself": s.at} {
		if _, err := tanglenet.Open(t.Context(), s.machine, tanglenet.Options{Config: s.options.Config, Peers: []string{peer}}); err == nil {
			t.Errorf("%s is taken for a peer", what)
		}
	}
	if _, err := s.Subscribe(1, node.Watch{}); err == nil {
		t.Error("a closed node takes subscribers")
	}
	n, err := tanglenet.Open(t.Context(), s.machine, s.options)
	if err != nil {
		t.Fatal("it does not open again: ", err)
	}
	defer n.Close()
	for range news.MaxSubscriptions {
		if _, err := n.Subscribe(0, node.Watch{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.Subscribe(0, node.Watch{}); err == nil {
		t.Error("subscribers have no limit")
	}
}
