package filter

import (
	"crypto/sha256"

	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"golang.org/x/crypto/ripemd160" //lint:ignore SA1019 Bitcoin's HASH160 is RIPEMD-160 over SHA-256
)

// legacy reads an input without a witness: a signature and a key spend P2PKH;
// pushes that end in a script that asks for signatures spend P2SH.
func legacy(scriptSig []byte) shown {
	var pushes [][]byte
	t := txscript.MakeScriptTokenizer(0, scriptSig)
	for t.Next() {
		if t.Opcode() > txscript.OP_16 {
			return shown{}
		}
		pushes = append(pushes, t.Data())
	}
	if t.Err() != nil || len(pushes) < 2 {
		return shown{}
	}
	last := pushes[len(pushes)-1]
	switch {
	case len(pushes) == 2 && isSignature(pushes[0]) && isKey(last):
		script := append([]byte{txscript.OP_DUP, txscript.OP_HASH160, txscript.OP_DATA_20}, hash160(last)...)
		return shown{append(script, txscript.OP_EQUALVERIFY, txscript.OP_CHECKSIG), "P2PKH", false}
	case isScript(last):
		return shown{p2sh(last), "P2SH", false}
	}
	return shown{}
}

// nested reads an input with a witness and a scriptSig, which BIP 141 allows for
// P2SH alone and there only as the push of a witness program.
func nested(scriptSig []byte) shown {
	program := scriptSig[1:]
	if int(scriptSig[0]) != len(program) || !txscript.IsWitnessProgram(program) {
		return shown{}
	}
	kind := "P2SH-P2WSH"
	if len(program) == 22 {
		kind = "P2SH-P2WPKH"
	}
	return shown{p2sh(program), kind, true}
}

// native reads an input with nothing but a witness.
func native(w wire.TxWitness) shown {
	if len(w) < 2 {
		return shown{}
	}
	last := w[len(w)-1]
	if len(w) == 2 && isSignature(w[0]) && isKey(last) {
		return shown{append([]byte{txscript.OP_0, txscript.OP_DATA_20}, hash160(last)...), "P2WPKH", false}
	}
	if isScript(last) {
		sum := sha256.Sum256(last)
		return shown{append([]byte{txscript.OP_0, txscript.OP_DATA_32}, sum[:]...), "P2WSH", false}
	}
	if len(last) > 0 && last[0] == txscript.TaprootAnnexTag {
		w = w[:len(w)-1]
	}
	if len(w) < 2 {
		return shown{}
	}
	return scriptPath(w[len(w)-2], w[len(w)-1])
}

// scriptPath computes the output key that a taproot script and its control block
// lead to (BIP 341).
func scriptPath(script, control []byte) shown {
	if len(control) == 0 || control[0]&txscript.TaprootLeafMask != byte(txscript.BaseLeafVersion) {
		return shown{}
	}
	c, err := txscript.ParseControlBlock(control)
	if err != nil {
		return shown{}
	}
	key := txscript.ComputeTaprootOutputKey(c.InternalKey, c.RootHash(script)).SerializeCompressed()
	if odd := key[0] == 3; odd != c.OutputKeyYIsOdd {
		return shown{}
	}
	return shown{append([]byte{txscript.OP_1, txscript.OP_DATA_32}, key[1:]...), "taproot script path", false}
}

func p2sh(redeem []byte) []byte {
	script := append([]byte{txscript.OP_HASH160, txscript.OP_DATA_20}, hash160(redeem)...)
	return append(script, txscript.OP_EQUAL)
}

func hash160(b []byte) []byte {
	sum := sha256.Sum256(b)
	h := ripemd160.New()
	h.Write(sum[:])
	return h.Sum(nil)
}

// isSignature tells an ECDSA signature in DER with the byte of its hash type.
func isSignature(b []byte) bool {
	return len(b) >= 9 && len(b) <= 73 && b[0] == 0x30 && int(b[1]) == len(b)-3
}

// isKey tells a public key as OP_CHECKSIG takes it.
func isKey(b []byte) bool {
	switch len(b) {
	case 33:
		return b[0] == 2 || b[0] == 3
	case 65:
		return b[0] == 4 || b[0] == 6 || b[0] == 7
	}
	return false
}

// isScript tells a script that asks for a signature from other data: such as
// keys, signatures, preimages, control blocks and annexes.
func isScript(b []byte) bool {
	// Signatures of old were not strict about DER (BIP 66), so any start of one
	// counts.
	if isKey(b) || len(b) > 0 && len(b) < 80 && b[0] == 0x30 {
		return false
	}
	asks := false
	t := txscript.MakeScriptTokenizer(0, b)
	for t.Next() {
		switch op := t.Opcode(); {
		case op == txscript.OP_RESERVED || op > txscript.OP_NOP10:
			return false
		case op >= txscript.OP_CHECKSIG && op <= txscript.OP_CHECKMULTISIGVERIFY:
			asks = true
		}
	}
	return asks && t.Err() == nil
}
