package bccapi

import (
	"fmt"

	"github.com/btcsuite/btcd/address/v2/base58"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
)

// An Address is a version byte and the HASH160 of a public key or of a script.
// Outputs of segregated witness have none.
type Address [21]byte

// KeyAddress is the address of a serialised public key on a chain.
func KeyAddress(key []byte, p *chaincfg.Params) Address { return hashed(p.PubKeyHashAddrID, key) }

func hashed(version byte, b []byte) (a Address) {
	a[0] = version
	copy(a[1:], tx.Hash160(b))
	return a
}

// String is the address in base58 with its checksum.
func (a Address) String() string { return base58.CheckEncode(a[1:], a[0]) }

// Script is what pays the address. A version byte of another chain is an error.
func (a Address) Script(p *chaincfg.Params) ([]byte, error) {
	switch a[0] {
	case p.PubKeyHashAddrID:
		script := append([]byte{txscript.OP_DUP, txscript.OP_HASH160, txscript.OP_DATA_20}, a[1:]...)
		return append(script, txscript.OP_EQUALVERIFY, txscript.OP_CHECKSIG), nil
	case p.ScriptHashAddrID:
		script := append([]byte{txscript.OP_HASH160, txscript.OP_DATA_20}, a[1:]...)
		return append(script, txscript.OP_EQUAL), nil
	}
	return nil, fmt.Errorf("address %v has version %d, which is none of %s", a, a[0], p.Name)
}

// paid is whom a script pays, also a bare public key's address. What has no
// address gets the one of zeros, which nobody can own.
func paid(script []byte, p *chaincfg.Params) (a Address) {
	a[0] = p.PubKeyHashAddrID
	switch txscript.GetScriptClass(script) {
	case txscript.PubKeyHashTy:
		copy(a[1:], script[3:])
	case txscript.PubKeyTy:
		return KeyAddress(script[1:len(script)-1], p)
	case txscript.ScriptHashTy:
		a[0] = p.ScriptHashAddrID
		copy(a[1:], script[2:])
	}
	return a
}

// sender is whose coin an input spends, as far as the input itself shows it: the
// last push is the key of a P2PKH output or the script of a P2SH output. The
// input is one of a valid transaction.
func sender(in *wire.TxIn, p *chaincfg.Params) (a Address, ok bool) {
	var pushes int
	var last []byte
	push := txscript.MakeScriptTokenizer(0, in.SignatureScript)
	for push.Next() {
		pushes, last = pushes+1, push.Data()
	}
	if push.Err() != nil || len(last) == 0 {
		return a, false
	}
	if pushes == 2 && len(in.Witness) == 0 && (len(last) == 33 || len(last) == 65) {
		return KeyAddress(last, p), true
	}
	return hashed(p.ScriptHashAddrID, last), true
}
