package descriptor

import (
	"errors"
	"fmt"
	"io"

	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
)

// A Purpose is the first step of an account's path (BIP 43): it says which
// standard the account follows, and so which form its scripts have.
type Purpose uint32

// Purposes are named by their BIPs.
const (
	BIP44 Purpose = 44 // PKH
	BIP49 Purpose = 49 // SHWPKH
	BIP84 Purpose = 84 // WPKH
	BIP86 Purpose = 86 // TR
)

// Kind is the form of the purpose's scripts; 0 if there is no such purpose.
func (p Purpose) Kind() Kind {
	switch p {
	case BIP44:
		return PKH
	case BIP49:
		return SHWPKH
	case BIP84:
		return WPKH
	case BIP86:
		return TR
	}
	return 0
}

// An Account is the private half of a wallet. It prints as "account" whatever
// the verb, and does not marshal.
type Account struct {
	public  Descriptor
	private *branches
}

// Two pointers, as in keys.Secret: fmt follows one.
type branches struct{ receive, change *hdkeychain.ExtendedKey }

// NewAccount derives m/purpose'/coin'/account' (BIP 44) on the network of p.
// Coin is SLIP 44's: 0 on the main network, 1 on those for tests.
func NewAccount(seed mnemonic.Seed, purpose Purpose, coin, account uint32, p *chaincfg.Params) (Account, error) {
	kind := purpose.Kind()
	if kind == 0 {
		return Account{}, fmt.Errorf("purpose is %d; it must be 44, 49, 84 or 86", purpose)
	}
	if seed.IsZero() {
		return Account{}, errors.New("account has no seed; make one from a phrase")
	}
	if coin >= Hardened || account >= Hardened {
		return Account{}, fmt.Errorf("coin is %d and account %d; both must be below 2^31", coin, account)
	}
	b := seed.Reveal()
	defer clear(b)
	master, err := hdkeychain.NewMaster(b, p)
	if err != nil {
		return Account{}, errors.New("seed gives no key; make another") // 1 in 2^127
	}
	defer master.Zero()
	first, err := public(master)
	if err != nil {
		return Account{}, err
	}
	path := []uint32{uint32(purpose) | Hardened, coin | Hardened, account | Hardened}
	root, err := walk(master, path)
	if err != nil {
		return Account{}, err
	}
	return newAccount(kind, &origin{[4]byte(tx.Hash160(first[:])), path}, root)
}

// newAccount splits an account's key into its two halves.
func newAccount(kind Kind, from *origin, root *hdkeychain.ExtendedKey) (Account, error) {
	xpub, err := root.Neuter()
	if err != nil {
		return Account{}, err
	}
	k := &key{text: xpub.String(), origin: from, branches: []uint32{0, 1}, wildcard: true}
	if k.first, err = public(xpub); err != nil {
		return Account{}, err
	}
	if err := k.derive(xpub); err != nil {
		return Account{}, err
	}
	var private branches
	for branch, half := range []**hdkeychain.ExtendedKey{&private.receive, &private.change} {
		if *half, err = walk(root, []uint32{uint32(branch)}); err != nil {
			return Account{}, err
		}
		// The library remembers the public key when it is first asked, so ask
		// before anybody shares the account.
		if _, err := public(*half); err != nil {
			return Account{}, err
		}
	}
	return Account{Descriptor{kind, k}, &private}, nil
}

// Descriptor is the public half, with its origin and <0;1>/*.
func (a Account) Descriptor() Descriptor { return a.public }

// IsZero reports whether a was never set.
func (a Account) IsZero() bool { return a.private == nil }

// Secret is the key of Descriptor().At(branch, index).Key. For TR it is the
// internal one: a signature needs SigningKey.
func (a Account) Secret(branch, index uint32) (keys.Secret, error) {
	if a.private == nil {
		return keys.Secret{}, errors.New("account is empty; it has no keys")
	}
	if branch > 1 || index >= Hardened {
		return keys.Secret{}, fmt.Errorf("account has no key at branch %d, index %d; branches are 0 and 1, indexes below 2^31", branch, index)
	}
	leaf, err := walk([]*hdkeychain.ExtendedKey{a.private.receive, a.private.change}[branch], []uint32{index})
	if err != nil {
		return keys.Secret{}, err
	}
	defer leaf.Zero()
	private, err := leaf.ECPrivKey()
	if err != nil {
		return keys.Secret{}, err
	}
	defer private.Zero()
	b := private.Serialize()
	defer clear(b)
	return keys.SecretFromBytes(b)
}

// SigningKey is the key whose signature the script at branch and index takes:
// ECDSA of Secret, or Schnorr (BIP 340) of TapSecret if the account is TR.
func (a Account) SigningKey(branch, index uint32) (keys.Secret, error) {
	s, err := a.Secret(branch, index)
	if err != nil || a.public.kind != TR {
		return s, err
	}
	return TapSecret(s)
}

// Format prints "account" for every verb.
func (a Account) Format(f fmt.State, _ rune) { io.WriteString(f, "account") }

// MarshalText refuses: an account is derived again from its seed.
func (a Account) MarshalText() ([]byte, error) { return nil, errors.New("an account does not marshal") }
