package wallet

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
	"coinop.dev/core/consent"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Records, all of public things.
//
//	wallet/head         next numbers
//	wallet/a/<name>     an account
//	wallet/o/<id>       an order
//	wallet/b/<n>        a batch
//	wallet/i/<id>       a bill
//	wallet/c/<hash>     an invitation, by its code's hash
//	wallet/h/<name>/<n> a line of an account's history
//	wallet/t/<height>   a header
const (
	headKey    = "wallet/head"
	accountKey = "wallet/a/"
	ordersKey  = "wallet/o/"
	batchesKey = "wallet/b/"
	billsKey   = "wallet/i/"
	invitesKey = "wallet/c/"
	linesKey   = "wallet/h/"
)

func orderKey(id money.OrderID) string { return ordersKey + id.Key() }
func billKey(id money.OrderID) string  { return billsKey + id.Key() }
func batchKey(n uint64) string         { return fmt.Sprintf("%s%016x", batchesKey, n) }
func inviteKey(hash [32]byte) string   { return invitesKey + hex.EncodeToString(hash[:]) }
func historyKey(account string, n uint64) string {
	return fmt.Sprintf("%s%s/%016x", linesKey, account, n)
}

func (w *Wallet) headRecord() step.Record {
	b := codec.AppendUint(nil, w.nextOrder)
	b = codec.AppendUint(b, w.nextBatch)
	return step.Record{Key: headKey, Value: codec.AppendUint(b, w.nextBill)}
}

const (
	flagRevoked = 1 << iota
	flagSolo
	flagSeen
)

func (a *account) record() step.Record {
	flags := byte(0)
	if a.revoked {
		flags |= flagRevoked
	}
	if a.solo {
		flags |= flagSolo
	}
	if a.seen != nil {
		flags |= flagSeen
	}
	b := []byte{flags}
	for _, text := range []string{a.text, a.signer, a.tenant} {
		b = codec.AppendBytes(b, text)
	}
	b = codec.AppendUint(b, a.since)
	b = append(b, a.code[:]...)
	for branch := range a.next {
		b = codec.AppendUint(b, a.next[branch])
		b = codec.AppendUint(b, a.used[branch])
	}
	if a.seen != nil {
		b = codec.AppendBytes(b, a.seen.Append(nil))
	}
	return step.Record{Key: accountKey + a.name, Value: b}
}

func (w *Wallet) readAccount(name string, r *codec.Reader) (*account, error) {
	a := &account{name: name, coins: map[string][]*coin{}, noted: map[string]bool{}}
	flags := r.U8()
	a.revoked, a.solo = flags&flagRevoked != 0, flags&flagSolo != 0
	a.text, a.signer, a.tenant = r.String(maxRecordText, "descriptor"), r.String(maxName, "signer"), r.String(maxText, "tenant")
	a.since = r.Height()
	r.Fill(a.code[:])
	for branch := range a.next {
		a.next[branch], a.used[branch] = uint32(r.Int(maxIndex, "index")), uint32(r.Int(maxIndex, "index"))
	}
	if flags&flagSeen != 0 {
		m, err := consent.Decode(r.Bytes(consent.MaxMessage, "consent"))
		seen, ok := m.(consent.Seen)
		if err != nil || !ok {
			return nil, fmt.Errorf("the consent that was seen: %v", err)
		}
		a.seen = &seen
	}
	if r.Err() != nil {
		return a, nil // told by the reader
	}
	desc, err := descriptor.Parse(a.text, w.o.Params)
	a.desc = desc
	return a, err
}

// maxRecordText bounds a descriptor in canonical form, in bytes.
const maxRecordText = 2 * MaxDescriptor

// maxIndex is the highest index of an address: MaxAddresses, and what may have
// been watched ahead of it.
const maxIndex = 2*MaxAddresses + MaxGap

const (
	flagAlone = 1 << iota
	flagBatch
)

func (o *order) record() step.Record {
	flags := byte(0)
	if o.alone {
		flags |= flagAlone
	}
	settledBatch := o.state == settled && o.batch != nil
	if settledBatch {
		flags |= flagBatch
	}
	b := codec.AppendUint(nil, o.n)
	b = append(b, byte(o.state), flags)
	b = codec.AppendBytes(b, o.Account)
	b = codec.AppendBytes(b, o.Script)
	b = codec.AppendUint(b, o.Amount)
	b = codec.AppendUint(b, int64(o.Rate))
	b = codec.AppendBytes(b, o.from)
	b = codec.AppendUint(b, max(0, int64(o.at)))
	if settledBatch {
		b = codec.AppendUint(b, o.batch.n)
		b = codec.AppendUint(b, o.out)
	}
	if o.state == failed {
		b = codec.AppendBytes(append(b, byte(o.kind)), o.why)
	}
	return step.Record{Key: orderKey(o.Order), Value: b}
}

// readOrder also returns the number of the batch that settled it.
func readOrder(name string, r *codec.Reader) (o *order, batch uint64, has bool) {
	id, ok := money.OrderIDFromKey(name)
	if !ok {
		r.Fail(fmt.Errorf("%q is not an order", name))
	}
	o = &order{n: r.Uvarint(), state: orderState(r.U8())}
	flags := r.U8()
	o.alone, has = flags&flagAlone != 0, flags&flagBatch != 0
	o.Order, o.Account, o.Script, o.Amount = id, r.String(maxName, "account"), r.Bytes(MaxScript, "script"), r.Amount()
	o.Rate = tx.FeeRate(r.Int(int(tx.MaxFeeRate), "fee rate"))
	o.from, o.at = r.String(maxName, "peer"), step.Time(r.Uvarint())
	if has {
		batch, o.out = r.Uvarint(), uint32(r.Int(tx.MaxSize, "output"))
	}
	switch {
	case o.state == failed:
		o.kind, o.why = money.Kind(r.U8()), r.String(maxText, "reason")
	case o.state > failed:
		r.Fail(fmt.Errorf("order has the state %d", o.state))
	}
	return o, batch, has
}

const (
	flagStopped = 1 << iota
	flagAnswered
	flagFinal
)

func (b *batch) record() step.Record {
	flags := byte(0)
	if b.stopped {
		flags |= flagStopped
	}
	if b.answered {
		flags |= flagAnswered
	}
	if b.final() {
		flags |= flagFinal
	}
	v := append([]byte{}, flags)
	v = codec.AppendBytes(v, b.proof)
	if b.final() {
		return step.Record{Key: batchKey(b.n), Value: v}
	}
	v = codec.AppendUint(v, max(b.height, 0))
	v = codec.AppendUint(v, b.parent)
	v = codec.AppendUint(v, len(b.members))
	for _, m := range b.members {
		v = m.append(v)
	}
	v = codec.AppendUint(v, len(b.versions))
	for _, x := range b.versions {
		v = x.append(v)
	}
	return step.Record{Key: batchKey(b.n), Value: v}
}

func (m *member) append(b []byte) []byte {
	b = codec.AppendBytes(b, m.account)
	b = appendBool(b, m.gone)
	b = codec.AppendUint(b, m.changeIndex)
	b = append(b, m.agreed[:]...)
	b = codec.AppendUint(b, len(m.inputs))
	for _, in := range m.inputs {
		b = codec.AppendUint(b, in.script.branch)
		b = codec.AppendUint(b, in.script.index)
		b = codec.AppendUint(b, in.point.Index)
		b = codec.AppendBytes(b, tx.Bytes(in.tx))
		if b = appendBool(b, in.proof != nil); in.proof != nil {
			b = in.proof.Append(b)
		}
	}
	b = codec.AppendUint(b, len(m.orders))
	for _, o := range m.orders {
		b = append(b, o.Order[:]...)
	}
	return b
}

func (v *version) append(b []byte) []byte {
	b = codec.AppendBytes(b, tx.Bytes(v.tx))
	b = appendBool(b, v.full)
	b = codec.AppendUint(b, int64(v.rate))
	b = codec.AppendUint(b, max(v.at, 0))
	b = codec.AppendUint(b, len(v.shares))
	for _, s := range v.shares {
		b = codec.AppendUint(b, s.member)
		b = codec.AppendUint(b, s.inputs)
		b = codec.AppendUint(b, len(s.outs))
		for _, out := range s.outs {
			b = codec.AppendUint(b, out)
		}
		b = codec.AppendUint(b, s.change)
		b = codec.AppendUint(b, s.changeOut)
		b = codec.AppendUint(b, s.fee)
		b = append(b, s.id[:]...)
		b = append(b, s.replaces[:]...)
		b = codec.AppendUint(b, len(s.sigs))
		for _, sig := range s.sigs {
			b = codec.AppendBytes(b, sig)
		}
		b = codec.AppendBytes(b, s.held)
	}
	return b
}

func (w *Wallet) readBatch(n uint64, r *codec.Reader) *batch {
	b := &batch{n: n, mined: -1}
	flags := r.U8()
	b.stopped, b.answered = flags&flagStopped != 0, flags&flagAnswered != 0
	b.proof = r.Bytes(tx.MaxSize+MaxProof, "proof")
	if flags&flagFinal != 0 {
		b.mined = finished
		return b
	}
	b.height, b.parent = r.Height(), r.Uvarint()
	for k := r.Int(MaxMembers, "number of members"); k > 0 && r.Err() == nil; k-- {
		b.members = append(b.members, w.readMember(r))
	}
	for k := r.Int(MaxVersions, "number of versions"); k > 0 && r.Err() == nil; k-- {
		b.versions = append(b.versions, b.readVersion(r))
	}
	return b
}

func (w *Wallet) readMember(r *codec.Reader) *member {
	m := &member{account: r.String(maxName, "account"), gone: readBool(r), changeIndex: uint32(r.Int(maxIndex, "index"))}
	r.Fill(m.agreed[:])
	a := w.accounts[m.account]
	if a == nil {
		r.Fail(fmt.Errorf("account %.90q is unknown", m.account))
		return m
	}
	for k := r.Int(MaxInputs, "number of inputs"); k > 0 && r.Err() == nil; k-- {
		in := &input{}
		branch, index := uint32(r.Int(change, "branch")), uint32(r.Int(maxIndex, "index"))
		in.point.Index = uint32(r.Int(tx.MaxSize, "output"))
		raw := r.Bytes(tx.MaxSize, "transaction")
		if readBool(r) {
			p := merkle.ReadProof(r)
			in.proof = &p
		}
		if r.Err() != nil {
			break
		}
		if err := in.restore(a, branch, index, raw); err != nil {
			r.Fail(err)
		}
		m.inputs = append(m.inputs, in)
	}
	for k := r.Int(MaxOrders, "number of orders"); k > 0 && r.Err() == nil; k-- {
		var id money.OrderID
		r.Fill(id[:])
		o := w.orders[id]
		if r.Err() == nil && (o == nil || o.Account != m.account) {
			r.Fail(fmt.Errorf("order %v is not account %s's", id, m.account))
			break
		}
		m.orders = append(m.orders, o)
	}
	return m
}

func (in *input) restore(a *account, branch, index uint32, raw []byte) (err error) {
	if in.tx, err = tx.Parse(raw); err != nil {
		return err
	}
	if in.script, err = a.script(branch, index); err != nil {
		return err
	}
	if int(in.point.Index) >= len(in.tx.TxOut) {
		return fmt.Errorf("output %d of %d is an input", in.point.Index, len(in.tx.TxOut))
	}
	in.point.Hash, in.value = in.tx.TxHash(), in.tx.TxOut[in.point.Index].Value
	return nil
}

func (b *batch) readVersion(r *codec.Reader) *version {
	raw := r.Bytes(tx.MaxSize, "transaction")
	v := &version{full: readBool(r), rate: tx.FeeRate(r.Uint(1<<40, "fee rate")), at: r.Height(), tx: &wire.MsgTx{}}
	if r.Err() == nil {
		t, err := parseUnsigned(raw)
		if err != nil {
			r.Fail(err)
			return v
		}
		v.tx = t
	}
	for k := r.Int(MaxMembers, "number of shares"); k > 0 && r.Err() == nil; k-- {
		v.shares = append(v.shares, b.readShare(r, v))
	}
	return v
}

// parseUnsigned reads a transaction, which may have no witness at all.
func parseUnsigned(raw []byte) (*wire.MsgTx, error) { return tx.Parse(raw) }

func (b *batch) readShare(r *codec.Reader, v *version) *share {
	s := &share{member: r.Int(max(len(b.members)-1, 0), "member"), inputs: r.Int(MaxInputs, "number of inputs")}
	for k := r.Int(MaxOrders, "number of outputs"); k > 0 && r.Err() == nil; k-- {
		s.outs = append(s.outs, uint32(r.Int(max(len(v.tx.TxOut)-1, 0), "output")))
	}
	s.change, s.changeOut, s.fee = readSats(r), uint32(r.Int(max(len(v.tx.TxOut)-1, 0), "output")), readSats(r)
	r.Fill(s.id[:])
	r.Fill(s.replaces[:])
	for k := r.Int(MaxInputs, "number of signatures"); k > 0 && r.Err() == nil; k-- {
		s.sigs = append(s.sigs, r.Bytes(73, "signature"))
	}
	if s.held = r.Bytes(consent.MaxMessage, "proposal"); s.held != nil {
		m, err := consent.Decode(s.held)
		p, ok := m.(consent.Proposal)
		if err != nil || !ok {
			r.Fail(fmt.Errorf("the proposal before this: %v", err))
			return s
		}
		s.open.id = p.ID
	}
	if r.Err() == nil {
		if len(b.members) == 0 || s.inputs > len(b.members[s.member].inputs) || len(s.outs) != len(b.members[s.member].orders) {
			r.Fail(fmt.Errorf("a share has %d inputs and %d outputs, and its member has not", s.inputs, len(s.outs)))
		}
	}
	return s
}

func (b *bill) record() step.Record {
	v := codec.AppendUint(nil, b.n)
	v = codec.AppendBytes(v, b.account)
	v = codec.AppendUint(v, b.index)
	v = codec.AppendUint(v, b.amount)
	v = codec.AppendUint(v, max(0, int64(b.expires)))
	v = codec.AppendUint(v, b.told)
	v = codec.AppendUint(v, b.got)
	v = appendBool(v, b.late)
	v = codec.AppendUint(v, len(b.counted))
	for _, p := range b.counted {
		v = append(v, p.Hash[:]...)
		v = codec.AppendUint(v, p.Index)
	}
	return step.Record{Key: billKey(b.order), Value: v}
}

func readBill(name string, r *codec.Reader) *bill {
	id, ok := money.OrderIDFromKey(name)
	if !ok {
		r.Fail(fmt.Errorf("%q is not an order", name))
	}
	b := &bill{order: id, n: r.Uvarint(), account: r.String(maxName, "account"), index: uint32(r.Int(maxIndex, "index"))}
	b.amount, b.expires = r.Amount(), step.Time(r.Uvarint())
	b.told, b.got, b.late = r.Amount(), r.Amount(), readBool(r)
	for k := r.Int(maxBillCoins, "number of coins"); k > 0 && r.Err() == nil; k-- {
		var p wire.OutPoint
		r.Fill(p.Hash[:])
		p.Index = uint32(r.Uint(1<<32-1, "output"))
		b.counted = append(b.counted, p)
	}
	return b
}

func (v invite) record(hash [32]byte) step.Record {
	b := codec.AppendBytes(nil, v.account)
	b = codec.AppendBytes(b, v.tenant)
	return step.Record{Key: inviteKey(hash), Value: codec.AppendUint(b, max(0, int64(v.expires)))}
}

func (e Entry) record(a *account, n uint64) step.Record {
	b := codec.AppendBytes(nil, e.Point)
	b = codec.AppendUint(b, max(e.Height, 0))
	b = appendBool(b, e.Sats < 0)
	b = codec.AppendUint(b, max(e.Sats, -e.Sats))
	return step.Record{Key: historyKey(a.name, n), Value: append(b, e.Order[:]...)}
}

func readEntry(r *codec.Reader) (e Entry) {
	e.Point, e.Height = r.String(maxName, "outpoint"), r.Height()
	negative := readBool(r)
	if e.Sats = readSats(r); negative {
		e.Sats = -e.Sats
	}
	r.Fill(e.Order[:])
	return e
}

// Durable is everything the wallet has on disk, for whoever wants to check it.
func (w *Wallet) Durable() (all []step.Record) {
	if w.nextOrder+w.nextBatch+w.nextBill > 0 {
		all = append(all, w.headRecord())
	}
	for _, a := range w.accounts {
		all = append(all, a.record())
		for i, e := range a.history {
			all = append(all, e.record(a, a.first+uint64(i)))
		}
	}
	for _, o := range w.orders {
		all = append(all, o.record())
	}
	for _, b := range w.batches {
		all = append(all, b.record())
	}
	for _, b := range w.archive {
		all = append(all, b.record())
	}
	for _, b := range w.bills {
		all = append(all, b.record())
	}
	for hash, v := range w.invites {
		all = append(all, v.record(hash))
	}
	for i := range w.tail.headers {
		all = append(all, step.Record{Key: headerKey(w.tail.base + int32(i)), Value: appendHeaders(nil, w.tail.headers[i:i+1])})
	}
	slices.SortFunc(all, func(a, b step.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}
