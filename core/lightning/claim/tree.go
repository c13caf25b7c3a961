package claim

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
)

// Kind is how a channel ended.
type Kind uint8

const (
	Unspent     Kind = iota // the funding output is not spent
	Cooperative             // a closing transaction
	Ours                    // our latest commitment
	Theirs                  // the peer's latest, or the one it has not revoked yet
	Cheat                   // a revoked commitment of the peer's
	Unknown                 // a commitment of the peer's that we do not know: we lost data
)

// String is the kind in words.
func (k Kind) String() string {
	return [...]string{"unspent", "cooperative", "ours", "theirs", "revoked", "unknown"}[k]
}

// role is what an output is to us.
type role uint8

const (
	peers   role = iota // the peer's from the start, or nobody's
	paid                // pays Payout
	toUs                // to_remote of a commitment of the peer's
	delayed             // ours after our delay: to_local and second stage of our commitment
	penal               // to_local and second stage of a revoked commitment
	htlc                // an HTLC's
	anchor              // our anchor
)

// An output is one that the channel's money is in.
type output struct {
	wire.OutPoint
	role    role
	value   int64
	pk      []byte
	script  []byte // witness script, or nil for P2WPKH
	htlc    commit.HTLC
	offered bool // by the owner of the commitment
	report  int  // index in Case.HTLCs, or -1
	index   int  // with Ours: in Commitment.Outputs
}

// A tree is how one spend of the funding output divides the money.
type tree struct {
	kind    Kind
	id      chainhash.Hash
	number  uint64 // of the commitment
	owner   commit.Owner
	point   keys.Public
	second  []byte // witness script of second-stage outputs
	outputs []output

	revocation          keys.Secret // with Cheat
	revocationKey       keys.Public
	delayedKey, htlcKey keys.Secret // ours in this commitment
	unknown             bool        // with Cheat: an output that no trace explains
	absent              []int       // reports without an output
}

// treeOf reads the transaction that spends the funding output.
func (c *Claim) treeOf(spender *wire.MsgTx) *tree {
	id := spender.TxHash()
	if c.cached != nil && c.cached.id == id {
		return c.cached
	}
	t := &tree{id: id}
	number, isCommitment := c.Channel.Number(spender)
	t.number = number
	known, isExpected := c.outlook[id]
	switch {
	case id == c.own.ID:
		t.kind, t.owner = Ours, commit.Local
		c.built(t, c.own, &c.Local)
	case isExpected:
		t.kind, t.owner = Theirs, commit.Remote
		k, err := c.Channel.Build(commit.Remote, known.point, *known.state)
		if err != nil {
			panic(err) // it was built before
		}
		c.built(t, k, known.state)
	case !isCommitment:
		t.kind = Cooperative
		c.plain(t, spender, c.Payout, paid)
	default:
		t.owner = commit.Remote
		if secret, ok := c.Revealed.Secret(number); ok && !c.outdated(number, spender) && c.revoked(t, spender, secret) {
			break
		}
		t.kind = Unknown
		c.plain(t, spender, c.Channel.Type.ToRemotePkScript(c.Channel.Local.Payment), toUs)
	}
	t.absent = c.match(t.outputs)
	c.cached = t
	return t
}

// plain sorts outputs by one script that is ours.
func (c *Claim) plain(t *tree, spender *wire.MsgTx, pk []byte, ours role) {
	anchorPk := tx.P2WSH(commit.AnchorScript(c.Channel.Local.Funding))
	for i, o := range spender.TxOut {
		out := output{OutPoint: wire.OutPoint{Hash: t.id, Index: uint32(i)}, value: o.Value, pk: o.PkScript, report: -1}
		switch {
		case bytes.Equal(o.PkScript, pk) && ours == toUs:
			out.role, out.script = toUs, c.toUsScript()
		case bytes.Equal(o.PkScript, pk):
			out.role = ours
		case bytes.Equal(o.PkScript, anchorPk):
			out.role = anchor
		}
		t.outputs = append(t.outputs, out)
	}
}

func (c *Claim) toUsScript() []byte {
	if c.Channel.Type == commit.Anchors {
		return commit.ToRemoteScript(c.Channel.Local.Payment)
	}
	return nil
}

// built takes the outputs of a commitment that we can build ourselves.
func (c *Claim) built(t *tree, k *commit.Commitment, s *commit.State) {
	t.point, t.second = k.Point, k.SecondScript()
	t.delayedKey, t.htlcKey = commit.DeriveSecret(c.secrets.Delayed, k.Point), commit.DeriveSecret(c.secrets.HTLC, k.Point)
	t.outputs = make([]output, len(k.Tx.TxOut))
	for i, o := range k.Tx.TxOut {
		t.outputs[i] = output{OutPoint: wire.OutPoint{Hash: k.ID, Index: uint32(i)}, value: o.Value, pk: o.PkScript, report: -1}
	}
	ours, anchorOf := k.ToRemote, k.RemoteAnchor
	role, script := toUs, c.toUsScript()
	if k.Owner == commit.Local {
		ours, anchorOf = k.ToLocal, k.LocalAnchor
		role, script = delayed, t.second
	}
	if ours >= 0 {
		t.outputs[ours].role, t.outputs[ours].script = role, script
	}
	if anchorOf >= 0 {
		t.outputs[anchorOf].role, t.outputs[anchorOf].script = anchor, commit.AnchorScript(c.Channel.Local.Funding)
	}
	for i := range k.Outputs {
		h := &k.Outputs[i]
		o := &t.outputs[h.Vout]
		o.role, o.script, o.htlc, o.offered, o.index = htlc, h.Script, s.HTLCs[h.HTLC], h.Offered, i
	}
}

// revoked recognises the outputs of a revoked commitment by what may have been in
// it. It reports false if nothing fits: then it is none.
func (c *Claim) revoked(t *tree, spender *wire.MsgTx, secret [32]byte) bool {
	point, err := commit.PointOf(secret)
	if err != nil {
		return false
	}
	k, err := c.Channel.Keys(commit.Remote, point)
	if err != nil {
		return false
	}
	if t.revocation, err = commit.RevocationSecret(c.secrets.Revocation, secret); err != nil {
		return false
	}
	t.kind, t.point, t.revocationKey = Cheat, point, k.Revocation
	t.second = commit.ToLocalScript(k.Revocation, k.Delayed, c.Channel.Remote.Delay)
	known := map[string]output{
		string(tx.P2WSH(t.second)):                                      {role: penal, script: t.second},
		string(c.Channel.Type.ToRemotePkScript(k.Payment)):              {role: toUs, script: c.toUsScript()},
		string(tx.P2WSH(commit.AnchorScript(c.Channel.Local.Funding))):  {role: anchor, script: commit.AnchorScript(c.Channel.Local.Funding)},
		string(tx.P2WSH(commit.AnchorScript(c.Channel.Remote.Funding))): {role: peers},
	}
	traces := c.suspects(t, k)
	fits := false
	for i, o := range spender.TxOut {
		out, ok := known[string(o.PkScript)]
		if list := traces[string(o.PkScript)]; !ok && len(list) > 0 {
			// The same script twice is the same hash twice; amounts may differ.
			best := max(slices.IndexFunc(list, func(l output) bool { return l.htlc.Amount.Sats() == o.Value }), 0)
			out, ok = list[best], true
			traces[string(o.PkScript)] = slices.Delete(list, best, best+1)
		}
		out.OutPoint, out.value, out.pk, out.report = wire.OutPoint{Hash: t.id, Index: uint32(i)}, o.Value, o.PkScript, -1
		t.outputs = append(t.outputs, out)
		t.unknown = t.unknown || !ok
		fits = fits || ok
	}
	if !fits {
		t.outputs, t.unknown = nil, false
	}
	return fits
}

// outdated reports whether a commitment is one of ours that we have revoked: from
// an old copy of this machine's disk, say. Everything in it is the peer's, and the
// anchors in it are like those of the peer's commitments.
func (c *Claim) outdated(number uint64, spender *wire.MsgTx) bool {
	k, err := c.Channel.Keys(commit.Local, c.secrets.Point(number))
	if err != nil {
		return false
	}
	delayed := tx.P2WSH(commit.ToLocalScript(k.Revocation, k.Delayed, c.Channel.Local.Delay))
	toRemote := c.Channel.Type.ToRemotePkScript(k.Payment)
	return slices.ContainsFunc(spender.TxOut, func(o *wire.TxOut) bool {
		return bytes.Equal(o.PkScript, delayed) || bytes.Equal(o.PkScript, toRemote)
	})
}

// suspects are the outputs that the HTLCs of a revoked commitment would have, by
// scriptPubKey.
func (c *Claim) suspects(t *tree, k commit.Keys) map[string][]output {
	all := map[string][]output{}
	for _, trace := range c.Traces {
		if t.number < trace.First || t.number > trace.Last {
			continue
		}
		offered := trace.Offered(commit.Remote)
		script := c.Channel.Type.HTLCScript(k, offered, trace.Hash, trace.Expiry)
		pk := string(tx.P2WSH(script))
		all[pk] = append(all[pk], output{role: htlc, script: script, htlc: trace.HTLC, offered: offered})
	}
	return all
}

// match finds the output of each HTLC to report on; it returns those without.
func (c *Claim) match(outputs []output) (absent []int) {
	where := map[commit.HTLC][]int{}
	for i := range outputs {
		if outputs[i].role == htlc {
			where[outputs[i].htlc] = append(where[outputs[i].htlc], i)
		}
	}
	for i, h := range c.HTLCs {
		list := where[h]
		if len(list) == 0 {
			absent = append(absent, i)
			continue
		}
		outputs[list[0]].report = i
		where[h] = list[1:]
	}
	return absent
}

// A spend is who took an output, and how.
type spend struct {
	by       commit.Owner
	second   bool // by a second-stage transaction of the commitment's owner
	vin      int
	preimage *[32]byte
}

// spendOf reads the witness that spends o. The script has seen to it that a
// witness of this shape was signed by whoever it names.
func (t *tree) spendOf(o *output, spender *wire.MsgTx) (s spend) {
	s.vin = -1
	for i, in := range spender.TxIn {
		if in.PreviousOutPoint == o.OutPoint {
			s.vin = i
		}
	}
	if s.vin < 0 {
		return s // the chain is confused: it says so of another output
	}
	w := spender.TxIn[s.vin].Witness
	other := t.owner.Other()
	switch {
	case o.role == toUs || o.role == anchor:
		s.by = commit.Local
	case o.role == htlc && len(w) == 5:
		s.by, s.second = t.owner, true
		s.preimage = preimageIn(w[3], o)
	case o.role == htlc && len(w) == 3:
		s.by = other
		s.preimage = preimageIn(w[1], o)
	case len(w) == 3 && len(w[1]) > 0: // the revocation branch
		s.by = other
	default:
		s.by = t.owner
	}
	return s
}

func preimageIn(b []byte, o *output) *[32]byte {
	if len(b) != 32 || sha256.Sum256(b) != o.htlc.Hash {
		return nil
	}
	p := [32]byte(b)
	return &p
}
