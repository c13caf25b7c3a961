package consent

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// An account is an Account and the public half that is asked all the time.
type account struct {
	descriptor.Account
	public      descriptor.Descriptor
	fingerprint [4]byte
}

func newAccounts(all []descriptor.Account) (out []account, err error) {
	for i, a := range all {
		d := a.Descriptor()
		if a.IsZero() || !d.Account() {
			return nil, fmt.Errorf("account %d is empty; derive it from a seed", i)
		}
		first, err := d.At(0, 0)
		if err != nil {
			return nil, err
		}
		out = append(out, account{a, d, first.Fingerprint})
	}
	return out, nil
}

// A derivation is what a PSBT says of one key: of an input or an output, taproot
// or not.
type derivation struct {
	key         []byte // 33 bytes, or 32 for taproot
	fingerprint [4]byte
	path        []uint32
}

func derivations(plain []*psbt.Bip32Derivation, tap []*psbt.TaprootBip32Derivation) (all []derivation) {
	add := func(key []byte, fingerprint uint32, path []uint32) {
		d := derivation{key: key, path: path}
		binary.LittleEndian.PutUint32(d.fingerprint[:], fingerprint)
		all = append(all, d)
	}
	for _, d := range plain {
		add(d.PubKey, d.MasterKeyFingerprint, d.Bip32Path)
	}
	for _, d := range tap {
		if len(d.LeafHashes) == 0 { // else it is in a script, which no account has
			add(d.XOnlyPubKey, d.MasterKeyFingerprint, d.Bip32Path)
		}
	}
	return all
}

// A place is where a key is in the signer's accounts.
type place struct {
	account       int
	branch, index uint32
}

// claim finds the account that the derivations name. It is no more than a claim:
// mine compares it with the script.
func (s *Signer) claim(all []derivation) (at place, key []byte, claimed bool) {
	for _, d := range all {
		for i := range s.accounts {
			a := &s.accounts[i]
			if (a.public.Kind() == descriptor.TR) != (len(d.key) == 32) {
				continue
			}
			if branch, index, ok := a.public.Locate(d.fingerprint, d.path); ok {
				return place{i, branch, index}, d.key, true
			}
		}
	}
	return at, nil, false
}

// strays reports a derivation from a master key of the signer's that leads into
// none of its accounts.
func (s *Signer) strays(all []derivation) bool {
	for _, d := range all {
		for i := range s.accounts {
			if d.fingerprint == s.accounts[i].fingerprint {
				return true
			}
		}
	}
	return false
}

// mine derives the script at a place and compares it, and the key, with what is
// there.
func (s *Signer) mine(at place, key, script []byte) (d descriptor.Script, err error) {
	if d, err = s.accounts[at.account].public.At(at.branch, at.index); err != nil {
		return d, err
	}
	if !bytes.Equal(d.Key[len(d.Key)-len(key):], key) {
		return d, fmt.Errorf("the key at %d/%d is another", at.branch, at.index)
	}
	if !bytes.Equal(d.Script, script) {
		return d, fmt.Errorf("it pays %s, and the key at %d/%d is paid by %s", s.name(script), at.branch, at.index, s.name(d.Script))
	}
	return d, nil
}

// judgeInputs finds out which inputs are the signer's and what they are worth.
func (s *Signer) judgeInputs(_ *Proposal, v *verdict, _ step.Time) error {
	taproot, hidden := false, -1
	for i := range v.Inputs {
		prev, err := previous(v, i)
		if err != nil {
			return err
		}
		v.prevs[v.tx().TxIn[i].PreviousOutPoint] = prev
		in := &v.Inputs[i]
		all := derivations(in.Bip32Derivation, in.TaprootBip32Derivation)
		at, key, claimed := s.claim(all)
		if !claimed {
			if s.strays(all) {
				return refuse(ReasonMine, "input %d is said to be the signer's, at a path of none of its accounts", i)
			}
			v.joint = true
			if prev == nil {
				hidden = i
			}
			continue
		}
		o, err := s.ownInput(v, i, at, key, prev)
		if err != nil {
			return err
		}
		taproot = taproot || o.script.Kind == descriptor.TR
		v.own = append(v.own, o)
		if at.index <= MaxReach {
			v.top[at.account] = max(v.top[at.account], at.index)
		}
	}
	switch {
	case len(v.own) == 0:
		return refuse(ReasonNothing, "no input is of the signer's accounts; send each one's derivation")
	case v.joint && !s.Policy.Joint:
		return refuse(ReasonForeign, "%d of %d inputs are others'; this signer takes no joint transactions", len(v.Inputs)-len(v.own), len(v.Inputs))
	case taproot && hidden >= 0:
		return refuse(ReasonAmount, "input %d does not show the output it spends, which a taproot signature covers (BIP 341)", hidden)
	}
	return s.judgeForeign(v)
}

// judgeForeign refuses a coin of a script that is the signer's in another input.
func (s *Signer) judgeForeign(v *verdict) error {
	signed := map[int]bool{}
	for _, o := range v.own {
		signed[o.input] = true
	}
	for i, in := range v.tx().TxIn {
		prev := v.prevs[in.PreviousOutPoint]
		for _, o := range v.own {
			if !signed[i] && prev != nil && bytes.Equal(prev.PkScript, o.script.Script) {
				return refuse(ReasonMine, "input %d is the signer's as input %d is, and is not said to be", i, o.input)
			}
		}
	}
	return nil
}

// previous is the output that input i spends, or nil if it is not shown. If the
// transaction is there it is the one that has it: its ID is committed to.
func previous(v *verdict, i int) (*wire.TxOut, error) {
	in, point := &v.Inputs[i], v.tx().TxIn[i].PreviousOutPoint
	prev := in.WitnessUtxo
	if t := in.NonWitnessUtxo; t != nil {
		if id := t.TxHash(); id != point.Hash {
			return nil, refuse(ReasonAmount, "input %d spends an output of %v; the transaction shown is %v", i, point.Hash, id)
		}
		if point.Index >= uint32(len(t.TxOut)) {
			return nil, refuse(ReasonAmount, "input %d spends output %d; its transaction has %d", i, point.Index, len(t.TxOut))
		}
		real := t.TxOut[point.Index]
		if prev != nil && !psbt.TxOutsEqual(prev, real) {
			return nil, refuse(ReasonAmount, "input %d is said to spend %d sat; its transaction says %d sat or another script", i, prev.Value, real.Value)
		}
		prev = real
	}
	if prev != nil && (prev.Value < 0 || prev.Value > money.MaxAmount.Sats()) {
		return nil, refuse(ReasonAmount, "input %d is of %d sat; there are %d", i, prev.Value, money.MaxAmount.Sats())
	}
	return prev, nil
}

func (s *Signer) ownInput(v *verdict, i int, at place, key []byte, prev *wire.TxOut) (o own, err error) {
	in, kind := &v.Inputs[i], s.accounts[at.account].public.Kind()
	switch {
	case kind != descriptor.TR && in.NonWitnessUtxo == nil:
		// A version 0 signature covers its own input's amount only, so two
		// proposals with two lies make one transaction that burns the difference.
		return o, refuse(ReasonAmount, "input %d comes without its previous transaction, and only taproot's signature covers all amounts; send it", i)
	case prev == nil:
		return o, refuse(ReasonAmount, "input %d does not show the output it spends", i)
	}
	script, err := s.mine(at, key, prev.PkScript)
	if err != nil {
		return o, refuse(ReasonMine, "input %d is not the signer's: %v", i, err)
	}
	if what := unsuited(in, &script); what != "" {
		return o, refuse(ReasonField, "input %d has %s; leave it out", i, what)
	}
	hash := txscript.SigHashAll
	switch t := in.SighashType; {
	case t == txscript.SigHashDefault && kind == descriptor.TR:
		hash = txscript.SigHashDefault
	case t != txscript.SigHashDefault && t != txscript.SigHashAll:
		return o, refuse(ReasonSighash, "input %d asks for sighash %02x, which leaves parts of the transaction open; only ALL is signed", i, uint32(t))
	}
	return own{input: i, account: at.account, branch: at.branch, index: at.index, script: script, value: prev.Value, hash: hash}, nil
}

// unsuited names a field that does not belong to an unsigned input of a script
// with one key.
func unsuited(in *psbt.PInput, s *descriptor.Script) string {
	switch {
	case len(in.PartialSigs)+len(in.TaprootKeySpendSig)+len(in.TaprootScriptSpendSig) > 0:
		return "a signature"
	case in.FinalScriptSig != nil || in.FinalScriptWitness != nil:
		return "a final script"
	case in.RedeemScript != nil && !bytes.Equal(in.RedeemScript, s.Redeem):
		return "another redeem script"
	case in.WitnessScript != nil:
		return "a witness script"
	case in.TaprootMerkleRoot != nil || len(in.TaprootLeafScript) > 0:
		return "taproot scripts"
	case in.TaprootInternalKey != nil && !bytes.Equal(in.TaprootInternalKey, s.Key[1:]):
		return "another internal key"
	}
	return ""
}

// judgeProofs follows each own coin's proof to the signer's own headers.
func (s *Signer) judgeProofs(p *Proposal, v *verdict, _ step.Time) error {
	if !s.Policy.NeedProof {
		return nil
	}
	if len(p.Proofs) != len(v.own) {
		return refuse(ReasonProof, "there are %d proofs for the signer's %d inputs; send one for each", len(p.Proofs), len(v.own))
	}
	for i, o := range v.own {
		if err := s.judgeProof(&p.Proofs[i], v, o.input); err != nil {
			return err
		}
	}
	return nil
}

func (s *Signer) judgeProof(p *merkle.Proof, v *verdict, input int) error {
	point := v.tx().TxIn[input].PreviousOutPoint
	if p.Height == 0 && len(p.Branch.Hashes) == 0 {
		if g := s.byTx[point.Hash]; g == nil || g.final != point.Hash {
			return refuse(ReasonProof, "input %d has no proof, and %v is no transaction this signer made", input, point.Hash)
		}
		return nil
	}
	prev := v.Inputs[input].NonWitnessUtxo
	if prev == nil {
		return refuse(ReasonProof, "input %d has a proof without the transaction that it proves; send it", input)
	}
	root, err := p.Branch.Root(prev)
	if err != nil {
		return refuse(ReasonProof, "input %d: %v", input, err)
	}
	real, err := s.rootAt(p.Height)
	if err != nil {
		return err
	}
	if root != real {
		return refuse(ReasonProof, "input %d: the proof leads to the root %v; block %d has %v", input, root, p.Height, real)
	}
	tip, _ := s.chain.Tip()
	if depth := tip - p.Height + 1; depth < s.Policy.MinDepth {
		return refuse(ReasonDepth, "input %d is %d blocks deep; %d are needed", input, depth, s.Policy.MinDepth)
	}
	return nil
}

// rootAt is the Merkle root of a block of the signer's best chain.
func (s *Signer) rootAt(height int32) (chainhash.Hash, error) {
	if h, ok := s.chain.At(height); ok {
		return h.MerkleRoot, nil
	}
	if root, ok := s.old[height]; ok {
		return root, nil
	}
	tip, _ := s.chain.Tip()
	if height > tip {
		return chainhash.Hash{}, &needHeaders{
			refuse(ReasonNeedHeaders, "block %d is above the signer's last, %d; send headers and propose again", height, tip),
			s.locate(),
		}
	}
	return chainhash.Hash{}, &needHeaders{
		refuse(ReasonNeedHeaders, "block %d is below the signer's headers, which begin at %d; send those from %d on and propose again", height, s.chain.Base(), height),
		AskHeaders{At: height},
	}
}

// needHeaders is a refusal that passes when the headers are there.
type needHeaders struct {
	error
	AskHeaders
}

func (e *needHeaders) Unwrap() error { return e.error }
