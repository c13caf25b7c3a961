package filter

import (
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// Contradicts tells whether a filter cannot be that of a block, whose
// transactions the caller has proven, and why. It looks for the script of every
// output and for the script that an input spends where the input shows it: an
// output of the same block, P2PKH, P2SH, P2WPKH, P2WSH, P2SH-P2WPKH, P2SH-P2WSH
// and the script path of taproot; and it counts.
//
// What P2PKH, P2SH and native segwit inputs show is a strong presumption and no
// proof: whoever has a miner at hand can spend an output of no standard kind
// with an input that looks like one of these, and a true filter then stands
// accused. Who must not be fooled even so asks Disproves.
func Contradicts(raw []byte, b *wire.MsgBlock) (bool, string) { return judge(raw, b, true) }

// Disproves is Contradicts without presumptions: what it accuses is false as
// surely as the block is valid. It sees outputs, what is spent within the block,
// nested segwit inputs, and numbers.
func Disproves(raw []byte, b *wire.MsgBlock) (bool, string) { return judge(raw, b, false) }

func judge(raw []byte, b *wire.MsgBlock, presume bool) (bool, string) {
	all, err := values(raw)
	if err != nil {
		return true, err.Error()
	}
	j := judgement{values: all, hasher: newHasher(b.BlockHash(), len(all)), known: map[string]bool{}}
	inside := byID(b)
	for i, t := range b.Transactions {
		for n, out := range t.TxOut {
			if isElement(out.PkScript) && !j.has(out.PkScript) {
				return true, fmt.Sprintf("filter lacks the script %x of output %d of transaction %d of the block", out.PkScript, n, i)
			}
		}
		if i == 0 {
			continue // the coinbase spends nothing
		}
		for n, in := range t.TxIn {
			s := spent(in, inside)
			if s.kind == "" || !s.sure && !presume {
				j.unknown++
				continue
			}
			if len(s.script) > 0 && !j.has(s.script) {
				return true, fmt.Sprintf("filter lacks the script %x that input %d of transaction %d of the block spends (%s)", s.script, n, i, s.kind)
			}
		}
	}
	if least, most := len(j.known), len(j.known)+j.unknown; len(all) < least || len(all) > most {
		return true, fmt.Sprintf("filter is of %d elements; the block has %d to %d", len(all), least, most)
	}
	return false, ""
}

type judgement struct {
	values  []uint64
	hasher  hasher
	known   map[string]bool // scripts of the block, and whether the filter has them
	unknown int             // inputs that do not show what they spend
	words   []uint64        // buffer
}

func (j *judgement) has(script []byte) bool {
	found, ok := j.known[string(script)]
	if !ok {
		j.words = appendWords(j.words[:0], script)
		_, found = slices.BinarySearch(j.values, j.hasher.value(j.words))
		j.known[string(script)] = found
	}
	return found
}

// shown is what an input shows of the script that it spends.
type shown struct {
	script []byte
	kind   string // "" if it shows nothing
	sure   bool   // it can be no other script
}

func spent(in *wire.TxIn, inside map[chainhash.Hash]*wire.MsgTx) shown {
	if script := output(inside, in.PreviousOutPoint); script != nil {
		return shown{script, "an output of the same block", true}
	}
	switch {
	case len(in.Witness) == 0:
		return legacy(in.SignatureScript)
	case len(in.SignatureScript) > 0:
		return nested(in.SignatureScript)
	}
	return native(in.Witness)
}
