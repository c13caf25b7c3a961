package keys

import (
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// compactCompressed is the header of decred's compact signatures for recovery
// byte 0 and a compressed key.
const compactCompressed = 27 + 4

// maxRecovery is the largest recovery byte: bit 0 is the oddness of the nonce
// point's y, bit 1 says that its x was not below the group order.
const maxRecovery = 3

// SignRecoverable is Sign with the byte, 0 to 3, that lets Recover find the
// public key from the signature alone (SEC 1, section 4.1.6).
func (s Secret) SignRecoverable(digest [32]byte) (sig Signature, recovery byte) {
	compact := ecdsa.SignCompact(s.private(), digest[:], true)
	copy(sig[:], compact[1:])
	return sig, compact[0] - compactCompressed
}

// Recover returns the only key whose signature of digest is sig with this
// recovery byte. It takes high S too: who must not, checks. There is nothing
// left to verify afterwards, because the key follows from the signature.
func Recover(digest [32]byte, sig Signature, recovery byte) (p Public, err error) {
	if recovery > maxRecovery {
		return p, fmt.Errorf("recovery byte is %d; the limit is %d", recovery, maxRecovery)
	}
	var compact [1 + len(sig)]byte
	compact[0] = compactCompressed + recovery
	copy(compact[1:], sig[:])
	key, _, err := ecdsa.RecoverCompact(compact[:], digest[:])
	if err != nil {
		return p, fmt.Errorf("no public key follows from the signature: %w", err)
	}
	copy(p[:], key.SerializeCompressed())
	return p, nil
}
