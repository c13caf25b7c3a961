package wallet

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/consent"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Branches of an account (BIP 44).
const (
	receive = 0
	change  = 1
)

// changeAhead is how many change addresses are watched beyond those used: a
// wallet restored elsewhere may have been a few ahead.
const changeAhead = 3

// Open makes an account, or says that it is there: the operator's way, without
// a claim. The outcome's value is a View.
type Open struct {
	Ask        string // ID of the outcome
	Account    string
	Descriptor string
	Signer     string // LocalSigner, or the name of a peer
	Tenant     string // for people
	Since      int32  // no block below it matters; 0: the tip
}

// Revoke ends an account: what is not published is withdrawn and answered
// Unpaid, and nothing more is proposed. What is published runs its course. The
// outcome's value is a View.
type Revoke struct {
	Ask     string
	Account string
}

// Invite allows whoever shows Code, once and before Expires, to open an account.
// Code is a secret that the operator drew; only its hash is kept.
type Invite struct {
	Ask     string
	Code    string // MinCode to MaxCode bytes
	Account string // the account's name
	Tenant  string
	Expires step.Time
}

// MinCode and MaxCode bound a claim code in bytes: 16 characters of base 32 are
// 80 bits, which nobody guesses over a link.
const (
	MinCode = 16
	MaxCode = 64
)

type invite struct {
	account, tenant string
	expires         step.Time
}

// Fresh asks for a new address of an account. The outcome's value is an Address.
type Fresh struct {
	Ask     string
	Account string
}

// An Address is one that nobody was given before.
type Address struct {
	Account string `json:"account"`
	Index   uint32 `json:"index"`
	Script  []byte `json:"-"`
	Text    string `json:"address"`
}

// account is what the wallet knows of one descriptor.
type account struct {
	name, signer, tenant string
	text                 string // the descriptor, canonical
	desc                 descriptor.Descriptor
	since                int32
	code                 [32]byte // of the invitation it was claimed with
	revoked              bool
	solo                 bool          // its signer takes no part in joint transactions
	next                 [2]uint32     // first index that was not handed out, by branch
	used                 [2]uint32     // one past the last index that was paid
	seen                 *consent.Seen // the signer's consent with the highest counter

	// Not on disk: what the chain says.
	list   [2][]*script // derived and watched, by branch and index
	silent int          // scripts of which the chain has not told yet
	coins  map[string][]*coin
	count  int // coins

	waiting []*order // not in a transaction
	pending int      // orders that are not answered, waiting ones included
	open    int      // transactions on their way
	history []Entry
	noted   map[string]bool
	first   uint64 // number of history[0]
}

type script struct {
	account *account
	descriptor.Script
	branch, index uint32
	told          bool
}

// An Entry is a line of an account's history.
type Entry struct {
	Point  string        `json:"point"` // transaction and output; of a payment only the transaction
	Height int32         `json:"height"`
	Sats   int64         `json:"sat"` // negative: what left the account, fee included
	Order  money.OrderID `json:"order,omitzero"`
}

func (w *Wallet) fail(id string, kind money.Kind, op string, err error, fx *step.Effects) {
	fx.Done = append(fx.Done, step.Outcome{ID: id, Err: &money.Error{Kind: kind, Op: op, Err: err}})
}

func (w *Wallet) open(ev Open, fx *step.Effects) {
	a, err := w.admit(ev, fx)
	if err != nil {
		w.fail(ev.Ask, money.Refused, "open account "+ev.Account, err, fx)
		return
	}
	fx.Done = append(fx.Done, step.Outcome{ID: ev.Ask, Value: w.view(a)})
}

// admit makes an account unless the very same is there.
func (w *Wallet) admit(ev Open, fx *step.Effects) (*account, error) {
	desc, err := descriptor.Parse(ev.Descriptor, w.o.Params)
	if err != nil {
		return nil, err
	}
	if !desc.Account() {
		return nil, errors.New("the descriptor has no receive and change branch; write it with <0;1>/*")
	}
	text := desc.String()
	if a := w.accounts[ev.Account]; a != nil {
		if a.text == text && a.signer == ev.Signer && !a.revoked {
			return a, nil
		}
		return nil, fmt.Errorf("account %q is there already with another descriptor or signer, or is revoked; choose another name", ev.Account)
	}
	if err := w.admissible(ev, text); err != nil {
		return nil, err
	}
	a := &account{
		name: ev.Account, signer: ev.Signer, tenant: ev.Tenant, text: text, desc: desc, since: ev.Since,
		coins: map[string][]*coin{}, noted: map[string]bool{},
	}
	if a.since == 0 {
		a.since = max(w.tip, 0)
	}
	if err := w.derive(a, fx); err != nil {
		return nil, err
	}
	w.seat(a)
	w.dirty[a.name] = true
	return a, nil
}

func (w *Wallet) admissible(ev Open, text string) error {
	peer, isPeer := strings.CutPrefix(ev.Signer, "peer/")
	if isPeer {
		if _, err := keys.ParsePublicHex(peer); err != nil {
			return fmt.Errorf("signer %q: %w", ev.Signer, err)
		}
	}
	switch {
	case ev.Account == "" || len(ev.Account) > maxName || strings.ContainsAny(ev.Account, "/\n"):
		return fmt.Errorf("account name %.90q is empty, has a slash or is over %d bytes", ev.Account, maxName)
	case len(text) > maxRecordText:
		return fmt.Errorf("the descriptor is %d bytes; the limit is %d", len(text), maxRecordText)
	case len(ev.Tenant) > maxText:
		return fmt.Errorf("tenant is %d bytes; the limit is %d", len(ev.Tenant), maxText)
	case !isPeer && ev.Signer != LocalSigner:
		return fmt.Errorf("signer %.90q is neither %q nor a peer", ev.Signer, LocalSigner)
	case len(w.accounts) >= MaxAccounts:
		return fmt.Errorf("%d accounts are open, which is the limit", MaxAccounts)
	}
	for _, a := range w.accounts {
		if a.text == text {
			return errors.New("the descriptor is another account's")
		}
	}
	return nil
}

func (w *Wallet) seat(a *account) {
	w.accounts[a.name] = a
	at, _ := slices.BinarySearch(w.names, a.name)
	w.names = slices.Insert(w.names, at, a.name)
	own := w.bySigner[a.signer]
	at, _ = slices.BinarySearchFunc(own, a.name, func(a *account, name string) int { return strings.Compare(a.name, name) })
	w.bySigner[a.signer] = slices.Insert(own, at, a)
}

// derive makes the scripts of an account as far ahead as they are watched, and
// watches the new ones. Nobody is answered for want of coins before the chain has
// told of all of them.
func (w *Wallet) derive(a *account, fx *step.Effects) error {
	return w.deriveSince(a, a.since, false, fx)
}

// deriveMore is derive after an address was handed out. If the chain has told of
// all that was watched, what lies beyond was never used, and needs no look at old
// blocks.
func (w *Wallet) deriveMore(a *account, fx *step.Effects) error {
	if a.silent > 0 {
		return w.derive(a, fx)
	}
	return w.deriveSince(a, max(a.since, w.tip-deepest), true, fx)
}

// deepest is a reorganisation that nobody has seen the like of.
const deepest = 144

func (w *Wallet) deriveSince(a *account, since int32, unused bool, fx *step.Effects) error {
	for branch, ahead := range [2]uint32{w.o.Gap, changeAhead} {
		for until := max(a.next[branch], a.used[branch]) + max(ahead, w.o.Ahead); uint32(len(a.list[branch])) < until; {
			index := uint32(len(a.list[branch]))
			d, err := a.desc.At(uint32(branch), index)
			if err != nil {
				return err
			}
			s := &script{account: a, Script: d, branch: uint32(branch), index: index, told: unused}
			a.list[branch] = append(a.list[branch], s)
			w.scripts[string(d.Script)] = s
			if !unused {
				a.silent++
			}
			if fx != nil {
				w.watch(s, since, fx)
			}
		}
	}
	return nil
}

func (w *Wallet) watch(s *script, since int32, fx *step.Effects) {
	w.send(watch.Chain, watch.Script{Script: s.Script.Script, Since: since, Prove: true}, fx)
}

func (w *Wallet) watchAll(a *account, fx *step.Effects) {
	for branch := range a.list {
		for _, s := range a.list[branch] {
			w.watch(s, a.since, fx)
		}
	}
}

// script finds one that has been derived.
func (a *account) script(branch, index uint32) (*script, error) {
	if int(index) < len(a.list[branch]) {
		return a.list[branch][index], nil
	}
	return nil, fmt.Errorf("script %d/%d of account %s is not watched", branch, index, a.name)
}

// account finds one by name; "" is the default one.
func (w *Wallet) account(name string) (*account, error) {
	if name == "" {
		name = w.o.Account
	}
	if name == "" && len(w.names) == 1 {
		name = w.names[0]
	}
	a := w.accounts[name]
	switch {
	case a == nil && name == "":
		return nil, fmt.Errorf("there are %d accounts; name one", len(w.names))
	case a == nil:
		return nil, fmt.Errorf("no account is called %.90q", name)
	case a.revoked:
		return a, fmt.Errorf("account %s: %w", name, ErrRevoked)
	}
	return a, nil
}

// unsure tells that the chain has not said yet whether the next address was ever
// paid. If it was, by another copy of this wallet, its coins are no answer to
// whoever is given it now.
func (a *account) unsure() bool {
	next := int(a.next[receive])
	return next < len(a.list[receive]) && !a.list[receive][next].told
}

// hold keeps a question for an address until the chain has told.
func (w *Wallet) hold(id, op string, ev any, fx *step.Effects) {
	if len(w.held) == MaxHeld {
		w.fail(id, money.Refused, op, fmt.Errorf("%d questions for an address wait for the chain, which is the limit; ask again", MaxHeld), fx)
		return
	}
	w.held = append(w.held, ev)
}

// goOnHeld answers the questions that waited for the chain; those that still have
// to are held again.
func (w *Wallet) goOnHeld(fx *step.Effects) {
	held := w.held
	w.held = nil
	for _, ev := range held {
		switch ev := ev.(type) {
		case Fresh:
			w.freshAddress(ev, fx)
		case Invoice:
			w.invoice(ev, fx)
		}
	}
}

func (w *Wallet) freshAddress(ev Fresh, fx *step.Effects) {
	a, err := w.account(ev.Account)
	if err == nil && a.unsure() {
		w.hold(ev.Ask, "address", ev, fx)
		return
	}
	if err == nil {
		var at Address
		if at, err = w.fresh(a, fx); err == nil {
			fx.Done = append(fx.Done, step.Outcome{ID: ev.Ask, Value: at})
			return
		}
	}
	w.fail(ev.Ask, money.Refused, "address", err, fx)
}

// fresh hands out the next receiving address, unless Gap of them are out and
// unpaid: a wallet restored from its seed would not look further.
func (w *Wallet) fresh(a *account, fx *step.Effects) (Address, error) {
	if out := a.next[receive] - min(a.used[receive], a.next[receive]); out >= w.o.Gap {
		return Address{}, fmt.Errorf("%d addresses of account %s are out and not paid, which is the gap limit; a restored wallet would miss more (raise Options.Gap)", out, a.name)
	}
	if a.unsure() {
		return Address{}, fmt.Errorf("the chain has not told of all addresses of account %s yet; ask again", a.name)
	}
	index := a.next[receive]
	if index >= MaxAddresses {
		return Address{}, fmt.Errorf("account %s has had %d addresses, which is the limit; move its money to a new one", a.name, MaxAddresses)
	}
	s, err := a.script(receive, index)
	if err != nil {
		return Address{}, err
	}
	text, err := descriptor.Address(s.Script.Script, w.o.Params)
	if err != nil {
		return Address{}, err
	}
	a.next[receive]++
	w.dirty[a.name] = true
	return Address{Account: a.name, Index: index, Script: s.Script.Script, Text: text}, w.deriveMore(a, fx)
}

// revoke takes effect at once.
func (w *Wallet) revoke(ev Revoke, fx *step.Effects) {
	a := w.accounts[ev.Account]
	if a == nil {
		w.fail(ev.Ask, money.Refused, "revoke", fmt.Errorf("no account is called %.90q", ev.Account), fx)
		return
	}
	if !a.revoked {
		a.revoked = true
		w.dirty[a.name] = true
		for _, b := range slices.Clone(w.batches) {
			if m := b.member(a.name); m != nil && !m.gone {
				w.withdraw(b, m, fx)
			}
		}
		for _, o := range slices.Clone(a.waiting) {
			w.unpaidOrder(o, ErrRevoked, fx)
		}
	}
	fx.Done = append(fx.Done, step.Outcome{ID: ev.Ask, Value: w.view(a)})
}

func codeHash(code string) [32]byte { return keys.Digest("coinop/wallet/code", []byte(code)) }

func (w *Wallet) invite(ev Invite, fx *step.Effects) {
	hash := codeHash(ev.Code)
	err := error(nil)
	switch {
	case len(ev.Code) < MinCode || len(ev.Code) > MaxCode:
		err = fmt.Errorf("the code is %d bytes; it must be %d to %d", len(ev.Code), MinCode, MaxCode)
	case w.accounts[ev.Account] != nil:
		err = fmt.Errorf("account %.90q is there already", ev.Account)
	case ev.Account == "" || len(ev.Account) > maxName || strings.ContainsAny(ev.Account, "/\n") || len(ev.Tenant) > maxText:
		err = fmt.Errorf("account name %.90q or tenant is empty, has a slash or is too long", ev.Account)
	default:
		w.dropInvites(fx)
		if len(w.invites) >= MaxInvites {
			err = fmt.Errorf("%d invitations are open, which is the limit; they expire", MaxInvites)
		}
	}
	if err != nil {
		w.fail(ev.Ask, money.Refused, "invite", err, fx)
		return
	}
	w.invites[hash] = invite{ev.Account, ev.Tenant, ev.Expires}
	fx.Put = append(fx.Put, w.invites[hash].record(hash))
	fx.Done = append(fx.Done, step.Outcome{ID: ev.Ask, Value: ev.Account})
}

func (w *Wallet) dropInvites(fx *step.Effects) {
	var old [][32]byte
	for hash, v := range w.invites {
		if v.expires <= w.now {
			old = append(old, hash)
		}
	}
	slices.SortFunc(old, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	for _, hash := range old {
		delete(w.invites, hash)
		fx.Put = append(fx.Put, step.Record{Key: inviteKey(hash)})
	}
}

// claim opens the account of an invitation for the peer who shows its code.
func (w *Wallet) claim(from string, m Claim, fx *step.Effects) {
	hash := codeHash(m.Code)
	for _, a := range w.owned(from) {
		if a.code == hash && !a.revoked { // again: the answer was lost
			w.send(from, Claimed{Account: a.name}, fx)
			return
		}
	}
	v, ok := w.invites[hash]
	if !ok || v.expires <= w.now {
		w.send(from, Refused{Why: "the claim code is unknown, used or expired; ask the operator for another"}, fx)
		return
	}
	a, err := w.admit(Open{Account: v.account, Descriptor: m.Descriptor, Signer: from, Tenant: v.tenant, Since: m.Since}, fx)
	if err != nil {
		w.send(from, Refused{Why: err.Error()}, fx)
		return
	}
	a.code = hash
	delete(w.invites, hash)
	fx.Put = append(fx.Put, step.Record{Key: inviteKey(hash)})
	w.send(from, Claimed{Account: a.name}, fx)
}

// owned lists the accounts whose signer is a peer.
func (w *Wallet) owned(peer string) []*account { return w.bySigner[peer] }

// mine finds the account a peer speaks of: of its own only.
func (w *Wallet) mine(peer, name string) (*account, error) {
	own := w.owned(peer)
	for _, a := range own {
		if name != "" && a.name != name || name == "" && a.revoked && len(own) > 1 {
			continue
		}
		if a.revoked {
			return nil, fmt.Errorf("account %s: %w", a.name, ErrRevoked)
		}
		return a, nil
	}
	return nil, errors.New("you have no such account here; claim one with a code")
}
