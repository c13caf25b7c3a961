// Package descriptor says which scripts a wallet owns, in one line of public
// text (BIP 380 to 382, 386 and 389), and derives their keys (BIP 32).
//
// A Descriptor holds public keys only: who has it can find the coins and write
// the change, and cannot spend. Its other half is the Account, which has the
// private keys, prints nothing and gives its Descriptor away. Text that holds a
// private key is refused, and no error repeats what it holds.
//
// Forms: pkh, wpkh, sh(wpkh) and tr without scripts, around one compressed key
// or one extended key with <0;1> and *. Others are refused by name.
package descriptor

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
)

// A Kind is a form of script that one key can spend.
type Kind uint8

// The zero Kind is none.
const (
	PKH    Kind = iota + 1 // BIP 381: pay to the hash of a key
	WPKH                   // BIP 382: the same in a witness, version 0
	SHWPKH                 // BIP 382: WPKH behind the hash of a script
	TR                     // BIP 386: taproot, spent by its key
)

// forms is how each Kind is written around its key.
var forms = [...]struct{ name, before, after string }{
	{name: "none"},
	PKH:    {"pkh", "pkh(", ")"},
	WPKH:   {"wpkh", "wpkh(", ")"},
	SHWPKH: {"sh(wpkh)", "sh(wpkh(", "))"},
	TR:     {"tr", "tr(", ")"},
}

// String is "wpkh" and so on.
func (k Kind) String() string {
	if k > TR {
		k = 0
	}
	return forms[k].name
}

const (
	// MaxText is how long a descriptor may be in bytes.
	MaxText = 1024
	// MaxSteps is how many steps may follow an extended key, and how many may
	// stand in an origin.
	MaxSteps = 10
	// MaxBranches is how many values a <0;1> may have.
	MaxBranches = 8
	// Hardened is the bit of a step that only the private key can take.
	Hardened uint32 = 1 << 31
)

// ErrPrivate means that a descriptor holds a private key. Nothing here wants
// to see one: make an Account of the seed and use its Descriptor, or give the
// xpub in place of the xprv.
var ErrPrivate = errors.New("descriptor holds a private key; give the xpub instead, and treat the key as seen")

// A Descriptor is the public half of a wallet. The zero Descriptor has no
// scripts. It is a value: copies share what never changes.
type Descriptor struct {
	kind Kind
	key  *key
}

// Parse reads a descriptor for the network of p. A checksum is checked if it is
// there; text typed by a person should have one.
func Parse(text string, p *chaincfg.Params) (Descriptor, error) {
	if len(text) > MaxText {
		return Descriptor{}, fmt.Errorf("descriptor is %d bytes; the limit is %d", len(text), MaxText)
	}
	body, err := checked(text)
	if err != nil {
		return Descriptor{}, err
	}
	kind, inner, err := unwrap(body)
	if err != nil {
		return Descriptor{}, err
	}
	k, err := parseKey(inner, kind == TR, p)
	if err != nil {
		return Descriptor{}, fmt.Errorf("%s descriptor: %w", kind, err)
	}
	return Descriptor{kind: kind, key: k}, nil
}

const supported = "supported are pkh(KEY), wpkh(KEY), sh(wpkh(KEY)) and tr(KEY)"

// others are the forms of BIP 381 to 390 that are known and not supported.
var others = []string{
	"sh(wsh(", "sh(sortedmulti(", "sh(multi(", "sh(pkh(", "sh(pk(", "sh(", "wsh(", "pk(", "sortedmulti(", "multi(",
	"sortedmulti_a(", "multi_a(", "combo(", "addr(", "rawtr(", "raw(", "musig(",
}

// unwrap takes a form off the key in it.
func unwrap(body string) (Kind, string, error) {
	for kind := PKH; kind <= TR; kind++ {
		form := forms[kind]
		inner, ok := strings.CutPrefix(body, form.before)
		if !ok {
			continue
		}
		if inner, ok = strings.CutSuffix(inner, form.after); !ok {
			return 0, "", fmt.Errorf("%s descriptor does not end in %q", kind, form.after)
		}
		if kind == TR && strings.ContainsAny(inner, ",{") {
			return 0, "", errors.New("tr(KEY,TREE) has scripts that nobody here can sign for; " + supported)
		}
		if strings.ContainsAny(inner, "()") {
			return 0, "", fmt.Errorf("%s descriptor has a script where its key should be; %s", kind, supported)
		}
		return kind, inner, nil
	}
	for _, form := range others {
		if strings.HasPrefix(body, form) {
			return 0, "", fmt.Errorf("descriptor form %s is not supported; %s", form+"…)", supported)
		}
	}
	return 0, "", errors.New("descriptor has an unknown form; " + supported)
}

// String is the descriptor with its checksum, hardened steps marked with h.
func (d Descriptor) String() string {
	if d.key == nil {
		return ""
	}
	form := forms[d.kind]
	body := form.before + d.key.String() + form.after
	return body + "#" + checksum(body)
}

// Kind is the form of all its scripts.
func (d Descriptor) Kind() Kind { return d.kind }

// IsZero reports whether d was never set.
func (d Descriptor) IsZero() bool { return d.key == nil }

// Branches is how many branches At takes: 2 for <0;1>, 1 without.
func (d Descriptor) Branches() uint32 {
	if d.key == nil {
		return 0
	}
	return max(1, uint32(len(d.key.branches)))
}

// Ranged reports whether At takes any index, because the descriptor ends in *.
func (d Descriptor) Ranged() bool { return d.key != nil && d.key.wildcard }

// Account reports whether a wallet can live on d: <0;1> for receiving and
// change, and * for as many as it takes.
func (d Descriptor) Account() bool { return d.Branches() == 2 && d.Ranged() }

// A Script is one output script of a descriptor and what a signer must know.
type Script struct {
	Script      []byte
	Key         keys.Public // its key; for TR the internal one, before the tweak
	Fingerprint [4]byte     // of the key that Path starts from, the first of PSBT_IN_BIP32_DERIVATION
	Path        []uint32    // from that key to Key
	Kind        Kind
	Redeem      []byte // SHWPKH: the script whose hash Script has; else nil
}

// At is the script number index of a branch: 0 receives, 1 takes change. Both
// are 0 where the descriptor has no choice.
func (d Descriptor) At(branch, index uint32) (Script, error) {
	if d.key == nil {
		return Script{}, errors.New("descriptor is empty; it has no scripts")
	}
	pub, err := d.key.at(branch, index)
	if err != nil {
		return Script{}, err
	}
	s := Script{Key: pub, Kind: d.kind, Fingerprint: d.key.fingerprint(), Path: d.key.path(branch, index)}
	switch d.kind {
	case PKH:
		s.Script = slices.Concat([]byte{txscript.OP_DUP, txscript.OP_HASH160, txscript.OP_DATA_20}, tx.Hash160(pub[:]),
			[]byte{txscript.OP_EQUALVERIFY, txscript.OP_CHECKSIG})
	case WPKH:
		s.Script = tx.P2WPKH(pub)
	case SHWPKH:
		s.Redeem = tx.P2WPKH(pub)
		s.Script = slices.Concat([]byte{txscript.OP_HASH160, txscript.OP_DATA_20}, tx.Hash160(s.Redeem), []byte{txscript.OP_EQUAL})
	case TR:
		output, err := tapOutput(pub)
		if err != nil {
			return Script{}, err
		}
		s.Script = append([]byte{txscript.OP_1, txscript.OP_DATA_32}, output[1:]...)
	}
	return s, nil
}

// Locate undoes the Fingerprint and Path of a Script: it says where in d a key
// that a PSBT names would be. The caller compares At's script with the real one.
func (d Descriptor) Locate(fingerprint [4]byte, path []uint32) (branch, index uint32, ok bool) {
	if d.key == nil || fingerprint != d.key.fingerprint() {
		return 0, 0, false
	}
	for branch := range d.Branches() {
		want := d.key.path(branch, 0)
		if len(path) != len(want) {
			return 0, 0, false
		}
		last := len(want)
		if d.key.wildcard {
			last--
			index = path[last]
		}
		if index < Hardened && slices.Equal(path[:last], want[:last]) {
			return branch, index, true
		}
	}
	return 0, 0, false
}
