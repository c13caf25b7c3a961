package descriptor

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/address/v2/base58"
	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
)

// A key is BIP 380's key expression with BIP 389's branches: an origin, one
// compressed key or an extended one, and the steps from it to the scripts' keys.
type key struct {
	text   string      // the key itself, as it is written
	first  keys.Public // the key itself
	origin *origin     // nil if none is given

	// Of an extended key only.
	before, after []uint32 // the steps around branches; all in before if there are none
	branches      []uint32 // BIP 389; empty, or at least two
	wildcard      bool
	parents       []*hdkeychain.ExtendedKey // of each branch: all steps but the wildcard done
}

// An origin says where a key comes from.
type origin struct {
	fingerprint [4]byte
	path        []uint32
}

// errKey repeats nothing of what was given: it may be somebody's private key
// with a letter wrong.
var errKey = errors.New("key is not one that is supported: 66 hex digits that begin with 02 or 03, or an xpub (tpub on test networks)")

// parseKey reads a key expression; xonly allows the 64 digits of BIP 386.
func parseKey(text string, xonly bool, p *chaincfg.Params) (*key, error) {
	k := new(key)
	if rest, ok := strings.CutPrefix(text, "["); ok {
		inner, rest, ok := strings.Cut(rest, "]")
		if !ok {
			return nil, errors.New("origin has no ] at its end")
		}
		var err error
		if k.origin, err = parseOrigin(inner); err != nil {
			return nil, err
		}
		text = rest
	}
	text, path, hasPath := strings.Cut(text, "/")
	extended, err := k.parsePublic(text, xonly, p)
	if err != nil {
		return nil, err
	}
	if extended == nil {
		if hasPath {
			return nil, errors.New("a single key has no children; leave out the path, or give an xpub")
		}
		return k, nil
	}
	if hasPath {
		if err := k.parsePath(path); err != nil {
			return nil, err
		}
	}
	return k, k.derive(extended)
}

// parsePublic reads the key itself. It returns it again if it is extended.
func (k *key) parsePublic(text string, xonly bool, p *chaincfg.Params) (*hdkeychain.ExtendedKey, error) {
	k.text = text
	if b, err := hex.DecodeString(text); err == nil {
		switch {
		case len(b) == len(k.first):
		case len(b) == 32 && xonly:
			b = append([]byte{2}, b...) // lift_x of BIP 340: the even one
		case len(b) == 65:
			return nil, errors.New("uncompressed keys are not supported; give the compressed one, 66 hex digits")
		default:
			return nil, errKey
		}
		k.text = strings.ToLower(text)
		if k.first, err = keys.ParsePublic(b); err != nil {
			return nil, errKey
		}
		return nil, nil
	}
	extended, err := parseExtended(text, p)
	if err != nil {
		return nil, err
	}
	k.first, err = public(extended)
	return extended, err
}

func parseExtended(text string, p *chaincfg.Params) (*hdkeychain.ExtendedKey, error) {
	if payload, _, err := base58.CheckDecode(text); err == nil && (len(payload) == 32 || len(payload) == 33) {
		return nil, ErrPrivate // wallet import format, of whatever network
	}
	k, err := hdkeychain.NewKeyFromString(text)
	if err != nil {
		if strings.HasPrefix(text, "xprv") || strings.HasPrefix(text, "tprv") {
			return nil, ErrPrivate
		}
		return nil, errKey
	}
	switch version := [4]byte(k.Version()); {
	case k.IsPrivate() || version == p.HDPrivateKeyID:
		return nil, ErrPrivate
	case version != p.HDPublicKeyID:
		return nil, fmt.Errorf("extended key begins with %s, which is not %s's; write it for that network, as xpub or tpub whatever the script (no ypub or zpub)", text[:4], p.Name)
	case k.Depth() == 0 && (k.ParentFingerprint() != 0 || k.ChildIndex() != 0):
		return nil, errors.New("extended key says that it is the first and has a parent; it is damaged") // BIP 32, test vector 5
	}
	return k, nil
}

func public(k *hdkeychain.ExtendedKey) (keys.Public, error) {
	pub, err := k.ECPubKey()
	if err != nil {
		return keys.Public{}, errKey
	}
	return keys.Public(pub.SerializeCompressed()), nil
}

func parseOrigin(text string) (*origin, error) {
	digits, path, has := strings.Cut(text, "/")
	o := new(origin)
	if b, err := hex.DecodeString(digits); err != nil || copy(o.fingerprint[:], b) != len(b) || len(b) != len(o.fingerprint) {
		return nil, errors.New("origin does not begin with a fingerprint of 8 hex digits")
	}
	if !has {
		return o, nil
	}
	for place, text := range strings.Split(path, "/") {
		step, ok := parseStep(text)
		if !ok || place >= MaxSteps {
			return nil, fmt.Errorf("origin's step %d is not a number below 2^31 with an h behind it or none, or is beyond the limit of %d", place+1, MaxSteps)
		}
		o.path = append(o.path, step)
	}
	return o, nil
}

// parseStep reads 0, 0h or 0'.
func parseStep(text string) (uint32, bool) {
	number := strings.TrimRight(text, "h'")
	if len(text)-len(number) > 1 {
		return 0, false
	}
	n, err := strconv.ParseUint(number, 10, 31)
	step := uint32(n)
	if number != text {
		step |= Hardened
	}
	return step, err == nil
}

// parsePath reads what follows an extended key and its slash.
func (k *key) parsePath(path string) error {
	for place, text := range strings.Split(path, "/") {
		switch {
		case k.wildcard:
			return errors.New("path goes on after its *")
		case place >= MaxSteps:
			return fmt.Errorf("path has more than %d steps", MaxSteps)
		case text == "*":
			k.wildcard = true
		case strings.HasPrefix(text, "<"):
			if err := k.parseBranches(text); err != nil {
				return err
			}
		default:
			step, ok := parseStep(text)
			if strings.HasPrefix(text, "*") || ok && step >= Hardened {
				return fmt.Errorf("path's step %d is hardened, which nobody can do from an xpub; give the xpub after that step, and the step in the origin", place+1)
			}
			if !ok {
				return fmt.Errorf("path's step %d is not a number below 2^31, * or <0;1>", place+1)
			}
			if len(k.branches) == 0 {
				k.before = append(k.before, step)
			} else {
				k.after = append(k.after, step)
			}
		}
	}
	return nil
}

// parseBranches reads <0;1> (BIP 389).
func (k *key) parseBranches(text string) error {
	inner, ok := strings.CutSuffix(text[1:], ">")
	if !ok {
		return errors.New("branches have no > at their end")
	}
	if len(k.branches) > 0 {
		return errors.New("path has branches twice")
	}
	for number := range strings.SplitSeq(inner, ";") {
		step, ok := parseStep(number)
		switch {
		case !ok || step >= Hardened:
			return errors.New("branches are not numbers below 2^31 without h, as in <0;1>")
		case slices.Contains(k.branches, step):
			return fmt.Errorf("branch %d stands twice", step)
		case len(k.branches) == MaxBranches:
			return fmt.Errorf("path has more than %d branches", MaxBranches)
		}
		k.branches = append(k.branches, step)
	}
	if len(k.branches) < 2 {
		return errors.New("branches are fewer than two; write the number alone")
	}
	return nil
}

// derive takes every step but the wildcard, so that a script costs one more.
func (k *key) derive(extended *hdkeychain.ExtendedKey) error {
	stem, err := walk(extended, k.before)
	if err != nil {
		return err
	}
	if len(k.branches) == 0 {
		k.parents = []*hdkeychain.ExtendedKey{stem}
		return nil
	}
	for _, branch := range k.branches {
		parent, err := walk(stem, append([]uint32{branch}, k.after...))
		if err != nil {
			return err
		}
		k.parents = append(k.parents, parent)
	}
	return nil
}

// walk derives along a path (BIP 32).
func walk(k *hdkeychain.ExtendedKey, path []uint32) (*hdkeychain.ExtendedKey, error) {
	for _, step := range path {
		child, err := k.Derive(step)
		if err != nil {
			return nil, fmt.Errorf("derive child %d: %w", step&^Hardened, err)
		}
		k = child
	}
	return k, nil
}

func (k *key) at(branch, index uint32) (keys.Public, error) {
	if branch >= max(1, uint32(len(k.branches))) {
		return keys.Public{}, fmt.Errorf("descriptor has no branch %d; it has %d, from 0", branch, max(1, len(k.branches)))
	}
	if !k.wildcard && index != 0 {
		return keys.Public{}, fmt.Errorf("descriptor has no script %d of a branch; it does not end in *", index)
	}
	if index >= Hardened {
		return keys.Public{}, fmt.Errorf("index is %d; it must be below 2^31", index)
	}
	if k.parents == nil {
		return k.first, nil
	}
	leaf := k.parents[branch]
	if k.wildcard {
		var err error
		if leaf, err = walk(leaf, []uint32{index}); err != nil {
			return keys.Public{}, err
		}
	}
	return public(leaf)
}

// fingerprint is of the key that path starts from: without an origin the first
// that is known.
func (k *key) fingerprint() [4]byte {
	if k.origin != nil {
		return k.origin.fingerprint
	}
	return [4]byte(tx.Hash160(k.first[:]))
}

func (k *key) path(branch, index uint32) []uint32 {
	var path []uint32
	if k.origin != nil {
		path = append(path, k.origin.path...)
	}
	path = append(path, k.before...)
	if len(k.branches) > 0 {
		path = append(path, k.branches[branch])
	}
	path = append(path, k.after...)
	if k.wildcard {
		path = append(path, index)
	}
	return path
}

// String is the key expression.
func (k *key) String() string {
	var b strings.Builder
	if k.origin != nil {
		b.WriteString("[" + hex.EncodeToString(k.origin.fingerprint[:]))
		writeSteps(&b, k.origin.path)
		b.WriteByte(']')
	}
	b.WriteString(k.text)
	writeSteps(&b, k.before)
	for i, branch := range k.branches {
		b.WriteString([]string{"/<", ";"}[min(i, 1)] + strconv.FormatUint(uint64(branch), 10))
	}
	if len(k.branches) > 0 {
		b.WriteByte('>')
	}
	writeSteps(&b, k.after)
	if k.wildcard {
		b.WriteString("/*")
	}
	return b.String()
}

func writeSteps(b *strings.Builder, path []uint32) {
	for _, step := range path {
		b.WriteString("/" + strconv.FormatUint(uint64(step&^Hardened), 10))
		if step >= Hardened {
			b.WriteByte('h')
		}
	}
}
