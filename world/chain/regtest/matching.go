package regtest

import (
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// matching is the work of holding transactions against the peer's filter (BIP 37).
// The most that can be is what counts: a filter can be made so that nearly every
// hash function is tried on nearly everything, and an output can be made of
// nothing but things to try.
func (p *remote) matching(txs ...*btcutil.Tx) int {
	hashed := 0
	for _, t := range txs {
		hashed += matched(t.MsgTx())
	}
	return p.hashing(hashed)
}

// hashing is the work of so many bytes, each thing with bytesPerHash more.
func (p *remote) hashing(bytes int) int {
	f := p.filter.MsgFilterLoad()
	if f == nil {
		return 0
	}
	return bytes/bytesParsed + int(int64(f.HashFuncs)*int64(bytes)/bytesHashed)
}

// matched is how many bytes of a transaction a filter is asked for.
func matched(t *wire.MsgTx) int {
	const outpoint = chainhash.HashSize + 4
	all := bytesPerHash + chainhash.HashSize
	for _, out := range t.TxOut {
		all += pushed(out.PkScript)
	}
	for _, in := range t.TxIn {
		all += bytesPerHash + outpoint + pushed(in.SignatureScript)
	}
	return all
}

func pushed(script []byte) (all int) {
	for s := txscript.MakeScriptTokenizer(0, script); s.Next(); {
		if s.Data() != nil || s.Opcode() == txscript.OP_0 {
			all += bytesPerHash + len(s.Data())
		}
	}
	return all
}
