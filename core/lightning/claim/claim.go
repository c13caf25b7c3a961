// Package claim takes home what is ours of a channel whose funding output is
// spent, or is to be spent by our own commitment (BOLT 5).
//
// What is ours follows from three things alone: the Case, which says what either
// side may have signed; the preimages; and what the chain says of each output.
// So nothing about the chain is kept. Every step looks at the whole tree of
// transactions from the funding output down, as the best chain has it now, and
// does what is still to be done: wait, publish (again), or report. A
// reorganisation is a tree that looks different. Only what cannot be looked up
// again is on disk: the Case, preimages, coins of the wallet, and what was
// reported.
//
// Every transaction of ours pays more the nearer its deadline is, in at most
// maxLevel replacements, and never more than a share of what it takes.
//
// Invariants:
//
//   - an HTLC is reported once, and only when a preimage is known or its fate is
//     Depth blocks deep.
//   - Finished comes once, after all of them, when nothing that is ours is left:
//     Ours + Theirs + Fees is the capacity.
package claim

import (
	"encoding/hex"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/step"
)

// Limits.
const (
	// MaxTraces bounds the HTLCs by which a revoked commitment is recognised.
	// One commitment has at most commit.MaxHTLCs; the rest are of others.
	MaxTraces = 1 << 16
	// MaxDepth bounds how deep the caller may want a spend to be: BOLT 5 calls
	// 100 blocks irrevocable.
	MaxDepth = 144
	// maxCoins is how many coins of the wallet pay for one channel: one per
	// second-stage transaction and one for the commitment.
	maxCoins = commit.MaxHTLCs + 1
	// maxInputs bounds one sweep, so that it is relayed.
	maxInputs = 100
	// MaxPayout bounds the script we are paid to.
	MaxPayout = 34
)

// A Trace is an HTLC that was in the peer's commitments First to Last.
type Trace struct {
	commit.HTLC
	First, Last uint64
}

// A Case is what may be published of a channel, and what to do about it. It
// does not change once the claim has begun.
type Case struct {
	Channel commit.Channel

	Local         commit.State // our latest commitment, as the peer signed it
	LocalSig      keys.Signature
	LocalHTLCSigs []keys.Signature

	Remote      commit.State // the peer's latest commitment that is not revoked
	RemotePoint keys.Public
	Next        *commit.State // the one after, if we signed it
	NextPoint   keys.Public

	Revealed commit.Revealed // for the revoked ones
	Traces   []Trace         // HTLCs of revoked commitments; more may come as Traces

	// HTLCs are those whose fate the caller wants to know. New sets it to all
	// that are in one of the commitments above if it is nil.
	HTLCs []commit.HTLC

	Payout  []byte     // script that all money goes to: the wallet's, or that of shutdown
	FeeRate tx.FeeRate // of a transaction that nothing hurries
	Depth   int32      // blocks after which the caller takes a spend for good
	Height  int32      // of the best block when the case was opened; 0: not known, the first one seen
	Force   bool       // publish our commitment; without it we only wait for the peer's
}

// ID is the channel's ID: its funding transaction's hash XOR the output's index
// (BOLT 2).
func (k *Case) ID() (id [32]byte) {
	id = k.Channel.Funding.Hash
	id[30] ^= byte(k.Channel.Funding.Index >> 8)
	id[31] ^= byte(k.Channel.Funding.Index)
	return id
}

// Prefix is the prefix of all claims' records.
const Prefix = "ln/claim/"

// Name is the name of a channel's claim among a machine's cores.
func Name(id [32]byte) string { return Prefix + hex.EncodeToString(id[:]) }

// Wallet is the outlet that is asked for coins.
const Wallet = "wallet"

// Events, each in a step.Recv.
type (
	// Preimage says that a preimage became known: another channel's peer
	// revealed it. From anybody of the same machine.
	Preimage struct{ Preimage [32]byte }
	// Traces answers Revoked: the HTLCs of the commitment that was published.
	Traces struct{ Traces []Trace }
	// Rate says what a transaction pays that nothing hurries.
	Rate struct{ FeeRate tx.FeeRate }
	// Funds answers Bump with a P2WPKH coin of the wallet's key, which the
	// wallet gives to nobody else. The same For always gets the same coin.
	Funds struct {
		For  wire.OutPoint
		Coin tx.Coin
	}
)

// Packets to Wallet.
type (
	// Bump asks for a coin that pays the fee of whatever spends For.
	Bump struct {
		For  wire.OutPoint
		Sats int64
	}
	// Release gives a coin back that was not used.
	Release struct{ Coin tx.Coin }
)

// Outcomes.
type (
	// Resolved is the fate of an HTLC: the preimage by which it was paid, or nil
	// if it never will be.
	Resolved struct {
		Hash     [32]byte
		Index    int // in Case.HTLCs
		Preimage *[32]byte
	}
	// Revoked says that the peer published a revoked commitment some of whose
	// outputs no trace explains. Send Traces.
	Revoked struct{ Number uint64 }
	// Finished says that all is buried, in satoshi. Ours is what reached Payout
	// less what the wallet put in, so it can be negative; Fees has also what was
	// not worth its fee.
	Finished struct{ Ours, Theirs, Fees int64 }
)

// Claim is the life of a channel after its end. Make one with New or Load.
type Claim struct {
	Case
	id      [32]byte
	prefix  string
	secrets commit.Secrets
	wallet  keys.Secret
	own     *commit.Commitment
	outlook map[chainhash.Hash]candidate // what the peer may publish
	wanted  map[[32]byte]bool            // hashes whose preimages matter

	// On disk.
	saved     bool // the case is
	rate      tx.FeeRate
	reported  []bool // by index in HTLCs
	finished  *Finished
	preimages map[[32]byte][32]byte
	coins     map[wire.OutPoint]tx.Coin

	// What a restart asks for again.
	tip     int32
	status  map[wire.OutPoint]watch.Status
	watched map[wire.OutPoint]bool
	said    map[chainhash.Hash]bool // published at this tip
	asked   map[wire.OutPoint]int32 // of the wallet, and the tip then
	pleaded bool                    // Revoked was sent
	cached  *tree
}

type candidate struct {
	state *commit.State
	point keys.Public
}

// New opens a case. secrets are the channel's; wallet is the key of the coins
// that Funds brings. It fails if the case contradicts itself.
func New(k Case, secrets commit.Secrets, wallet keys.Secret) (*Claim, error) {
	if k.HTLCs == nil {
		k.HTLCs = outstanding(&k)
	}
	c, err := newClaim(k, secrets, wallet)
	if err != nil {
		return nil, fmt.Errorf("claim of %x: %w", c.id[:4], err)
	}
	return c, nil
}

func newClaim(k Case, secrets commit.Secrets, wallet keys.Secret) (*Claim, error) {
	c := &Claim{
		Case: k, id: k.ID(), secrets: secrets, wallet: wallet, rate: k.FeeRate, tip: k.Height,
		reported: make([]bool, len(k.HTLCs)), preimages: map[[32]byte][32]byte{}, coins: map[wire.OutPoint]tx.Coin{},
		outlook: map[chainhash.Hash]candidate{}, wanted: map[[32]byte]bool{},
		status: map[wire.OutPoint]watch.Status{}, watched: map[wire.OutPoint]bool{},
		said: map[chainhash.Hash]bool{}, asked: map[wire.OutPoint]int32{},
	}
	c.prefix = Name(c.id) + "/"
	if err := k.check(secrets); err != nil {
		return c, err
	}
	var err error
	if c.own, err = k.Channel.Build(commit.Local, secrets.Point(k.Local.Number), k.Local); err != nil {
		return c, err
	}
	if len(k.LocalHTLCSigs) != len(c.own.Outputs) {
		return c, fmt.Errorf("our commitment has %d HTLC signatures; it must have %d", len(k.LocalHTLCSigs), len(c.own.Outputs))
	}
	if err := c.expect(&c.Remote, c.RemotePoint); err != nil {
		return c, err
	}
	if c.Next != nil {
		if err := c.expect(c.Next, c.NextPoint); err != nil {
			return c, err
		}
	}
	for _, h := range c.HTLCs {
		c.wanted[h.Hash] = true
	}
	return c, nil
}

func (k *Case) check(secrets commit.Secrets) error {
	switch {
	case secrets.Basepoints() != k.Channel.Local.Basepoints:
		return fmt.Errorf("the secrets are another channel's")
	case k.FeeRate < tx.MinFeeRate || k.FeeRate > tx.MaxFeeRate:
		return fmt.Errorf("fee rate is %d sat/kvB; it must be %d to %d", k.FeeRate, tx.MinFeeRate, tx.MaxFeeRate)
	case k.Depth < 1 || k.Depth > MaxDepth:
		return fmt.Errorf("depth is %d; it must be 1 to %d", k.Depth, MaxDepth)
	case len(k.Payout) == 0 || len(k.Payout) > MaxPayout:
		return fmt.Errorf("payout script is %d bytes; it must be 1 to %d", len(k.Payout), MaxPayout)
	case len(k.Traces) > MaxTraces:
		return fmt.Errorf("%d traces; the limit is %d", len(k.Traces), MaxTraces)
	case len(k.HTLCs) > maxReported:
		return fmt.Errorf("%d HTLCs; the limit is %d", len(k.HTLCs), maxReported)
	}
	return nil
}

// expect notes a commitment of the peer's that may be published.
func (c *Claim) expect(s *commit.State, point keys.Public) error {
	k, err := c.Channel.Build(commit.Remote, point, *s)
	if err != nil {
		return err
	}
	c.outlook[k.ID] = candidate{s, point}
	return nil
}

// maxReported bounds Case.HTLCs: three commitments without one in common.
const maxReported = 3 * commit.MaxHTLCs

// outstanding is every HTLC of the three commitments, each as often as the one
// that has it most often.
func outstanding(k *Case) (all []commit.HTLC) {
	have := map[commit.HTLC]int{}
	states := []*commit.State{&k.Local, &k.Remote}
	if k.Next != nil {
		states = append(states, k.Next)
	}
	for _, s := range states {
		count := map[commit.HTLC]int{}
		for _, h := range s.HTLCs {
			if count[h]++; count[h] > have[h] {
				have[h] = count[h]
				all = append(all, h)
			}
		}
	}
	return all
}

// rebroadcast is how long a transaction may be lost before it is sent again
// without a new block.
const rebroadcast = 10 * step.Minute

const again = "again"

// Step takes watch.Status from the chain, the events above, and alarms.
func (c *Claim) Step(in step.Input) step.Effects {
	var fx step.Effects
	if !c.saved {
		c.saved = true
		fx.Put = append(fx.Put, c.caseRecord(), c.head())
	}
	look := false
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Recv:
			look = c.recv(ev, &fx) || look
		case step.Rang:
			if c.finished != nil {
				continue
			}
			look = true
			clear(c.said)
			for point := range c.asked {
				c.asked[point] = -1
			}
			fx.Wake = append(fx.Wake, step.Alarm{ID: again, At: in.At + rebroadcast})
		}
	}
	if look && c.finished == nil {
		c.act(&fx)
	}
	return fx
}

// recv takes in one message and reports whether anything may have changed.
func (c *Claim) recv(ev step.Recv, fx *step.Effects) bool {
	if c.finished != nil {
		return false
	}
	switch msg := ev.Msg.(type) {
	case watch.Status:
		if ev.From != watch.Chain || !c.watched[msg.Point] {
			return false
		}
		c.status[msg.Point] = msg
		if c.Height == 0 { // nobody knew it when the case was opened
			c.Height = msg.Tip
			fx.Put = append(fx.Put, c.caseRecord())
		}
		if msg.Tip != c.tip {
			c.tip = msg.Tip
			clear(c.said)
		}
	case Preimage:
		return c.learn(msg.Preimage, fx)
	case Traces:
		if len(c.Traces)+len(msg.Traces) > MaxTraces {
			return false
		}
		c.Traces = append(c.Traces, msg.Traces...)
		c.cached = nil
		fx.Put = append(fx.Put, c.caseRecord())
	case Rate:
		if msg.FeeRate < tx.MinFeeRate || msg.FeeRate > tx.MaxFeeRate || msg.FeeRate == c.rate {
			return false
		}
		c.rate = msg.FeeRate
		fx.Put = append(fx.Put, c.head())
	case Funds:
		return ev.From == Wallet && c.fund(msg, fx)
	default:
		return false
	}
	return true
}
