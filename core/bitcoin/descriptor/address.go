package descriptor

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/btcsuite/btcd/address/v2/base58"
	"github.com/btcsuite/btcd/address/v2/bech32"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
)

// Address writes a script for people: base58 for P2PKH and P2SH, bech32 (BIP
// 173) for witness version 0, bech32m (BIP 350) for the later ones, also those
// that mean nothing yet.
func Address(script []byte, p *chaincfg.Params) (string, error) {
	switch {
	case isPKH(script):
		return base58.CheckEncode(script[3:23], p.PubKeyHashAddrID), nil
	case isSH(script):
		return base58.CheckEncode(script[2:22], p.ScriptHashAddrID), nil
	case isWitness(script):
		version := byte(0)
		if script[0] != txscript.OP_0 {
			version = script[0] - txscript.OP_1 + 1
		}
		fives, err := bech32.ConvertBits(script[2:], 8, 5, true)
		if err != nil {
			return "", fmt.Errorf("write address: %w", err)
		}
		fives = append([]byte{version}, fives...)
		if version == 0 {
			return bech32.Encode(p.Bech32HRPSegwit, fives)
		}
		return bech32.EncodeM(p.Bech32HRPSegwit, fives)
	}
	return "", fmt.Errorf("script of %d bytes has no address; only P2PKH, P2SH and witness programs have", len(script))
}

func isPKH(s []byte) bool {
	return len(s) == 25 && s[0] == txscript.OP_DUP && s[1] == txscript.OP_HASH160 && s[2] == txscript.OP_DATA_20 &&
		s[23] == txscript.OP_EQUALVERIFY && s[24] == txscript.OP_CHECKSIG
}

func isSH(s []byte) bool {
	return len(s) == 23 && s[0] == txscript.OP_HASH160 && s[1] == txscript.OP_DATA_20 && s[22] == txscript.OP_EQUAL
}

// isWitness is BIP 141's shape of a witness program.
func isWitness(s []byte) bool {
	if len(s) < 4 || len(s) > 42 || int(s[1]) != len(s)-2 {
		return false
	}
	if s[0] == txscript.OP_0 {
		return len(s) == 22 || len(s) == 34
	}
	return s[0] >= txscript.OP_1 && s[0] <= txscript.OP_16
}

// MaxAddress is how long an address may be in bytes: BIP 173's limit.
const MaxAddress = 90

// ParseAddress reads an address of the network of p; bech32 may be in upper
// case, as QR codes like it.
func ParseAddress(text string, p *chaincfg.Params) (script []byte, err error) {
	if len(text) > MaxAddress {
		return nil, fmt.Errorf("address is %d bytes; the limit is %d", len(text), MaxAddress)
	}
	if script, err = parseAddress(text, p); err != nil {
		// Not all of it: people paste private keys into the wrong field.
		return nil, fmt.Errorf("address %.12q…: %w", text, err)
	}
	return script, nil
}

func parseAddress(text string, p *chaincfg.Params) ([]byte, error) {
	hrp, fives, encoding, err := bech32.DecodeGeneric(text)
	switch {
	case err == nil && hrp == p.Bech32HRPSegwit:
		return witness(fives, encoding)
	case err == nil:
		return nil, fmt.Errorf("it begins with %s1; on %s one begins with %s1", hrp, p.Name, p.Bech32HRPSegwit)
	case strings.HasPrefix(strings.ToLower(text), p.Bech32HRPSegwit+"1"):
		// Not why: a hint at the right letters would make people guess (BIP 173).
		return nil, errors.New("its checksum does not fit, or its case is mixed; copy it again")
	}
	hash, version, err := base58.CheckDecode(text)
	switch {
	case err != nil || len(hash) != 20:
		return nil, errors.New("it is neither bech32 nor base58 with a checksum that fits; copy it again")
	case version == p.PubKeyHashAddrID:
		return slices.Concat([]byte{txscript.OP_DUP, txscript.OP_HASH160, txscript.OP_DATA_20}, hash,
			[]byte{txscript.OP_EQUALVERIFY, txscript.OP_CHECKSIG}), nil
	case version == p.ScriptHashAddrID:
		return slices.Concat([]byte{txscript.OP_HASH160, txscript.OP_DATA_20}, hash, []byte{txscript.OP_EQUAL}), nil
	}
	return nil, fmt.Errorf("it is for another network than %s", p.Name)
}

// witness is the decoder of BIP 350.
func witness(fives []byte, encoding bech32.Version) ([]byte, error) {
	if len(fives) == 0 {
		return nil, errors.New("it is empty")
	}
	version := fives[0]
	if (version == 0) != (encoding == bech32.Version0) {
		return nil, errors.New("its checksum is bech32's where bech32m's belongs, or the reverse (BIP 350)")
	}
	program, err := bech32.ConvertBits(fives[1:], 5, 8, false)
	if err != nil {
		return nil, errors.New("its last character carries bits that belong to no byte")
	}
	script := slices.Concat([]byte{txscript.OP_0, byte(len(program))}, program)
	if version > 0 {
		script[0] = txscript.OP_1 + version - 1
	}
	if version > 16 || !isWitness(script) {
		return nil, fmt.Errorf("witness version is %d and program %d bytes; version 0 has 20 or 32, versions to 16 have 2 to 40", version, len(program))
	}
	return script, nil
}
